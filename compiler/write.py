"""Writing a model so that a failure leaves nothing behind and an older file untouched."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx

from sardonyx.runtime_ops.errors import InputError

LARGEST_INLINE = 1_900_000_000
"""Bytes; a protobuf message cannot exceed 2 GiB. Above it, weights go to ``NAME.data``."""

_LARGE = 1 << 10


def check_output(output: Path, source: Path | None) -> None:
    """Refuse an output that is the input, a folder, or in a place that cannot be written."""
    if output.is_dir():
        raise InputError(f"output '{output}' is a folder: give a file name")
    if source is not None and output.exists() and source.exists() and output.samefile(source):
        raise InputError(f"output '{output}' is the input: give another name with -o")
    if not output.parent.is_dir():
        raise InputError(f"output folder '{output.parent}' does not exist: create it first")
    if not os.access(output.parent, os.W_OK) or (
        output.exists() and not os.access(output, os.W_OK)
    ):
        raise InputError(f"output '{output}' cannot be written: it or its folder is read-only")


def write_model(model: onnx.ModelProto, output: Path, sources: Iterable[Path] = ()) -> None:
    """Write under temporary names beside ``output``, then rename; never over ``sources``."""
    inline = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    data = output.with_name(output.name + ".data")
    for path in (output, data) if inline > LARGEST_INLINE else (output,):
        if path.exists() and any(path.samefile(source) for source in sources):
            raise InputError(f"'{path}' is a file of the input: give another output with -o")
    with replacing(output) as temporary, contextlib.ExitStack() as stack:
        if inline > LARGEST_INLINE:
            model = _spill(model, stack.enter_context(replacing(data)), data.name)
        temporary.write_bytes(model.SerializeToString(deterministic=True))


@contextlib.contextmanager
def replacing(output: Path) -> Iterator[Path]:
    """A temporary path that takes the place of ``output`` on success and goes on failure."""
    temporary = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.replace(output)
    except OSError as error:
        raise InputError(f"cannot write '{output}': {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _spill(model: onnx.ModelProto, file: Path, location: str) -> onnx.ModelProto:
    """Write large initializers to a data file; the model with their places in it instead."""
    spilled: onnx.ModelProto = _copy_without(model, "graph")
    spilled.graph.CopyFrom(_copy_without(model.graph, "initializer"))
    with file.open("wb") as out:
        for tensor in model.graph.initializer:
            if len(tensor.raw_data) < _LARGE:
                spilled.graph.initializer.append(tensor)
                continue
            placed = _copy_without(tensor, "raw_data")
            offset, length = out.tell(), out.write(tensor.raw_data)
            placed.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", location), ("offset", offset), ("length", length)):
                placed.external_data.add(key=key, value=str(value))
            spilled.graph.initializer.append(placed)
    return spilled


def _copy_without(message: Any, name: str) -> Any:
    """A copy of a protobuf message without one of its fields, which is never copied."""
    copy = type(message)()
    for field, value in message.ListFields():
        if field.name == name:
            continue
        if hasattr(value, "extend"):
            getattr(copy, field.name).extend(value)
        elif hasattr(value, "CopyFrom"):
            getattr(copy, field.name).CopyFrom(value)
        else:
            setattr(copy, field.name, value)
    return copy
