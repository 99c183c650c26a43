"""The compiled twins of the kernels where numba is installed; without it the array code gives the same bits."""

from __future__ import annotations

import importlib
import os
from functools import lru_cache
from types import ModuleType


@lru_cache(1)
def compiled() -> ModuleType | None:
    """`transforms.deduplication.numba_kernels`, or None without numba. Its import takes half a second: at first use."""
    try:
        importlib.import_module("numba")
    except ImportError:
        return None
    return importlib.import_module("transforms.deduplication.numba_kernels")


def allowed_threads() -> int:
    """Threads that a kernel may use here: what the runner's worker was granted by its CPU hint, else one."""
    granted = os.environ.get("NUMBA_NUM_THREADS", "1")
    return max(int(granted), 1) if granted.isdecimal() else 1
