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
    """Every float output on all feeds, in onnxruntime.

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
    found = []
    for name, arrays in wanted.items():
        a, b = (np.concatenate([_rows(one) for one in side]) for side in (arrays, given[name]))
        if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
            raise VerificationError(f"the compiled model's output '{name}' is of another kind")
        finite = np.where(np.isfinite(a) & np.isfinite(b), 1.0, 0.0)
        a, b = np.nan_to_num(a) * finite, np.nan_to_num(b) * finite
        found.append(Fidelity(name, sqnr_db(a, b), _cosine(a, b)))
    return found


def _outputs(
    model: Path | onnx.ModelProto, feeds: list[Feeds]
) -> dict[str, list[NDArray[np.generic]]]:
    """By name of each float output, what it is on each of the feeds."""
    session = quiet_session(model)
    inputs = {info.name: info for info in session.get_inputs()}
    floats = [info.name for info in session.get_outputs() if "float" in info.type]
    runs = [session.run(floats, fitting(inputs, feed)) for feed in feeds]
    return dict(zip(floats, map(list, zip(*runs, strict=True)), strict=True))


def _rows(array: NDArray[np.generic]) -> NDArray[np.float64]:
    """Vectors along the last axis, of an output whose sizes may differ from feed to feed."""
    wide = np.atleast_1d(array.astype(np.float64))
    return wide.reshape(-1, wide.shape[-1])


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines = np.sum(a * b, axis=1)[lengths > 0] / lengths[lengths > 0]
    return float(cosines.mean()) if cosines.size else 1.0
