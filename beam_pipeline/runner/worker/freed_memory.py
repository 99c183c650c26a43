"""What becomes of memory that a worker frees: kept for the bundle that runs, given back between bundles.

glibc otherwise keeps what is freed for ever, in an arena for each thread, or, with low thresholds, gives every larger
array back at once, and each page that is taken anew costs a fault: a tenth of the time of a job on arrays.
"""

from __future__ import annotations

import ctypes
import time

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Parameters of mallopt(3)."""
_KEPT_BYTES = 64 << 20
_MAPPED_BYTES = 32 << 20
_ARENAS = 2
_INTERVAL_S = 1.0
"""A trim looks through all that is free, so short bundles share one."""


class FreedMemory:
    """This process's allocator, told once; where it is not glibc's, nothing is told and nothing given back."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._trim = getattr(library, "malloc_trim", None)
        self._trimmed = time.monotonic()
        if self._trim is not None:
            for parameter, value in (
                (_ARENA_MAX, _ARENAS),
                (_MMAP_THRESHOLD, _MAPPED_BYTES),
                (_TRIM_THRESHOLD, _KEPT_BYTES),
            ):
                library.mallopt(parameter, value)

    def give_back(self) -> None:
        """Give what is free back to the system, unless that was done a moment ago."""
        now = time.monotonic()
        if self._trim is not None and now - self._trimmed >= _INTERVAL_S:
            self._trim(0)
            self._trimmed = time.monotonic()
