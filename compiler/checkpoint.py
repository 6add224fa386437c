"""What an interrupted calibration leaves behind, for the same command to go on from."""

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sardonyx.compiler.write import replacing
from sardonyx.passes.journal import Watched

_log = logging.getLogger(__name__)

_EVERY_SECONDS = 10.0

_SAMPLES = "/samples"
"""Ends the key of how many samples are folded, behind the digest."""

Arrays = dict[str, NDArray[Any]]


@dataclass
class Checkpoint:
    """Measurements by the digest of what they are of, in a file where there is a path.

    Each is how many samples are folded, and the statistics. The file is written when a compile is
    interrupted, and now and then before; it goes once a compile is done, whether or not that
    measured anything. One that fails leaves it as it found it, for a command that is put right to
    go on from, unless it was of no use. ``resumed``: samples that were taken from it.
    """

    path: Path | None = None
    resumed: int = 0
    _measured: dict[str, tuple[int, Watched]] = field(default_factory=dict)
    _read: Arrays | None = None
    _useless: bool = False
    _written: float = field(default_factory=time.monotonic)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Around a compile: keeps what was measured if it is interrupted."""
        existed = self.path is not None and self.path.exists()
        try:
            yield
        except KeyboardInterrupt:
            if not self._measured or self.path is None:
                raise
            self._write()
            raise KeyboardInterrupt(
                "interrupted: nothing was written, but what was measured is kept in "
                f"'{self.path}', and the same command goes on from there"
            ) from None
        except BaseException:
            if not existed or self._useless:
                self._remove()
            raise
        if self._measured or self._is_ours():
            self._remove()

    def find(self, digest: str, empty: Watched) -> tuple[int, Watched]:
        """How many samples an interrupted compile folded into ``empty``, and what that gave."""
        if digest in self._measured:
            return self._measured[digest]
        first = self._read is None
        held = self._held()
        if f"{digest}{_SAMPLES}" not in held:
            if first and held:
                self._ignored("is of another model, recipe or data")
            return 0, empty
        try:
            found = int(held[f"{digest}{_SAMPLES}"]), _restored(digest, empty, held)
        except (KeyError, TypeError, ValueError):
            self._ignored("is damaged")
            return 0, empty
        self._measured[digest] = found
        self.resumed += found[0]
        return found

    def keep(self, digest: str, samples: int, watched: Watched) -> None:
        """Remember what was measured so far."""
        self._measured[digest] = samples, watched
        if self.path and time.monotonic() - self._written > _EVERY_SECONDS:
            self._write()

    def _held(self) -> Arrays:
        """What the file held, which is read once."""
        if self._read is None:
            self._read = {}
            if self.path and self.path.exists():
                try:
                    with self.path.open("rb") as file, np.load(file) as arrays:
                        self._read = dict(arrays)
                except Exception:  # whoever wrote it, it is of no use
                    self._ignored("is damaged")
        return self._read

    def _is_ours(self) -> bool:
        """Whether the file is one that a compile wrote, and not another of that name."""
        if self.path is None or not self.path.exists():
            return False
        try:
            with self.path.open("rb") as file, np.load(file) as arrays:
                return any(name.endswith(_SAMPLES) for name in arrays)
        except Exception:  # it is of another format
            return False

    def _ignored(self, why: str) -> None:
        self._read, self._useless = {}, True
        _log.warning("'%s' %s: calibration starts anew", self.path, why)

    def _write(self) -> None:
        assert self.path is not None
        arrays = dict(self._read or {})
        for digest, (samples, watched) in self._measured.items():
            arrays |= _arrays(digest, samples, watched)
        with replacing(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        self._written = time.monotonic()

    def _remove(self) -> None:
        if self.path:
            self.path.unlink(missing_ok=True)


def _arrays(digest: str, samples: int, watched: Watched) -> Arrays:
    arrays: Arrays = {f"{digest}{_SAMPLES}": np.array(samples)}
    for place, statistics in enumerate(watched.values()):
        for number, statistic in enumerate(statistics):
            for name, array in statistic.arrays().items():
                arrays[f"{digest}/{place}/{number}/{name}"] = array
    return arrays


def _restored(digest: str, empty: Watched, held: Arrays) -> Watched:
    """What `_arrays` gave, in statistics of the kinds in ``empty``."""
    groups: dict[tuple[int, int], Arrays] = {}
    for key, array in held.items():
        owner, *place, name = key.split("/", 3)
        if owner == digest and len(place) == 2:
            groups.setdefault((int(place[0]), int(place[1])), {})[name] = array
    return {
        name: tuple(each.restored(groups[place, number]) for number, each in enumerate(statistics))
        for place, (name, statistics) in enumerate(empty.items())
    }
