"""Beam's RunInference, imported without torch.

Beam imports torch beside it wherever torch is installed, for a model manager that few pipelines switch on: seconds and
a quarter of a gigabyte in every process, for jobs without a model too. Where the manager cannot be imported Beam goes
on without it, and imports it again when a transform asks for it (`use_model_manager`): it is kept out until then.
"""

from __future__ import annotations

import importlib
import resource
import sys
from typing import Any

_BASE = "apache_beam.ml.inference.base"
_MANAGER = "apache_beam.ml.inference.model_manager"


def _import_without_manager() -> None:
    if _BASE in sys.modules or _MANAGER in sys.modules:
        return
    modules: Any = sys.modules
    modules[_MANAGER] = None  # to import it is now an ImportError
    try:
        base: Any = importlib.import_module(_BASE)
    finally:
        del modules[_MANAGER]
    # Beam gives this module of Python's up together with the manager; it counts a model's memory by it
    base.resource = resource


_import_without_manager()

from apache_beam.ml.inference.base import ModelHandler, PredictionResult, RunInference  # noqa: E402

__all__ = ["ModelHandler", "PredictionResult", "RunInference"]
