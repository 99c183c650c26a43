"""Beam's RunInference without its model manager, which nothing here uses and which loads torch: seconds a process.

Beam imports the manager by itself where a `RunInference` asks for it.
"""

from __future__ import annotations

import sys
from types import ModuleType

_MANAGER = "apache_beam.ml.inference.model_manager"
_left_out = ModuleType(_MANAGER)
_left_out.ModelManager = None  # type: ignore[attr-defined]

sys.modules.setdefault(_MANAGER, _left_out)
try:
    from apache_beam.ml.inference.base import ModelHandler, PredictionResult, RunInference
finally:
    if sys.modules[_MANAGER] is _left_out:
        del sys.modules[_MANAGER]

__all__ = ["ModelHandler", "PredictionResult", "RunInference"]
