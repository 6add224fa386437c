"""fidelity: what rounding activations costs, seen from outside: outputs before and after."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from sardonyx.compiler.check_model import first_line
from sardonyx.compiler.cut import Feeds
from sardonyx.compiler.execute import fitting
from sardonyx.compiler.quiet_session import quiet_session
from sardonyx.runtime_ops.errors import InputError, VerificationError
from sardonyx.runtime_ops.uniform import sqnr_db

Outputs = list[NDArray[np.generic]]


@dataclass(frozen=True)
class Fidelity:
    """An output of the compiled model beside the source's. ``sqnr_db``: of all values; ``cosine``:
    mean over the vectors along the last axis."""

    name: str
    sqnr_db: float
    cosine: float


def fidelity(
    model: Path | onnx.ModelProto, compiled: onnx.ModelProto, feeds: list[Feeds]
) -> list[Fidelity]:
    """Every float output on all feeds, in onnxruntime, but those that no feed gave a value.

    Raises InputError where the source does not run, VerificationError where the compiled model
    does not or makes NaN of numbers.
    """
    try:
        wanted = _outputs(model, feeds)
    except Exception as error:
        raise InputError(f"onnxruntime cannot run the model: {first_line(error)}") from error
    try:
        given = _outputs(compiled, feeds)
    except Exception as error:
        text = f"the compiled model does not run in onnxruntime: {first_line(error)}"
        raise VerificationError(text) from error
    made = {name: arrays for name, arrays in wanted.items() if any(a.size for a in arrays)}
    return [_fidelity(name, arrays, given[name]) for name, arrays in made.items()]


def _fidelity(name: str, wanted: Outputs, given: Outputs) -> Fidelity:
    """Of one output, whose sizes may differ from feed to feed."""
    pairs = [(_rows(a), _rows(b)) for a, b in zip(wanted, given, strict=True)]
    for a, b in pairs:
        if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
            raise VerificationError(f"the compiled model's output '{name}' is of another kind")
        odd = ~(np.isfinite(a) & np.isfinite(b))
        a[odd], b[odd] = 0, 0
    one, other = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    cosines = np.concatenate([_cosines(a, b) for a, b in pairs])
    return Fidelity(name, sqnr_db(one, other), float(cosines.mean()) if cosines.size else 1.0)


def _outputs(model: Path | onnx.ModelProto, feeds: list[Feeds]) -> dict[str, Outputs]:
    """By name of each float output, what it is on each of the feeds."""
    session = quiet_session(model)
    inputs = {info.name: info for info in session.get_inputs()}
    floats = [info.name for info in session.get_outputs() if "float" in info.type]
    runs = [session.run(floats, fitting(inputs, feed)) for feed in feeds]
    return dict(zip(floats, map(list, zip(*runs, strict=True)), strict=True))


def _rows(array: NDArray[np.generic]) -> NDArray[np.float64]:
    """A copy: vectors along the last axis."""
    wide = np.atleast_1d(array.astype(np.float64))
    return wide.reshape(-1, wide.shape[-1])


def _cosines(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the rows that are not 0."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray(np.sum(a * b, axis=1)[lengths > 0] / lengths[lengths > 0])
