"""Data that stays in files until a pass asks for it, and constants that know where theirs lies."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx_graphsurgeon.ir.tensor import LazyValues, SparseValues

from sardonyx.runtime_ops.errors import InputError


@dataclass(frozen=True)
class Span:
    """Bytes of a file."""

    path: Path
    offset: int
    length: int

    def read(self) -> bytes:
        """The bytes."""
        return b"".join(self.blocks(self.length or 1))

    def blocks(self, size: int = 1 << 20) -> Iterator[bytes]:
        """The bytes, some at a time."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            for start in range(0, self.length, size):
                wanted = min(size, self.length - start)
                block = file.read(wanted)
                if len(block) < wanted:
                    raise InputError(f"'{self.path}' became shorter while it was in use")
                yield block


LARGEST_INLINE = 1_900_000_000
"""Bytes of weights; a protobuf message cannot exceed 2 GiB. Above it, weights lie in files."""


def is_stored(tensor: onnx.TensorProto) -> bool:
    """Whether the data lies in a file."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def point(tensor: onnx.TensorProto, span: Span) -> None:
    """Say where a tensor's data lies."""
    tensor.ClearField("external_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entries = {"location": span.path, "offset": span.offset, "length": span.length}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))


def span_of(tensor: onnx.TensorProto) -> Span | None:
    """Where the data of a tensor of a loaded model lies, if that is in a file."""
    if not is_stored(tensor):
        return None
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return Span(Path(entries["location"]), int(entries["offset"]), int(entries["length"]))


def stored_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of raw data, in the tensor or in a file."""
    span = span_of(tensor)
    return span.length if span else len(tensor.raw_data)


def fill(tensor: onnx.TensorProto) -> None:
    """Fetch the data of a tensor if it lies in a file."""
    span = span_of(tensor)
    if span is not None:
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        tensor.raw_data = span.read()


class StoredValues(LazyValues):  # type: ignore[misc]
    """Values of a constant that are read anew at each `load`, so that they can be forgotten.

    ``tensor``: the initializer. ``span``: where its data lies, unless it holds that itself.
    """

    def __init__(self, tensor: onnx.TensorProto) -> None:
        self.tensor = tensor
        self.span = span_of(tensor)
        self.shape = list(tensor.dims)
        self.dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        self.nbytes = self.span.length if self.span else tensor.ByteSize()

    def load(self) -> NDArray[np.generic]:
        """The values, in a read-only array of their own."""
        values = self._read()
        values.setflags(write=False)
        return values

    def _read(self) -> NDArray[np.generic]:
        count = int(np.prod(self.shape))
        if self.span is None or self._is_packed(self.span):
            return np.array(onnx.numpy_helper.to_array(self.whole()))
        with self.span.path.open("rb") as file:
            file.seek(self.span.offset)
            values = np.fromfile(file, self.dtype, count)
        return values.reshape(self.shape)

    def _is_packed(self, span: Span) -> bool:
        """Whether elements are smaller in the file than in memory."""
        return bool(self.dtype.itemsize * np.prod(self.shape) != span.length)

    def sample(self, flat: NDArray[np.int64]) -> NDArray[np.generic]:
        """The values at flat places, without reading the rest."""
        if self.span is None or self._is_packed(self.span):
            return self.load().reshape(-1)[flat]
        mapped = np.memmap(self.span.path, self.dtype, "r", self.span.offset, (flat.max() + 1,))
        return np.array(mapped[flat])

    def whole(self) -> onnx.TensorProto:
        """The initializer with its data in it."""
        if self.span is None:
            return self.tensor
        tensor = onnx.TensorProto()
        tensor.CopyFrom(self.tensor)
        fill(tensor)
        return tensor


class StoredSparse(SparseValues):  # type: ignore[misc]
    """Values of a sparse constant; graphsurgeon's own reader takes few types and layouts."""

    def load(self) -> NDArray[np.generic]:
        """The values, in a read-only dense array."""
        values = onnx.numpy_helper.to_array(self.tensor.values)
        places = onnx.numpy_helper.to_array(self.tensor.indices)
        if places.ndim == 2:
            places = np.ravel_multi_index(tuple(places.T), self.tensor.dims)
        dense = np.zeros(list(self.tensor.dims), values.dtype)
        dense.reshape(-1)[places] = values
        dense.setflags(write=False)
        return dense
