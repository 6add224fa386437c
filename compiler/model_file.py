"""Reading an .onnx file without its weights: they stay in the file until a pass asks for them.

An ONNX file is one protobuf message; parsing it whole holds every weight twice. Here the message is
walked on the file's bytes (three levels: model, graph, initializer), large ``raw_data`` fields are
left out, and where they lie is remembered.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx_graphsurgeon.ir.tensor import LazyValues

from sardonyx.runtime_ops.errors import InputError

_GRAPH, _INITIALIZER, _NAME, _RAW_DATA = 7, 5, 8, 9
"""Field numbers: ModelProto.graph, GraphProto.initializer, TensorProto.name and .raw_data."""

_LARGE = 1 << 12


@dataclass(frozen=True)
class Span:
    """Bytes of a file."""

    path: Path
    offset: int
    length: int

    def read(self) -> bytes:
        """The bytes."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.length)

    def parts(self, size: int = 1 << 22) -> Iterator[bytes]:
        """The bytes, so many at a time."""
        for start in range(0, self.length, size):
            yield Span(self.path, self.offset + start, min(size, self.length - start)).read()


class StoredValues(LazyValues):  # type: ignore[misc]
    """Values of a constant that are read anew at each `load`, so that they can be forgotten.

    ``tensor``: the initializer, whose data it holds itself unless ``span`` says where they lie.
    """

    def __init__(self, tensor: onnx.TensorProto, span: Span | None = None) -> None:
        self.tensor = tensor
        self.span = span
        self.shape = list(tensor.dims)
        self.dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        self.nbytes = span.length if span else tensor.ByteSize()

    def load(self) -> NDArray[np.generic]:
        """The values, in a read-only array of their own."""
        values = self._read()
        values.setflags(write=False)
        return values

    def _read(self) -> NDArray[np.generic]:
        if self.span is None:
            return np.array(onnx.numpy_helper.to_array(self.tensor))
        if self.dtype.itemsize * int(np.prod(self.shape)) != self.span.length:
            return np.array(onnx.numpy_helper.to_array(self.whole()))
        with self.span.path.open("rb") as file:
            file.seek(self.span.offset)
            values = np.fromfile(file, self.dtype, int(np.prod(self.shape)))
        return values.reshape(self.shape)

    def sample(self, flat: NDArray[np.int64]) -> NDArray[np.generic]:
        """The values at flat places, without reading the rest."""
        if self.span is None:
            return self.load().reshape(-1)[flat]
        mapped = np.memmap(self.span.path, self.dtype, "r", self.span.offset, (flat.max() + 1,))
        return np.array(mapped[flat])

    def whole(self) -> onnx.TensorProto:
        """The initializer with its data in it."""
        if self.span is None:
            return self.tensor
        tensor = onnx.TensorProto()
        tensor.CopyFrom(self.tensor)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        tensor.raw_data = self.span.read()
        return tensor


def read_model(path: Path) -> tuple[onnx.ModelProto, dict[str, Span]]:
    """The model without its large inline initializers, and where those lie, by name.

    Raises InputError where the file cannot be read, is empty, cut short or not an ONNX model.
    """
    try:
        if path.stat().st_size == 0:
            raise InputError(f"'{path}' is empty: export the model again")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            spans: dict[str, Span] = {}
            skeleton = b"".join(_without_data(data, path, spans))
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror}") from error
    except _Malformed as error:
        raise InputError(f"'{path}' is not an ONNX model, or is cut short: {error}") from error
    try:
        model = onnx.ModelProto.FromString(skeleton)
    except (DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"'{path}' is not an ONNX model: {error}") from error
    return model, spans


class _Malformed(Exception):
    """The bytes are not a protobuf message."""


def _without_data(data: mmap.mmap, path: Path, spans: dict[str, Span]) -> Iterator[bytes]:
    for number, start, body, end in _fields(data, 0, len(data)):
        if number == _GRAPH:
            graph = b"".join(_graph_without_data(data, body, end, path, spans))
            yield _varint(_GRAPH << 3 | 2) + _varint(len(graph))
            yield graph
        else:
            yield data[start:end]


def _graph_without_data(
    data: mmap.mmap, start: int, end: int, path: Path, spans: dict[str, Span]
) -> Iterator[bytes]:
    for number, first, body, last in _fields(data, start, end):
        raw = _raw_data(data, body, last) if number == _INITIALIZER else None
        if raw is None:
            yield data[first:last]
            continue
        name, raw_first, raw_body, raw_last = raw
        spans[name] = Span(path, raw_body, raw_last - raw_body)
        tensor = data[body:raw_first] + data[raw_last:last]
        yield _varint(_INITIALIZER << 3 | 2) + _varint(len(tensor)) + tensor


def _raw_data(data: mmap.mmap, start: int, end: int) -> tuple[str, int, int, int] | None:
    """Name of an initializer and the bounds of its ``raw_data``, if that is large."""
    if end - start < _LARGE:
        return None
    name, bounds = "", None
    for number, first, body, last in _fields(data, start, end):
        if number == _NAME:
            name = data[body:last].decode("utf-8", "replace")
        elif number == _RAW_DATA and last - body >= _LARGE:
            bounds = (first, body, last)
    return (name, *bounds) if bounds else None


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Fields of a message: number, first byte, first byte of the content, end."""
    while at < end:
        start = at
        key, at = _read_varint(data, at, end)
        kind = key & 7
        body = at
        if kind == 0:
            _, at = _read_varint(data, at, end)
        elif kind == 2:
            length, body = _read_varint(data, at, end)
            at = body + length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise _Malformed(f"byte {start} begins no field")
        if at > end or key >> 3 == 0:
            raise _Malformed(f"the field at byte {start} runs past byte {end}")
        yield key >> 3, start, body, at


def _read_varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise _Malformed(f"a number at byte {at} does not end")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
