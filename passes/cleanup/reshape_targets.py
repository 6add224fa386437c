"""The target of a Reshape as a constant, where sizes are symbols."""

from collections.abc import Sequence

from sardonyx.passes.sizes import Dim, Shape


def constant_target(
    shape: Shape | None, wanted: Sequence[Dim], inferred: int | None = None
) -> list[int] | None:
    """Numbers by which a Reshape makes a tensor of sizes ``shape`` one of sizes ``wanted``: 0 where
    an axis keeps its size, -1 for one that is neither that nor a number. None where more are.

    Of a tensor without elements a -1 says nothing beside another size of 0. So it stands only where
    all others are numbers, or at ``inferred``, where one stood before.
    """
    kept = shape or ()
    target = [
        dim if isinstance(dim, int) and dim > 0 else 0 if _is_at(dim, kept, place) else -1
        for place, dim in enumerate(wanted)
    ]
    opened = [place for place, number in enumerate(target) if number == -1]
    if not opened or (len(opened) == 1 and (0 not in target or opened == [inferred])):
        return target
    return None


def _is_at(dim: Dim, shape: Shape, place: int) -> bool:
    return place < len(shape) and shape[place] == dim
