"""Writing a model so that a failure leaves nothing behind and an older file untouched."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx

from sardonyx.compiler import stored
from sardonyx.compiler.messages import copy_without, initializers, with_initializers
from sardonyx.compiler.stored import Span, point, span_of, stored_bytes
from sardonyx.runtime_ops.errors import InputError

_LARGE = 1 << 10


def check_output(output: Path, *sources: Path) -> None:
    """Refuse an output that is an input, a folder, or in a place that cannot be written."""
    if output.is_dir():
        raise InputError(f"output '{output}' is a folder: give a file name")
    if output.exists() and any(s.exists() and output.samefile(s) for s in sources):
        raise InputError(f"output '{output}' is an input: give another name")
    if not output.parent.is_dir():
        raise InputError(f"output folder '{output.parent}' does not exist: create it first")
    if not os.access(output.parent, os.W_OK) or (
        output.exists() and not os.access(output, os.W_OK)
    ):
        raise InputError(f"output '{output}' cannot be written: it or its folder is read-only")


def write_model(model: onnx.ModelProto, output: Path, sources: Iterable[Path] = ()) -> None:
    """Write under temporary names beside ``output``, then rename; never over ``sources``.

    Weights that do not fit into one message go to ``NAME.data``; those that lie in files are copied
    from there.
    """
    large = sum(map(stored_bytes, initializers(model))) > stored.LARGEST_INLINE
    data = output.with_name(output.name + ".data")
    for path in (output, data) if large else (output,):
        if path.exists() and any(path.samefile(source) for source in sources):
            raise InputError(f"'{path}' is a file of the input: give another output with -o")
    with replacing(output) as temporary, contextlib.ExitStack() as stack:
        if large:
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
    with file.open("wb") as out:

        def move(tensor: onnx.TensorProto) -> onnx.TensorProto:
            if stored_bytes(tensor) < _LARGE:
                return tensor
            span, offset = span_of(tensor), out.tell()
            out.writelines(span.blocks() if span else (tensor.raw_data,))
            placed: onnx.TensorProto = copy_without(tensor, "raw_data")
            point(placed, Span(Path(location), offset, out.tell() - offset))
            return placed

        return with_initializers(model, move)
