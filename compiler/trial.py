"""trial: the whole model in onnxruntime, with roundings of activations that can be switched on.

One session holds all of them, each behind a Where; so a hundred questions cost a hundred runs and
no second load. As in calibrate, every sample runs on one thread, two of them at a time, and sums
are taken in their order: answers depend on nothing but the model and the data.
"""

import math
import tempfile
from collections import defaultdict
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from sardonyx.compiler.check_model import first_line
from sardonyx.compiler.messages import graphs
from sardonyx.compiler.quiet_session import quiet_session
from sardonyx.compiler.samples import Sample
from sardonyx.compiler.write import write_model
from sardonyx.passes.trial import Rounding
from sardonyx.runtime_ops.errors import InputError, VerificationError

_WORKERS = 2
"""Samples that run at once."""

_FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")

Outputs = list[NDArray[np.float64]]


@dataclass
class ModelTrial:
    """A `Trial` of a model on some samples. ``names``: of its float outputs; ``switches``: of the
    inputs that switch its roundings on."""

    session: ort.InferenceSession
    samples: Sequence[Sample]
    names: list[str]
    switches: list[str]
    plain: list[Outputs] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.plain = self._outputs(())
        for sample, outputs in zip(self.samples, self.plain, strict=True):
            for name, values in zip(self.names, outputs, strict=True):
                if np.isnan(values).any():
                    raise InputError(f"the model's output '{name}' is NaN on {sample.label}")

    def __call__(self, on: Collection[int]) -> float:
        signal = noise = 0.0
        for plain, rounded in zip(self.plain, self._outputs(on), strict=True):
            for a, b in zip(plain, rounded, strict=True):
                counts = np.isfinite(a)  # an infinity is a mask, and no value
                signal += float(np.sum(np.square(a[counts])))
                noise += float(np.sum(np.square(b[counts] - a[counts])))
        return _decibels(signal, noise)

    def _outputs(self, on: Collection[int]) -> list[Outputs]:
        """Outputs of each sample with these roundings."""
        feeds = {name: np.array(place in on) for place, name in enumerate(self.switches)}

        def run(sample: Sample) -> Outputs:
            try:
                values = self.session.run(self.names, sample.feeds | feeds)
            except Exception as error:
                raise InputError(
                    f"the model does not run on {sample.label}: {first_line(error)}"
                ) from error
            return [sample.counted(each).astype(np.float64) for each in values]

        with ThreadPoolExecutor(_WORKERS) as pool:
            return list(pool.map(run, self.samples))


def model_trial(
    model: onnx.ModelProto, roundings: Sequence[Rounding], samples: Sequence[Sample]
) -> ModelTrial:
    """A trial of roundings in a model, which they are put into.

    Raises InputError where it has no float output, does not run, or makes NaN of a sample;
    VerificationError where it lacks a tensor.
    """
    switches = _insert(model.graph, roundings, _unused_prefix(model))
    with tempfile.TemporaryDirectory(prefix="sardonyx-") as folder:
        path = Path(folder) / "trial.onnx"
        write_model(model, path)
        session = _session(path)
    names = [info.name for info in session.get_outputs() if info.type in _FLOATS]
    if not names:
        raise InputError("the model has no output of floats by which to choose what is rounded")
    return ModelTrial(session, samples, names, switches)


def _session(path: Path) -> ort.InferenceSession:
    try:
        return quiet_session(path, alone=True)
    except Exception as error:
        text = f"onnxruntime cannot load the model to try roundings in: {first_line(error)}"
        raise InputError(text) from error


def _insert(graph: onnx.GraphProto, roundings: Sequence[Rounding], prefix: str) -> list[str]:
    """Put roundings behind the nodes that make their tensors, and an input for each that switches
    it on; the names of these. What the graph returns is as it was before them."""
    steps: dict[str, list[int]] = defaultdict(list)
    for place, rounding in enumerate(roundings):
        steps[rounding.tensor].append(place)
    missing = steps.keys() - {name for node in graph.node for name in node.output}
    if missing:
        raise VerificationError(f"a pass rounds '{min(missing)}', which no node of the graph makes")
    plain = {name: f"{prefix}/plain/{number}" for number, name in enumerate(steps)}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        for slot, name in enumerate(node.output):
            if name in plain:
                node.output[slot] = value = plain[name]
                for place in steps[name]:
                    last = place == steps[name][-1]
                    made = name if last else f"{prefix}/{place}/value"
                    nodes += _rounded(graph, roundings[place], f"{prefix}/{place}", value, made)
                    value = made
    graph.ClearField("node")
    graph.node.extend(nodes)
    for output in graph.output:
        output.name = plain.get(output.name, output.name)
    return [f"{prefix}/{place}/on" for place in range(len(roundings))]


def _rounded(
    graph: onnx.GraphProto, rounding: Rounding, prefix: str, value: str, made: str
) -> list[onnx.NodeProto]:
    """``made = on ? DQ(Q(value)) : value``."""
    on, codes, decoded = (f"{prefix}/{part}" for part in ("on", "codes", "decoded"))
    grid = [f"{prefix}/scale", f"{prefix}/zero_point"]
    for name, array in zip(grid, (rounding.scale, rounding.zero_point), strict=True):
        graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    graph.input.append(onnx.helper.make_tensor_value_info(on, onnx.TensorProto.BOOL, []))
    return [
        onnx.helper.make_node("QuantizeLinear", [value, *grid], [codes], axis=-1),
        onnx.helper.make_node("DequantizeLinear", [codes, *grid], [decoded], axis=-1),
        onnx.helper.make_node("Where", [on, decoded, value], [made]),
    ]


def _unused_prefix(model: onnx.ModelProto) -> str:
    """What no name of a value in the model begins with."""
    nodes = [node for graph in graphs(model.graph) for node in graph.node]
    names = {name for node in nodes for name in (*node.input, *node.output)}
    prefix = "trial"
    while any(name.startswith(prefix) for name in names):
        prefix += "_"
    return prefix


def _decibels(signal: float, noise: float) -> float:
    if not math.isfinite(noise) or (noise and not signal):
        return -math.inf
    return 10.0 * math.log10(signal / noise) if noise else math.inf
