"""Imports that go through torchvision, whose own errors do not say what to do."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from importlib.metadata import version
from types import ModuleType

_OPERATOR = "torchvision::"


def imported(name: str) -> ModuleType:
    """A library that needs torchvision. Raises ImportError that names the extra, or the two builds that do not fit."""
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        unfit = next((str(cause) for cause in _causes(error) if _OPERATOR in str(cause)), None)
        if unfit is not None:
            builds = f"torch {version('torch')} and torchvision {version('torchvision')}"
            raise ImportError(
                f"{name} cannot be imported: {builds} are of different builds ({unfit}); "
                "install both from the same index, for CPU or for CUDA"
            ) from error
        if isinstance(error, RuntimeError):
            raise
        raise ImportError(f"this model needs {name} ({error}): pip install 'demosift[embeddings]'") from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
