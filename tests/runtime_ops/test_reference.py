"""The reference executor runs our ops by meaning and other functions by body."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from sardonyx.runtime_ops import gobo
from sardonyx.runtime_ops.ops import DOMAIN, OPS, gobo_gather, gobo_matmul
from sardonyx.runtime_ops.reference import reference_session

TWICE = '<domain: "other", opset_import: ["": 17]> Twice (A) => (B) { B = Add (A, A) }'


@pytest.fixture(scope="module")
def tensors(normal):
    encode = gobo.encode
    table, _ = encode(normal(24, 40), gobo.Settings(bits=4))
    weight, _ = encode(normal(24, 10, seed=1), gobo.Settings(bits=3))
    return table, weight


@pytest.fixture(scope="module")
def model(tensors):
    """Gather, a doubling function of another domain, MatMul. Our ops have no body in it."""
    nodes, initializers = [], []
    for (x, op, y), tensor in zip(
        [("ids", "GoboGather4", "rows"), ("twice", "GoboMatMul3", "y")], tensors, strict=True
    ):
        names = [f"{y}.{i}" for i in range(4)]
        arrays = (tensor.indices, tensor.centroids, tensor.positions, tensor.values)
        initializers += map(numpy_helper.from_array, arrays, names)
        shape = [tensor.rows, tensor.columns]
        nodes.append(helper.make_node(op, [x, *names], [y], domain=DOMAIN, shape=shape))
    nodes.insert(1, helper.make_node("Twice", ["rows"], ["twice"], domain="other"))
    ids = helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["n"])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 10])
    return helper.make_model(
        helper.make_graph(nodes, "g", [ids], [y], initializers),
        functions=[onnx.parser.parse_function(TWICE)],
        opset_imports=[helper.make_opsetid(*o) for o in (("", 17), (DOMAIN, 1), ("other", 1))],
        ir_version=8,
    )


@pytest.mark.parametrize("from_file", [False, True])
def test_two_ops_and_a_function(model, tensors, tmp_path, from_file):
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    session = reference_session(str(path) if from_file else model)
    table, weight = tensors
    ids = np.array([3, -1, 0])
    rows = table.decode().T[ids]
    (y,) = session.run(None, {"ids": ids})
    np.testing.assert_array_equal(y, (rows + rows) @ weight.decode(), strict=True)


def test_ops_by_name():
    assert list(OPS) == [
        f"Gobo{kind}{bits}" for kind in ("MatMul", "Linear", "Gather") for bits in range(2, 9)
    ]
    assert all(op.name == name and name.endswith(str(op.bits)) for name, op in OPS.items())
    assert (OPS["GoboMatMul3"].inputs[0], OPS["GoboGather3"].inputs[0]) == ("A", "ids")
    assert gobo_matmul(5).name == "GoboMatMul5"
    assert gobo_gather(5).name == "GoboGather5"
