"""Which types hold all values of which."""

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

_FLOATS = ("float16", "bfloat16", "float32", "float64")


def passes_through(source: DTypeLike, between: DTypeLike, to: DTypeLike) -> bool:
    """Whether a Cast from ``source`` to ``to`` gives what it gives by way of ``between``.

    Types of less than 8 bits, of 8-bit floats and of text are not known. A float that is no value
    of an integer type becomes one that depends on the way there.
    """
    if not holds(between, source):
        return False
    if _is_whole(to):
        return _is_whole(between) or holds(to, source)
    return np.dtype(to).kind == "b" or np.dtype(to).name in _FLOATS


def holds(dtype: DTypeLike, other: DTypeLike) -> bool:
    """Whether every value of another type is one of a type."""
    wide, narrow = np.dtype(dtype), np.dtype(other)
    if narrow.kind == "b" or wide == narrow:
        return wide.kind == "b" or _is_whole(wide) or wide.name in _FLOATS
    if _is_whole(narrow) and _is_whole(wide):
        a, b = np.iinfo(wide), np.iinfo(narrow)
        return bool(a.min <= b.min and b.max <= a.max)
    if _is_whole(narrow):
        return wide.name in _FLOATS and int(np.iinfo(narrow).max) < 1 << _digits(wide)
    return narrow.name in _FLOATS and wide.name in _WIDER[narrow.name]


def _digits(dtype: np.dtype[np.generic]) -> int:
    """Binary digits up to which a float type holds every integer."""
    return int(ml_dtypes.finfo(dtype).nmant) + 1  # type: ignore[no-untyped-call]


def _is_whole(dtype: DTypeLike) -> bool:
    return np.dtype(dtype).kind in "iu"


_WIDER = {
    "float16": ("float32", "float64"),
    "bfloat16": ("float32", "float64"),
    "float32": ("float64",),
    "float64": (),
}
"""By float type, those that hold all its values."""
