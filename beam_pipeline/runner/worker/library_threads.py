"""The threads of libraries that were loaded before their worker knew its CPUs."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from pathlib import Path

# SciPy's builds of OpenBLAS, which NumPy's wheels hold, prefix their names; those of 64-bit integers have a suffix
_SETTERS = tuple(
    f"{prefix}openblas_set_num_threads{suffix}" for prefix in ("scipy_", "") for suffix in ("64_", "_64", "")
)


def set_library_threads(threads: int) -> None:
    """Let OpenBLAS, Arrow and torch, where they are loaded, use `threads` threads from now on."""
    for path in loaded_libraries("openblas"):
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(path)
            for name in _SETTERS:
                if hasattr(library, name):
                    getattr(library, name)(ctypes.c_int(threads))
    arrow = sys.modules.get("pyarrow")
    if arrow is not None:
        arrow.set_cpu_count(threads)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


def loaded_libraries(name: str) -> set[str]:
    """Files of the libraries in this process whose path holds a name; none where the system does not list them."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return set()
    lines = maps.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    paths = {line[line.index("/") :] for line in lines if "/" in line}
    return {path for path in paths if name in path}
