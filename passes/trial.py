"""What a pass may ask of the whole model: what becomes of its outputs if it rounds activations."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sardonyx.runtime_ops.errors import InputError
from sardonyx.runtime_ops.uniform import Grid

AUTO = "auto"
"""The argument of a pass that is to choose by trials."""


@dataclass(frozen=True, eq=False)
class Rounding:
    """An activation as DequantizeLinear(QuantizeLinear(x)) makes it.

    ``tensor``: name of a float32 tensor that a node of the main graph makes. ``scale``, float32,
    and ``zero_point``, of 8 bits, or in opset 21 of 16: of shape [], or [channels] along the last
    axis.
    """

    tensor: str
    scale: NDArray[np.float32]
    zero_point: NDArray[np.integer[Any]]

    @classmethod
    def of(cls, tensor: str, grid: Grid) -> "Rounding":
        """By one grid for the whole tensor."""
        return cls(tensor, np.array(grid.scale), np.array(grid.zero_point, grid.dtype))

    @classmethod
    def grouped(cls, tensor: str, grids: Sequence[Grid], group: NDArray[np.int64]) -> "Rounding":
        """By a grid for each group of channels, all of one kind. ``group``: that of each channel,
        [channels]."""
        scales = np.array([grid.scale for grid in grids], np.float32)
        zero_points = np.array([grid.zero_point for grid in grids], grids[0].dtype)
        return cls(tensor, scales[group], zero_points[group])


Trial = Callable[[Collection[int]], float]
"""SQNR of the model's float outputs, dB, if only the roundings of these numbers are made: energy of
the outputs over that of their error, all together, on a few samples; inf: they are equal, -inf:
rounding makes NaN or an infinity. Of several roundings of one tensor, at most one may be asked for.
The same question has the same answer, to the last bit."""

Trials = Callable[[Sequence[Rounding]], Trial]
"""Makes a trial of roundings in the graph as it stands. Raises InputError where there is no data to
run the model on, or no output to judge by."""


def no_trials(roundings: Sequence[Rounding]) -> Trial:
    """Of a journal that no driver holds."""
    raise InputError("trying roundings needs a model to run")
