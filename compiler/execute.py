"""execute: one call over the backends that run a compiled model."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from sardonyx.compiler.check_model import first_line
from sardonyx.compiler.quiet_session import quiet_session
from sardonyx.runtime_ops import Native, Session, session
from sardonyx.runtime_ops.accelerator.session import accelerator_session
from sardonyx.runtime_ops.errors import InputError
from sardonyx.runtime_ops.ops import DOMAIN
from sardonyx.runtime_ops.reference import reference_session

Backend = Literal["onnxruntime", "reference", "accelerator"]
Arrays = dict[str, NDArray[np.generic]]

_NUMPY = {"reference": reference_session, "accelerator": accelerator_session}
"""The backends that run here, not in onnxruntime."""


@dataclass(frozen=True)
class Execution:
    """Outputs by name. ``native``: whether native ops ran; None where the model has no such op."""

    outputs: Arrays
    native: Native | None


def execute(model: Path, inputs: Arrays, backend: Backend = "onnxruntime") -> Execution:
    """Run ``model``.

    ``onnxruntime``: as users deploy it, with the native ops where they can be used. ``reference``:
    the numpy definitions, slow. ``accelerator``: the GOBO ops as GOBO's chip computes them, all
    others by their numpy definitions. Raises InputError where the model does not load or
    ``inputs`` do not fit it, or holds nothing for the accelerator.
    """
    if not model.is_file():
        raise InputError(f"there is no model '{model}'")
    try:
        runs = _native_session(model) if backend == "onnxruntime" else quiet_session(model)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"onnxruntime cannot load '{model}': {first_line(error)}") from error
    feeds = fitting({info.name: info for info in runs.get_inputs()}, inputs)
    names = [info.name for info in runs.get_outputs()]
    if backend == "accelerator" and not _holds_our_ops(model):
        raise InputError(
            f"'{model}' holds nothing that the accelerator runs: "
            "compile it with --recipe gobo, gobo4 or gobo-roberta"
        )
    try:
        executor: Any = _NUMPY[backend](onnx.load(model)) if backend in _NUMPY else runs
        results = executor.run(names, feeds)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"'{model}' does not run on these inputs: {first_line(error)}") from error
    native = runs.native if isinstance(runs, Session) and _holds_our_ops(model) else None
    return Execution(dict(zip(names, results, strict=True)), native)


def _native_session(model: Path) -> Session:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return session(model, options)


def _holds_our_ops(model: Path) -> bool:
    imports = onnx.load(model, load_external_data=False).opset_import
    return any(opset.domain == DOMAIN for opset in imports)


def read_arrays(path: Path) -> Arrays:
    """The arrays of an .npz file, by name."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror or error}") from error
    except (ValueError, AttributeError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"'{path}' is not an .npz file of plain arrays") from error


def fitting(wanted: dict[str, ort.NodeArg], inputs: Arrays) -> Arrays:
    """The arrays that a session wants; raises InputError on the first that is missing or wrong."""
    for name, info in wanted.items():
        if name not in inputs:
            raise InputError(
                f"input '{name}' is missing: the model wants {', '.join(sorted(wanted))}, "
                f"the file holds {', '.join(sorted(inputs)) or 'nothing'}"
            )
        have, want = _type_name(inputs[name]), info.type
        if have != want:
            raise InputError(f"input '{name}' is {have}, the model wants {want}")
        shape = inputs[name].shape
        if len(shape) != len(info.shape) or any(
            isinstance(dim, int) and dim != size
            for dim, size in zip(info.shape, shape, strict=True)
        ):
            raise InputError(
                f"input '{name}' has shape {list(shape)}, the model wants {info.shape}"
            )
    return {name: inputs[name] for name in wanted}


def _type_name(array: NDArray[np.generic]) -> str:
    """The type of an array as onnxruntime writes it: tensor(float), tensor(int64), ..."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return f"tensor({onnx.TensorProto.DataType.Name(kind).lower()})"
