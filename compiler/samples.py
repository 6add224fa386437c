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

    A mask is an input of rank 2 that holds zeros and ones and is looked up in no table. It cuts
    all inputs that share its axis, if another does; those that it still hides are `Sample.masks`.
    """
    feeds = dict(row.feeds)
    masks = [one for one in inputs if _is_mask(one, feeds[one.name])]
    for mask in masks:
        axes = _sharing(mask, inputs, feeds)
        lengths = [_shown(feeds[one.name]) for one in masks if (one.name, 1) in axes]
        for name, axis in axes:
            feeds[name] = np.ascontiguousarray(
                feeds[name][(slice(None),) * axis + (slice(max(lengths)),)]
            )
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
    """Names and axes of the inputs, at least two, that have the mask's second axis: by its name,
    or where nothing else has that name, by its size."""
    symbol = mask.dims[1] if mask.dims else None
    if isinstance(symbol, int):
        return []
    sized = [one for one in inputs if one.dims is not None and symbol]
    named = [
        (one.name, axis)
        for one in sized
        for axis, dim in enumerate(one.dims or ())
        if dim == symbol
    ]
    size = feeds[mask.name].shape[1]
    alike = [
        (one.name, 1)
        for one in inputs
        if feeds[one.name].shape[1:2] == (size,) and not (one.dims and isinstance(one.dims[1], int))
    ]
    axes = named if len(named) > 1 else alike
    return axes if len(axes) > 1 else []
