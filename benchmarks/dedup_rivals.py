"""Where the rivals of the deduplication benchmarks live, and how an arm's process is set up."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]


def rivals_python() -> Path | None:
    """The interpreter that `make rivals` makes; None where it was not made. RIVALS_PYTHON names another."""
    return _python("rivals")


def juicer_python() -> Path | None:
    """The interpreter that `make juicer` makes; None where it was not made. JUICER_PYTHON names another."""
    return _python("juicer")


def _python(name: str) -> Path | None:
    python = Path(os.environ.get(f"{name.upper()}_PYTHON", ROOT / f".venv-{name}" / "bin" / "python"))
    return python if python.exists() else None


def core() -> int:
    """The last core that this process may use: the first one serves most interrupts."""
    return max(os.sched_getaffinity(0))


def arm_environment(with_project: bool) -> dict[str, str]:
    """One thread for every library, and this project on the path of its own arms alone."""
    names = ("OMP", "OPENBLAS", "MKL", "NUMBA", "RAYON")
    environment = {**os.environ, **{f"{name}_NUM_THREADS": "1" for name in names}}
    environment.pop("PYTHONPATH", None)
    return environment | ({"PYTHONPATH": str(ROOT)} if with_project else {})
