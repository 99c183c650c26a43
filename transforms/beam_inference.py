"""Beam's RunInference and ModelHandler, without what only its model manager needs.

`apache_beam.ml.inference.base` tries to import `model_manager`, which imports torch and scipy: seconds and some 200 MB
in each process. It goes on where that fails, and imports it when a pipeline asks for it (`use_model_manager`). So the
module is hidden while `base` is imported, and is there again afterwards. Import these names from here.
"""

from __future__ import annotations

import resource
import sys
from importlib import import_module
from typing import Any, cast

_BASE = "apache_beam.ml.inference.base"
_MANAGER = "apache_beam.ml.inference.model_manager"

if _BASE not in sys.modules:
    modules = cast(dict[str, Any], sys.modules)
    modules[_MANAGER] = None  # an import of it raises ModuleNotFoundError
    try:
        cast(Any, import_module(_BASE)).resource = resource  # what `base` gives up together with the manager
    finally:
        del modules[_MANAGER]

from apache_beam.ml.inference.base import ModelHandler, PredictionResult, RunInference  # noqa: E402

__all__ = ["ModelHandler", "PredictionResult", "RunInference"]
