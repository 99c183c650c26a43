"""Beam's RunInference and ModelHandler, without what only its model manager needs.

`apache_beam.ml.inference.base` imports the manager where it can, and with it torch and scipy: seconds and some 200 MB
in each process. It does without, and imports it by itself where a transform asks for it (`use_model_manager`). So an
empty module stands in its place while `base` is imported. Import these names from here.
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
