"""The ``full`` check: the whole compiled model against the source with decoded weights in place.

As in every check, stock onnxruntime runs the ops' bodies: a product with ``compute = "int8"`` is
held against the floats that it stands for, not against what integers make of them.
"""

import math
from collections import defaultdict
from itertools import takewhile
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from sardonyx.compiler.check_model import first_line
from sardonyx.compiler.cut import NUMBERS, Feeds, Unknown, feeds_for
from sardonyx.compiler.driver import Driver
from sardonyx.compiler.emit import emit
from sardonyx.compiler.execute import fitting
from sardonyx.compiler.load import load
from sardonyx.compiler.quiet_session import quiet_session
from sardonyx.compiler.region import record_scopes
from sardonyx.compiler.verify import Outputs, relative_difference
from sardonyx.passes.base import Pass
from sardonyx.passes.journal import Encoded, Journal
from sardonyx.passes.weights import weight_uses
from sardonyx.runtime_ops.errors import InputError, VerificationError

BOUND = 1e-4
"""Relative. Equal graphs are fused differently around a Gemm that became MatMul and Add; everything
else is equal bit for bit."""


def check_model(
    model: Path | onnx.ModelProto,
    inline_all: bool,
    driver: Driver,
    compiled: onnx.ModelProto,
) -> None:
    """Run whole models in onnxruntime as a user would; record the largest difference or raise.

    The passes ahead of the first that quantizes or rounds must keep what the source computes;
    from there on the compiled model must keep what the source with decoded weights computes. Where
    activations are rounded, or less than before, no such bound can be kept: what that changes is
    measured (`fidelity`), not judged.
    """
    source, graph = load(model, inline_all=inline_all)
    plain = emit(source, graph)
    feeds = driver.calibration.first(source, graph) or [_made_up(plain, graph)]
    exact = takewhile(lambda ran: _keeps_values(ran[0]), driver.ran)
    rewrites = sum(a_pass.run(graph, Journal(watched=watched)) for a_pass, watched in exact)
    worst = _difference(plain, emit(source, graph), feeds, "the source") if rewrites else 0.0
    if not driver.journal.activations and not any(a_pass.rounds_less for a_pass, _ in driver.ran):
        _decode_weights(graph, driver.journal.encoded)
        decoded = emit(source, graph)
        del decoded.graph.value_info[:]  # of a decoded weight's way through a Cast
        worst = max(worst, _difference(decoded, compiled, feeds, "the source with decoded weights"))
    driver.verification.model_difference = worst


def _keeps_values(a_pass: Pass) -> bool:
    return not a_pass.quantizes and not a_pass.rounds_less and math.isfinite(a_pass.bound)


def _decode_weights(graph: gs.Graph, encoded: list[Encoded]) -> None:
    """Put what encoded weights decode to into a graph; of one name, in the order they are met."""
    constants: dict[str, list[gs.Constant]] = defaultdict(list)
    for use in weight_uses(graph):
        constant = use.view.constant
        if all(constant is not other for other in constants[constant.name]):
            constants[constant.name].append(constant)
    for entry in encoded:
        for view in entry.views:
            constants[view.constant.name].pop(0)._values = view.decoded(entry.tensor)._values


def _difference(
    wanted: onnx.ModelProto, given: onnx.ModelProto, feeds: list[Feeds], name: str
) -> float:
    """The largest relative difference between the outputs of two models; raises above BOUND."""
    outputs = _run(wanted, feeds, name), _run(given, feeds, "the rewritten model")
    differences = [_over_all(a, b) for a, b in zip(*outputs, strict=True)]
    worst = max(differences, default=0.0)
    if worst > BOUND:
        output = given.graph.output[int(np.argmax(differences))].name
        raise VerificationError(
            f"the rewritten model differs at output '{output}' by {worst:.3g} from {name}, "
            f"above {BOUND:g}"
        )
    return worst


def _over_all(wanted: Outputs, given: Outputs) -> float:
    """How far one output's values on all feeds are apart, relative to the largest of them all."""
    if [array.shape for array in wanted] != [array.shape for array in given]:
        return np.inf
    return relative_difference(*(np.concatenate([a.ravel() for a in s]) for s in (wanted, given)))


def _made_up(model: onnx.ModelProto, graph: gs.Graph) -> Feeds:
    """Values that the model runs on, if those that differ in all sizes or else agree do."""
    records = [record for scope in record_scopes(graph) for record in scope.records]
    for numbers in NUMBERS:
        try:
            feeds = feeds_for(model.graph.input, records, numbers)
            _run(model, [feeds], "the source")
            return feeds
        except Unknown as error:
            failure = f"the full check cannot make up values for input '{error}'"
        except InputError as error:
            failure = str(error)
    raise InputError(f"{failure}; give inputs that fit with --calibration")


def _run(model: onnx.ModelProto, feeds: list[Feeds], name: str) -> list[Outputs]:
    """For each output, what it is on each of the feeds."""
    try:
        session = quiet_session(model)
        wanted = {info.name: info for info in session.get_inputs()}
        runs = [session.run(None, fitting(wanted, each)) for each in feeds]
        return [list(output) for output in zip(*runs, strict=True)]
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"the full check cannot run {name} in onnxruntime: {first_line(error)}"
        ) from error
