"""calibrate: measures in onnxruntime what a pass must know of tensors, on the graph as it stands.

Every sample is run by itself, on one thread, two of them at a time, and folded in the order of the
data; so what is measured depends neither on batches nor on the machine's load, and memory holds
only a few samples however many there are.
"""

import hashlib
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
from numpy.typing import NDArray

from sardonyx.compiler.calibration_source import FORMS, Given, open_data, random_data
from sardonyx.compiler.check_model import first_line
from sardonyx.compiler.checkpoint import Checkpoint
from sardonyx.compiler.cut import Feeds
from sardonyx.compiler.emit import emit
from sardonyx.compiler.load import Source
from sardonyx.compiler.model_inputs import model_inputs
from sardonyx.compiler.quiet_session import quiet_session
from sardonyx.compiler.samples import Sample, Samples
from sardonyx.compiler.trial import model_trial
from sardonyx.compiler.write import write_model
from sardonyx.passes.journal import Progress, Watched
from sardonyx.passes.quantize.observers.statistic import Floats, Statistic
from sardonyx.passes.trial import Rounding, Trial
from sardonyx.runtime_ops.errors import InputError, VerificationError

_WORKERS = 2
"""Samples that run at once."""

_FIRST = 8
"""Samples that a check of the whole model takes."""

_TRIED, _LOOKED_THROUGH = 8, 64
"""Samples that a trial takes: the shortest of so many first ones, as it runs them often."""

Array = NDArray[np.generic]


@dataclass
class Calibration:
    """The data of one compile, and what was measured on it.

    ``given``, ``tokenizer``: as `compile` takes them. ``random``: samples to make up instead.
    ``seconds``: spent here.
    """

    given: Given | None = None
    tokenizer: str | Path | None = None
    random: int = 0
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    samples: Samples | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.given is not None and self.random:
            raise InputError("--calibration and --random-calibration exclude each other")
        if self.given is None and self.tokenizer is not None:
            raise InputError("--tokenizer is for the sentences of --calibration, which is missing")

    def measure(
        self, by: str, source: Source, graph: gs.Graph, watches: Watched, progress: Progress
    ) -> Watched:
        """Fold the values that the watched tensors have on all samples; ``by``: who watches them,
        for errors.

        Raises InputError where there is no data, the data does not fit the model, or values are
        NaN; VerificationError where the pass watches what is not there.
        """
        if self.given is None and not self.random:
            raise InputError(f"{by} measures activations, which needs {FORMS}")
        start = time.perf_counter()
        samples = self.opened(source, graph)
        with tempfile.TemporaryDirectory(prefix="sardonyx-") as folder:
            path = Path(folder) / "tapped.onnx"
            write_model(_tapped(emit(source, graph), by, watches), path)
            digest = _digest(path, watches, samples)
            session = _session(path, by)
        done, state = self.checkpoint.find(digest, watches)
        progress("Calibrating", done, len(samples))
        for sample, values in _runs(session, list(watches), samples, done):
            state = {name: _folded(state[name], values[name], name, sample) for name in state}
            done += 1
            self.checkpoint.keep(digest, done, state)
            progress("Calibrating", done, len(samples))
        self.seconds += time.perf_counter() - start
        return state

    def opened(self, source: Source, graph: gs.Graph) -> Samples:
        """The samples, for a model that is ``graph``."""
        if self.samples is None:
            if self.given is not None:
                data = open_data(self.given, self.tokenizer)
            else:
                data = random_data(source.model.graph.input, graph, self.random)
            self.samples = Samples(data, model_inputs(source, graph))
        return self.samples

    def first(self, source: Source, graph: gs.Graph) -> list[Feeds]:
        """The first few samples, for a check; none where there is no data."""
        if self.given is None and not self.random:
            return []
        return [sample.feeds for sample in islice(self.opened(source, graph), _FIRST)]

    def trial(self, source: Source, graph: gs.Graph, roundings: Sequence[Rounding]) -> Trial:
        """What becomes of the model's outputs with some of these roundings.

        Raises InputError where there is no data, it does not fit the model, or the model has no
        output of floats or makes NaN; VerificationError where the graph lacks what is rounded.
        """
        if self.given is None and not self.random:
            raise InputError(f"to choose by the model's outputs needs {FORMS}")
        start = time.perf_counter()
        samples = list(islice(self.opened(source, graph), _LOOKED_THROUGH))
        shortest = sorted(samples, key=lambda one: sum(v.size for v in one.feeds.values()))
        made = model_trial(emit(source, graph), roundings, shortest[:_TRIED])
        self.seconds += time.perf_counter() - start
        return made


def _tapped(model: onnx.ModelProto, by: str, watches: Watched) -> onnx.ModelProto:
    """The model with the watched tensors among its outputs; inputs need not be."""
    made = {name for node in model.graph.node for name in node.output}
    fed = {value.name for value in model.graph.input}
    for name in watches:
        if name not in made | fed:
            raise VerificationError(f"{by} watches '{name}', which the graph lacks")
    made |= {tensor.name for tensor in model.graph.initializer}  # of inputs that may be left out
    outputs = {value.name for value in model.graph.output}
    taps = [name for name in watches if name in made - outputs]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in taps)
    return model


def _digest(path: Path, watches: Watched, samples: Samples) -> str:
    """What decides what is measured: the model, what is watched in it, the data, who runs it."""
    empty = [(name, *map(_kind, statistics)) for name, statistics in watches.items()]
    digest = hashlib.sha256(f"{ort.__version__} {empty} {samples.digest}".encode())
    for file in sorted(path.parent.iterdir()):
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _kind(statistic: Statistic) -> tuple[object, ...]:
    """The class of an empty statistic and the arguments that it was given."""
    arrays = {name: array.tolist() for name, array in statistic.arrays().items()}
    return type(statistic).__name__, arrays


def _session(path: Path, by: str) -> ort.InferenceSession:
    try:
        return quiet_session(path, alone=True)
    except Exception as error:
        raise InputError(
            f"onnxruntime cannot load what {by} is to measure: {first_line(error)}"
        ) from error


def _runs(
    session: ort.InferenceSession, names: list[str], samples: Samples, first: int
) -> Iterator[tuple[Sample, dict[str, Array]]]:
    """Each sample from ``first`` on and the values of the named tensors on it, in order."""
    running: deque[tuple[Sample, Future[dict[str, Array]]]] = deque()
    with ThreadPoolExecutor(_WORKERS) as pool:
        for sample in islice(samples, first, None):
            running.append((sample, pool.submit(_run, session, names, sample)))
            if len(running) > _WORKERS:
                done, values = running.popleft()
                yield done, values.result()
        for done, values in running:
            yield done, values.result()


def _run(session: ort.InferenceSession, names: list[str], sample: Sample) -> dict[str, Array]:
    asked = [name for name in names if name not in sample.feeds]
    try:
        made = dict(zip(asked, session.run(asked, sample.feeds), strict=True)) if asked else {}
    except Exception as error:
        raise InputError(
            f"the model does not run on {sample.label}: {first_line(error)}"
        ) from error
    return {name: sample.counted((made | sample.feeds)[name]) for name in names}


def _folded(
    statistics: tuple[Statistic, ...], values: Array, name: str, sample: Sample
) -> tuple[Statistic, ...]:
    try:
        return tuple(each.add(cast(Floats, values)) for each in statistics)
    except ValueError as error:
        raise InputError(f"tensor '{name}' {error} on {sample.label}") from error
