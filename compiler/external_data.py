"""Tensors whose data lies in files beside the model: found, and refused where unsafe."""

import math
from pathlib import Path

import onnx

from sardonyx.compiler.stored import Span
from sardonyx.runtime_ops.errors import InputError

_PACKED_BITS = {"int4": 4, "uint4": 4, "float4_e2m1fn": 4, "int2": 2, "uint2": 2}


def external_span(tensor: onnx.TensorProto, folder: Path, name: str) -> Span:
    """Where the data of an external tensor lies.

    ``folder``: the model's own, which the data may not leave (by ``..``, an absolute path or
    a link). Raises InputError where data is missing, too short, or elsewhere.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    where = f"{name}: external data of '{tensor.name}'"
    location = entries.get("location", "")
    if not location or Path(location).is_absolute() or ".." in Path(location).parts:
        raise InputError(f"{where} is at '{location}', outside the model's folder: refused")
    path = folder / location
    try:
        inside, found = path.resolve().is_relative_to(folder.resolve()), path.is_file()
    except (OSError, ValueError) as error:
        raise InputError(f"{where} is at {location!r}, which is no file name") from error
    if not inside:
        raise InputError(f"{where} is at '{location}', a link out of the model's folder: refused")
    if not found:
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
    if any(dim < 0 for dim in tensor.dims):
        raise InputError(f"initializer '{tensor.name}' has a negative size in {list(tensor.dims)}")
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except KeyError as error:
        raise InputError(f"initializer '{tensor.name}' has unknown type {error}") from error
    bits: int = _PACKED_BITS.get(dtype.name, dtype.itemsize * 8)
    size: int = math.prod(tensor.dims) * bits
    return -(-size // 8)
