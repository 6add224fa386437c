"""Several files read as one, for archives that were cut in pieces."""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path


class ChainedFile(io.RawIOBase):
    """A read-only, seekable view of the concatenation of `paths`."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._parts = [path.open("rb") for path in paths]
        sizes = [path.stat().st_size for path in paths]
        self._starts = [0, *accumulate(sizes)]
        self._position = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a byte of the concatenation."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._starts[-1]}
        self._position = origin[whence] + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read up to the end of the buffer or of the piece under the position."""
        if self._position >= self._starts[-1]:
            return 0
        index = bisect_right(self._starts, self._position) - 1
        part = self._parts[index]
        part.seek(self._position - self._starts[index])
        count = part.readinto(buffer)
        self._position += count
        return count

    def close(self) -> None:
        """Close every piece."""
        for part in self._parts:
            part.close()
        super().close()
