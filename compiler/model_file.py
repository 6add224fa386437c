"""Reading an .onnx file without its weights: they stay in the file until a pass asks for them.

An ONNX file is one protobuf message; parsing it whole holds every weight twice. Here the message is
walked on the file's bytes (three levels: model, graph, initializer), large ``raw_data`` fields are
left out, and where they lie is remembered.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from sardonyx.compiler.stored import Span
from sardonyx.runtime_ops.errors import InputError

_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
"""Field numbers: ModelProto.graph, GraphProto.initializer, TensorProto.raw_data."""

_LARGE = 1 << 12


def read_model(path: Path) -> tuple[onnx.ModelProto, list[Span | None]]:
    """The model without its large inline initializers, and for each initializer of the main graph
    where its data lies, if it was left out.

    Raises InputError where the file cannot be read, is empty, cut short or not an ONNX model.
    """
    try:
        if path.stat().st_size == 0:
            raise InputError(f"'{path}' is empty: export the model again")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            spans: list[Span | None] = []
            skeleton = b"".join(_without_data(data, path, spans))
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror}") from error
    except _Malformed as error:
        raise InputError(f"'{path}' is not an ONNX model, or is cut short: {error}") from error
    try:
        model = onnx.ModelProto.FromString(skeleton)
    except (DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"'{path}' is not an ONNX model: {error}") from error
    if len(spans) != len(model.graph.initializer):
        raise InputError(f"'{path}' is not an ONNX model: an initializer is none")
    return model, spans


class _Malformed(Exception):
    """The bytes are not a protobuf message."""


def _without_data(data: mmap.mmap, path: Path, spans: list[Span | None]) -> Iterator[bytes]:
    for number, start, body, end in _fields(data, 0, len(data)):
        if number == _GRAPH:
            graph = b"".join(_graph_without_data(data, body, end, path, spans))
            yield _varint(_GRAPH << 3 | 2) + _varint(len(graph))
            yield graph
        else:
            yield data[start:end]


def _graph_without_data(
    data: mmap.mmap, start: int, end: int, path: Path, spans: list[Span | None]
) -> Iterator[bytes]:
    for number, first, body, last in _fields(data, start, end):
        if number != _INITIALIZER:
            yield data[first:last]
            continue
        raw = _raw_data(data, body, last)
        if raw is None:
            spans.append(None)
            yield data[first:last]
            continue
        raw_first, raw_body, raw_last = raw
        spans.append(Span(path, raw_body, raw_last - raw_body))
        tensor = data[body:raw_first] + data[raw_last:last]
        yield _varint(_INITIALIZER << 3 | 2) + _varint(len(tensor)) + tensor


def _raw_data(data: mmap.mmap, start: int, end: int) -> tuple[int, int, int] | None:
    """Bounds of the ``raw_data`` of an initializer, if that is large: field, content, end."""
    if end - start < _LARGE:
        return None
    for number, first, body, last in _fields(data, start, end):
        if number == _RAW_DATA and last - body >= _LARGE:
            return first, body, last
    return None


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
