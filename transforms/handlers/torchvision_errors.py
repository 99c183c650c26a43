"""Imports that go through torchvision, whose own errors do not say what to do."""

from __future__ import annotations

import importlib
from types import ModuleType


def imported(name: str) -> ModuleType:
    """A library that needs torchvision. Raises ImportError that names the extra, or the two builds that do not fit."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"this model needs {name} ({error}): pip install 'demosift[embeddings]'") from error
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        from importlib.metadata import version

        builds = f"torch {version('torch')} and torchvision {version('torchvision')}"
        raise ImportError(
            f"{name} cannot be imported: {builds} are of different builds ({error}); "
            "install both from the same index, for CPU or for CUDA"
        ) from error
