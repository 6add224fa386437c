"""Initializers whose data lies in files beside the model: found, and refused where unsafe."""

from pathlib import Path

import numpy as np
import onnx

from sardonyx.compiler.model_file import Span
from sardonyx.runtime_ops.errors import InputError

_PACKED_BITS = {"int4": 4, "uint4": 4, "float4_e2m1fn": 4, "int2": 2, "uint2": 2}


def external_spans(model: onnx.ModelProto, folder: Path, name: str) -> dict[str, Span]:
    """Where the data of the model's external initializers lies, by name.

    ``folder``: the model's own, which the data may not leave (by ``..``, an absolute path or
    a link). Raises InputError where data is missing, too short, or elsewhere.
    """
    return {
        tensor.name: _span(tensor, folder, name)
        for tensor in model.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    }


def _span(tensor: onnx.TensorProto, folder: Path, name: str) -> Span:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    where = f"{name}: external data of '{tensor.name}'"
    location = entries.get("location", "")
    path = folder / location
    if not location or Path(location).is_absolute() or ".." in Path(location).parts:
        raise InputError(f"{where} is at '{location}', outside the model's folder: refused")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{where} is at '{location}', a link out of the model's folder: refused")
    if not path.is_file():
        raise InputError(f"{where} is missing: put '{location}' beside the model")
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", 0))
    except ValueError as error:
        raise InputError(f"{where} has an offset or length that is no number") from error
    needed = data_bytes(tensor)
    available = path.stat().st_size - offset
    if offset < 0 or (length or needed) != needed or available < needed:
        raise InputError(
            f"{where} needs {needed} bytes from byte {offset} of '{location}', which holds "
            f"{path.stat().st_size}: copy the whole file again"
        )
    return Span(path, offset, needed)


def data_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor's data; types below a byte are packed."""
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except KeyError as error:
        raise InputError(f"initializer '{tensor.name}' has unknown type {error}") from error
    bits = _PACKED_BITS.get(dtype.name, dtype.itemsize * 8)
    count = int(np.prod(list(tensor.dims), dtype=np.int64))
    return -(-count * bits // 8)
