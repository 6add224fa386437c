"""onnx's own backend corpus: all that onnxruntime loads goes through load and emit unharmed."""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from onnxruntime import OrtValue

from sardonyx.compiler.check_model import check_valid
from sardonyx.compiler.emit import OLDEST_IR, emit
from sardonyx.compiler.load import load
from sardonyx.compiler.messages import default_opset, set_opset
from sardonyx.compiler.pipeline import NORMALIZE
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.journal import Journal
from sardonyx.passes.lower.raise_opset import MOVABLE, RaiseOpset

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
"""Those that come whole with onnx; the kind ``real`` is downloaded."""

NOT_RUN = {
    "test_attention_4d_diff_heads_mask4d_padded_kv": "the mask is shorter than the keys",
    "test_convinteger_with_padding": "onnxruntime takes one zero point a tensor",
    "test_reduce_max_empty_set_bool": "onnxruntime defines no maximum of no truth values",
}
"""Cases that onnxruntime loads and does not run; they are compared as messages only."""

FEW = 3
"""Nodes up to which cases are put into older opsets: those of one op each."""

NOT_RAISED = {"DequantizeLinear", "ReduceLogSum", "ReduceLogSumExp", "Scan"}
"""Ops that raise-opset moves and no such case holds: tests of the pass do."""

FEWEST = 1500
"""Cases that onnxruntime loads; with fewer the test has lost its subject."""


@pytest.fixture(scope="module")
def corpus() -> list[tuple[str, onnx.ModelProto, ort.InferenceSession, list[list[Any]]]]:
    """Name, model, session and sets of inputs of each case that onnxruntime loads."""
    loaded = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the corpus overflows on purpose where it casts
        from onnx.backend.test.loader import load_model_tests  # noqa: PLC0415

        for case in (case for kind in KINDS for case in load_model_tests(kind=kind)):
            model = case.model or onnx.load(Path(case.model_dir) / "model.onnx")
            try:
                loaded.append((case.name, model, session(model), list(inputs(case, model))))
            except Exception as error:
                assert "ONNXRuntimeError" in str(error), case.name  # noqa: PT017
    assert len(loaded) >= FEWEST
    return loaded


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


READERS = {
    "tensor_type": (onnx.TensorProto, numpy_helper.to_array),
    "sequence_type": (onnx.SequenceProto, numpy_helper.to_list),
    "optional_type": (onnx.OptionalProto, numpy_helper.to_optional),
}


def inputs(case: Any, model: onnx.ModelProto) -> Iterator[list[Any]]:
    """The sets of inputs that come with a case, in it or in files."""
    if case.data_sets is not None:
        yield from (given for given, _ in case.data_sets)
        return
    for folder in sorted(Path(case.model_dir).glob("test_data_set_*")):
        stored = sorted(folder.glob("input_*.pb"), key=lambda path: int(path.stem[6:]))
        kinds = [value.type.WhichOneof("value") for value in model.graph.input]
        yield [
            READERS[kind][1](READERS[kind][0].FromString(path.read_bytes()))
            for kind, path in zip(kinds, stored, strict=False)
        ]


def run(model: ort.InferenceSession, given: list[Any]) -> object:
    """Outputs as something that ``==`` compares bit for bit; the error's text where it fails."""
    names = [info.name for info in model.get_inputs()]
    feeds = dict(zip(names, given, strict=False))
    try:
        if any(isinstance(value, onnx.TensorProto) for value in given):
            values = {name: ort_value(value) for name, value in feeds.items()}
            return [exact(value) for value in model.run_with_ort_values(None, values)]
        feeds = {k: np.asarray(v) if isinstance(v, np.generic) else v for k, v in feeds.items()}
        return [exact(value) for value in model.run(None, feeds)]
    except Exception as error:
        return str(error)


def ort_value(value: Any) -> OrtValue:
    """A tensor of any type; numpy has none of those that come as a TensorProto."""
    array = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
    if array.dtype.isbuiltin == 1:
        return OrtValue.ortvalue_from_numpy(np.asarray(array))
    stored = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
    return OrtValue.ortvalue_from_numpy_with_onnx_type(stored, value.data_type)


def exact(value: Any) -> object:
    if isinstance(value, OrtValue):
        data = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
        return value.data_type(), value.shape(), data
    if isinstance(value, np.ndarray):
        data = value.tolist() if value.dtype == object else value.tobytes()
        return value.dtype, value.shape, data
    return [exact(item) for item in value] if isinstance(value, list) else value


def test_every_model_comes_back_as_it_was(corpus):
    for name, model, before, feeds in corpus:
        after = emit(*load(model))
        ran = session(after)
        assert all(run(ran, given) == run(before, given) for given in feeds), name
        want = onnx.ModelProto.FromString(model.SerializeToString())
        want.ir_version = max(OLDEST_IR, want.ir_version)
        if model.ir_version < 4:  # when constants were inputs too
            constants = {tensor.name for tensor in model.graph.initializer}
            kept = [value for value in model.graph.input if value.name not in constants]
            del want.graph.input[:]
            want.graph.input.extend(kept)
        assert after == want, name


def test_every_model_runs_the_same_once_normalized(corpus):
    for name, model, before, feeds in corpus:
        source, graph = load(model)
        rewrites = sum(a_pass.run(graph, Journal()) for a_pass in NORMALIZE)
        if not rewrites:
            continue
        after = emit(source, graph)
        check_valid(after, name)
        ran = session(after)
        assert all(run(ran, given) == run(before, given) for given in feeds), name


def older(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """A model in each older opset, from 13 on, in which one of its ops has another version."""
    seen = set()
    for opset in range(13, 23):
        copy = onnx.ModelProto.FromString(model.SerializeToString())
        set_opset(copy, opset)
        try:
            versions = tuple(
                onnx.defs.get_schema(node.op_type, opset, node.domain).since_version
                for node in copy.graph.node
            )
            onnx.checker.check_model(copy)
        except (onnx.defs.SchemaError, onnx.checker.ValidationError):
            continue
        if versions not in seen:
            seen.add(versions)
            yield copy


def raised(model: onnx.ModelProto, name: str) -> onnx.ModelProto | None:
    """A model in opset 23; None where it stays in its own."""
    source, graph = load(model)
    LiftConstants().run(graph, Journal())
    if not RaiseOpset().run(graph, Journal()):
        return None
    after = emit(source, graph)
    check_valid(after, name)
    return after


def test_raised_models_run_the_same(corpus):
    """What raise-opset moves means the same in both, in onnxruntime's kernels for both."""
    moved = set()
    small = [each for each in corpus if len(each[1].graph.node) <= FEW]
    for name, model, _, feeds in small:
        for old in older(model) if default_opset(model) >= 13 else ():
            try:
                before = session(old)
            except Exception as error:
                assert "ONNXRuntimeError" in str(error), name  # noqa: PT017
                continue
            want = [run(before, given) for given in feeds]
            failed = any(isinstance(value, str) for value in want)
            after = None if failed else raised(old, name)
            if after is not None:
                ran = session(after)
                assert [run(ran, given) for given in feeds] == want, name
                moved |= {node.op_type for node in model.graph.node}
    assert MOVABLE - moved == NOT_RAISED


def test_only_these_do_not_run(corpus):
    failing = {
        name
        for name, _, before, feeds in corpus
        if not feeds or any(isinstance(run(before, given), str) for given in feeds)
    }
    assert failing == NOT_RUN.keys()
