"""The ``full`` check: the whole compiled model against the source with decoded weights in place."""

from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort

from sardonyx.compiler.check_model import first_line
from sardonyx.compiler.cut import Feeds, Unknown, feeds_for
from sardonyx.compiler.driver import Driver
from sardonyx.compiler.emit import emit
from sardonyx.compiler.execute import fitting, read_arrays
from sardonyx.compiler.load import load
from sardonyx.compiler.region import record_all
from sardonyx.compiler.verify import relative_difference
from sardonyx.passes.base import Pass
from sardonyx.passes.journal import Journal
from sardonyx.runtime_ops.errors import InputError, VerificationError

BOUND = 1e-4
"""Relative. Equal graphs are fused differently around a Gemm that became MatMul and Add; everything
else is equal bit for bit."""


def check_model(
    model: Path | onnx.ModelProto,
    normalize: tuple[Pass, ...],
    driver: Driver,
    compiled: onnx.ModelProto,
    samples: str | Path | None,
) -> None:
    """Run both models in onnxruntime as a user would; record the difference or raise."""
    source, graph = load(model)
    for a_pass in normalize:
        a_pass.run(graph, Journal())
    constants = {t.name: t for t in graph.tensors().values() if isinstance(t, gs.Constant)}
    for entry in driver.journal.encoded:
        for view in entry.views:
            constants[view.constant.name]._values = view.decoded(entry.tensor)._values
    wanted_model = emit(source, graph)
    del wanted_model.graph.value_info[:]  # of a decoded weight's way through a Cast
    feeds = read_arrays(Path(samples)) if samples else _made_up(wanted_model, graph)
    wanted = _run(wanted_model, feeds, "the source with decoded weights")
    got = _run(compiled, feeds, "the compiled model")
    differences = [relative_difference(a, b) for a, b in zip(wanted, got, strict=True)]
    worst = max(differences, default=0.0)
    driver.verification.model_difference = worst
    if worst > BOUND:
        name = compiled.graph.output[int(np.argmax(differences))].name
        raise VerificationError(
            f"the compiled model differs at output '{name}' by {worst:.3g} from the source with "
            f"decoded weights, above {BOUND:g}"
        )


def _made_up(model: onnx.ModelProto, graph: gs.Graph) -> Feeds:
    try:
        return feeds_for(model.graph.input, record_all(graph))
    except Unknown as error:
        raise InputError(
            f"the full check cannot make up values for input '{error}': give --calibration"
        ) from error


def _run(model: onnx.ModelProto, feeds: Feeds, name: str) -> list[np.ndarray]:
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        wanted = {info.name: info for info in session.get_inputs()}
        return list(session.run(None, fitting(wanted, feeds)))
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"the full check cannot run {name} in onnxruntime: {first_line(error)}"
        ) from error
