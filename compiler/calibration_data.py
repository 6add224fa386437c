"""The forms of calibration data. Each gives one sample after the other, never all at once.

An .npz holds an array for each input of the model, the first axis samples; a folder holds such
files, each perhaps with other lengths; sentences are in `calibration_text`. In Python the data may
also be batches of arrays, or the word for how many samples to make up.
"""

import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sardonyx.compiler.cut import Feeds
from sardonyx.compiler.model_inputs import ModelInput, batched
from sardonyx.runtime_ops.errors import InputError

Inputs = tuple[ModelInput, ...]
Parts = Generator[NDArray[np.generic], None, None]


@dataclass(frozen=True)
class Row:
    """One sample as it was given: arrays with a first axis of 1, but for what is given once for
    all. ``label``: which one it is, for errors."""

    label: str
    feeds: Feeds


class Data(ABC):
    """Samples, to be gone through as often as wanted.

    ``source``: what they are, as the report names it. ``hint``: what is likely wrong where values
    do not fit the model. ``random``: made up.
    """

    source: str
    hint: ClassVar[str] = "the data is of another model"
    random: ClassVar[bool] = False

    @abstractmethod
    def rows(self, inputs: Inputs) -> Iterator[Row]:
        """The samples in their order, for a model of these inputs; raises InputError."""


@dataclass(frozen=True)
class Column:
    """An array, perhaps in a file. ``rows``: its parts of one sample, each with a first axis."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    rows: Callable[[], Parts]
    whole: Callable[[], NDArray[np.generic]]


@dataclass(frozen=True)
class Batches(Data):
    """Batches of arrays, by name of input."""

    batches: Iterable[Mapping[str, NDArray[np.generic]]]
    source: str = "arrays"

    def rows(self, inputs: Inputs) -> Iterator[Row]:
        for number, batch in enumerate(self.batches):
            columns = {name: _in_memory(np.asarray(array)) for name, array in batch.items()}
            yield from _rows(columns, inputs, f"calibration batch {number}")


@dataclass(frozen=True)
class Archives(Data):
    """.npz files, read a sample at a time."""

    source: str
    paths: tuple[Path, ...]

    def rows(self, inputs: Inputs) -> Iterator[Row]:
        for path in self.paths:
            try:
                with zipfile.ZipFile(path) as archive:
                    names = {one.name for one in inputs}
                    members = [n for n in archive.namelist() if n.removesuffix(".npy") in names]
                    columns = {n.removesuffix(".npy"): _stored(archive, n) for n in members}
                    yield from _rows(columns, inputs, f"'{path}'")
            except OSError as error:
                raise InputError(f"cannot read '{path}': {error.strerror or error}") from error
            except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
                raise InputError(f"'{path}' is not an .npz file of plain arrays") from error


def _rows(columns: dict[str, Column], inputs: Inputs, place: str) -> Iterator[Row]:
    """The samples of one batch, or of one file."""
    for one in inputs:
        if one.name not in columns:
            raise InputError(
                f"{place} has no array '{one.name}': the model wants "
                f"{', '.join(other.name for other in inputs)}"
            )
        one.check_type(columns[one.name].dtype, columns[one.name].shape, place)
    count, names = batched(inputs, {n: column.shape for n, column in columns.items()}, place)
    once = {one.name: columns[one.name].whole() for one in inputs if one.name not in names}
    with ExitStack() as stack:
        streams = [stack.enter_context(closing(columns[name].rows())) for name in names]
        for number in range(count):
            parts = dict(zip(names, map(next, streams), strict=True))
            yield Row(f"sample {number} of {place}", once | parts)


def _in_memory(array: NDArray[np.generic]) -> Column:
    def rows() -> Parts:
        return (array[i : i + 1] for i in range(len(array)))

    return Column(array.shape, array.dtype, rows, lambda: array)


def _stored(archive: zipfile.ZipFile, member: str) -> Column:
    with archive.open(member) as file:
        shape, fortran, dtype = _header(file)

    def whole() -> NDArray[np.generic]:
        with archive.open(member) as file:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))

    def rows() -> Parts:
        with archive.open(member) as file:
            _header(file)
            size = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
            for _ in range(shape[0]):
                part = file.read(size)
                if len(part) != size:
                    raise EOFError
                yield np.frombuffer(part, dtype).reshape(1, *shape[1:])

    def rows_in_memory() -> Parts:
        return _in_memory(whole()).rows()

    return Column(shape, dtype, rows_in_memory if fortran else rows, whole)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and type of the array in a file; ValueError if none."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    if dtype.hasobject:
        raise ValueError("holds objects")
    return shape, fortran, dtype
