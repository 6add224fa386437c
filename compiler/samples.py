"""Calibration data as the model is run on it: each sample by itself and without its padding, so
that nothing measured depends on how samples were batched."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from sardonyx.compiler.calibration_data import Data, Inputs, Row
from sardonyx.compiler.cut import Feeds
from sardonyx.compiler.model_inputs import ModelInput
from sardonyx.runtime_ops.errors import InputError

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Sample:
    """What the model is run on at once: one sample, or the whole batch that its shapes fix.

    ``label``: which one, for errors. ``masks``: of `[batch, sequence]`, true for positions that
    count; none where all do.
    """

    label: str
    feeds: Feeds
    masks: tuple[NDArray[np.bool_], ...] = ()

    def counted(self, values: Array) -> Array:
        """The values of a tensor without the rows of masked positions, if its leading axes are
        those of a mask."""
        masks = [mask for mask in self.masks if values.shape[:2] == mask.shape]
        return values[np.logical_or.reduce(masks)] if masks else values


@dataclass(frozen=True)
class Samples:
    """The samples of some data for a model of these inputs; to be gone through at will."""

    data: Data
    inputs: Inputs

    def __iter__(self) -> Iterator[Sample]:
        """The samples in their order. InputError at the first that the model does not take."""
        rows = self.data.rows(self.inputs)
        while group := list(islice(rows, self._together)):
            for row in group:
                for one in self.inputs:
                    one.check_values(row.feeds[one.name], row.label, self.data.hint)
            if len(group) < self._together:
                raise InputError(
                    f"{group[-1].label} is the last, and the model's batch is fixed at "
                    f"{self._together}: give a multiple of that many samples"
                )
            yield _trimmed(self._joined(group), self.inputs)

    def __len__(self) -> int:
        """How many runs of the model they take."""
        return self._scan[0]

    @property
    def digest(self) -> str:
        """A hash of all values."""
        return self._scan[1]

    @cached_property
    def _scan(self) -> tuple[int, str]:
        count, digest = 0, hashlib.sha256()
        for sample in self:
            count += 1
            for name, array in sample.feeds.items():
                digest.update(f"{name} {array.dtype} {array.shape}".encode())
                digest.update(array.tobytes())
        if not count:
            raise InputError(f"the calibration data '{self.data.source}' holds no sample")
        return count, digest.hexdigest()

    @cached_property
    def _together(self) -> int:
        """Samples a run: the batch, where it is fixed."""
        sizes = [one.batch for one in self.inputs if one.dims != ()]
        fixed = [size for size in sizes if isinstance(size, int)]
        return fixed[0] if fixed and len(fixed) == len(sizes) else 1

    def _joined(self, group: list[Row]) -> Row:
        """Rows as one batch."""
        if len(group) == 1:
            return group[0]
        feeds = dict(group[0].feeds)
        for one in self.inputs:
            if one.batch == self._together:
                feeds[one.name] = np.concatenate([row.feeds[one.name] for row in group])
        return Row(group[0].label, feeds)


def _trimmed(row: Row, inputs: Inputs) -> Sample:
    """Without the positions behind the last that a mask shows.

    A mask is an input of rank 2 that holds zeros and ones and is looked up in no table. Inputs that
    share its second axis are cut with it; positions that it hides even so are `Sample.masks`.
    """
    feeds = dict(row.feeds)
    masks = [one for one in inputs if _is_mask(one, feeds[one.name])]
    for mask in masks:
        axes = _sharing(mask, inputs, feeds)
        _check_lengths(mask, axes, feeds, row.label)
        length = max((_shown(feeds[m.name]) for m in masks if (m.name, 1) in axes), default=0)
        for name, axis in axes:
            feeds[name] = feeds[name].take(range(length), axis)
    shown = tuple(feeds[mask.name] != 0 for mask in masks)
    return Sample(row.label, feeds, () if all(mask.all() for mask in shown) else shown)


def _is_mask(one: ModelInput, array: Array) -> bool:
    if one.rows is not None or array.ndim != 2 or array.dtype.kind not in "biuf":
        return False
    ones = array != 0
    return bool(ones.any() and (array[ones] == 1).all())


def _shown(mask: Array) -> int:
    """Positions up to the last that a row of the mask shows."""
    return int(np.flatnonzero((mask != 0).any(axis=0))[-1]) + 1


def _sharing(mask: ModelInput, inputs: Inputs, feeds: Feeds) -> list[tuple[str, int]]:
    """Names and axes of the inputs that have the mask's second axis, its own among them: those of
    the same symbol, or if it is the only one, those whose second axis may vary and is as long.

    None where only the mask has that axis, or its size is fixed.
    """
    symbol, length = _dim(mask), feeds[mask.name].shape[1]
    if isinstance(symbol, int):
        return []
    axes = [
        (one.name, axis)
        for one in inputs
        for axis, dim in enumerate(one.dims or ())
        if symbol is not None and dim == symbol
    ]
    if len(axes) < 2:
        free = [one for one in inputs if not isinstance(_dim(one), int)]
        axes = [(one.name, 1) for one in free if feeds[one.name].shape[1:2] == (length,)]
    return axes if len(axes) > 1 else []


def _check_lengths(mask: ModelInput, axes: list[tuple[str, int]], feeds: Feeds, label: str) -> None:
    """InputError unless all these axes are as long as the mask's."""
    length = feeds[mask.name].shape[1]
    for name, axis in axes:
        if feeds[name].shape[axis] != length:
            raise InputError(
                f"{label}: '{name}' has {feeds[name].shape[axis]} positions and its mask "
                f"'{mask.name}' {length}"
            )


def _dim(one: ModelInput) -> int | str | None:
    """Size of the second axis, or its symbol."""
    return one.dims[1] if one.dims and len(one.dims) > 1 else None
