"""Operands: what a weight tells of the tensor that meets it, for inputs of unknown type."""

import numpy as np
import onnx
import pytest

from sardonyx.compiler import compile
from sardonyx.compiler.cut import NUMBERS, Pair, feeds_for, random_feeds
from sardonyx.compiler.load import load
from sardonyx.compiler.operands import operands
from sardonyx.compiler.region import record_scope

CASES = {
    "MatMul": ("Y = MatMul (T, W)", 64, None, 3),
    "Gemm": ("Y = Gemm (T, W)", 64, None, 2),
    "Gemm of a turned weight": ("Y = Gemm <transB = 1> (T, W)", 96, None, 2),
    "Gather": ("Y = Gather (W, T)", None, 64, 2),
    "Gather along axis 1": ("Y = Gather <axis = 1> (W, T)", None, 96, 2),
}
"""Nodes that read T and W [64, 96]: T's width, its limit, the rank of the type made up for it."""


@pytest.fixture
def known(text_model, normal):
    """What is known by name of tensor, in a graph of a few nodes."""

    def find(text, dtype=np.float32):
        model = text_model(
            f"g (float[A] X) => (float[C] Y) {{ T, U = my.Two (X)\n {text} }}",
            W=normal(64, 96, dtype=dtype),
        )
        model.opset_import.append(onnx.helper.make_opsetid("my", 1))
        return operands(record_scope(load(model)[1]).records)

    return find


@pytest.mark.parametrize("case", CASES)
def test_what_a_weight_tells(known, case):
    text, width, limit, rank = CASES[case]
    (found,) = known(text).values()
    assert (found.width, found.limit) == (width, limit)
    kind = found.type.tensor_type
    sizes = [dim.dim_param or dim.dim_value for dim in kind.shape.dim]
    assert len(sizes) == rank
    assert sizes[-1] == (width or "rows_1")
    assert kind.elem_type == (onnx.TensorProto.FLOAT if width else onnx.TensorProto.INT64)


def test_the_type_is_that_of_the_weight(known):
    found = known("Y = MatMul (T, W)", np.float16)["T"]
    assert found.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16


@pytest.mark.parametrize(
    "text",
    [
        "Y = MatMul (W, T)",
        "Y = MatMul (T, U)",
        "Y = Gemm <transA = 1> (T, W)",
        "Y = Gather (T, U)",
        "Y = Add (T, W)",
    ],
)
def test_others_tell_nothing(known, text):
    assert known(text) == {}


def test_the_first_counts(known):
    assert known("Z = Gather <axis = 1> (W, T)\n Y = Gather (W, T)")["T"].limit == 96


def test_compiled_ops_tell_the_same(text_model, normal):
    model = text_model(
        "g (float[A,64] X, int64[B] I) => (float[A,96] Y, float[B,64] Z) "
        "{ Y = MatMul (X, W)\n Z = Gather (E, I) }",
        W=normal(64, 96),
        E=normal(100, 64),
    )
    graph = load(compile(model, "gobo").model)[1]
    plain, compiled = (operands(record_scope(g).records) for g in (load(model)[1], graph))
    assert plain == compiled
    assert (plain["X"].width, plain["I"].limit) == (64, 100)


def test_values_made_up_fit(text_model, normal):
    """An exporter's shape may be wrong or open where a weight knows better."""
    model = text_model(
        "g (float[A,B] X, int32[C] I) => (float[A,96] Y, float[C,64] Z) "
        "{ Y = MatMul (X, W)\n Z = Gather (E, I) }",
        W=normal(64, 96),
        E=normal(5000, 64),
    )
    feeds = feeds_for(model.graph.input, record_scope(load(model)[1]).records)
    assert feeds["X"].shape[-1] == 64
    assert 1 < feeds["I"].max() < 5000
    assert feeds["I"].dtype == np.int32


def test_a_region_behind_an_unknown_op_is_checked(text_model, normal):
    model = text_model(
        "g (float[A,64] X) => (float[A,96] Y, float[A,64] V) "
        "{ Z = my.Op (X)\n Y = MatMul (Z, W)\n I = my.Other (X)\n V = Gather (E, I) }",
        W=normal(64, 96),
        E=normal(100, 64),
    )
    model.opset_import.append(onnx.helper.make_opsetid("my", 1))
    checked = compile(model, "gobo", until="gobo").report.verification
    assert (checked.regions, checked.regions_run, checked.unchecked) == (2, 2, [])


def test_inputs_that_span_the_range_of_a_quantizer(text_model):
    """Both ends among them, none beyond; of the quantizer that is met first."""
    model = text_model(
        "g (float[4,8] X, float[3] V) => (uint8[4,8] Y, int8[4,8] Z, float[3] U) {"
        " Y = QuantizeLinear (X, s, z)\n Z = QuantizeLinear (X, t, y)\n U = Neg (V) }",
        s=np.float32(0.5),
        z=np.uint8(100),
        t=np.float32(9),
        y=np.int8(0),
    )
    pair = Pair(model, model, ["Y"], {})
    records = record_scope(load(model)[1]).records
    spanned = random_feeds(pair, records, NUMBERS[0], spanned=True)
    assert (spanned["X"].min(), spanned["X"].max()) == (-50, 77.5)
    assert not np.array_equal(np.sort(spanned["X"].ravel()), spanned["X"].ravel())
    plain = random_feeds(pair, records, NUMBERS[0])
    assert plain["X"].max() < 9
    assert np.array_equal(plain["V"], spanned["V"])
