"""RunInference comes without torch, and with it where its model manager is asked for."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

WITHOUT = """
import sys
import beam_pipeline.commands.dedup, beam_pipeline.commands.decide
from apache_beam.ml.inference import base
assert "torch" not in sys.modules and base.resource.getrusage and base.ModelManager is None
"""
LATER = """
import sys
from transforms.run_inference import RunInference
from apache_beam.ml.inference.model_manager import ModelManager
assert "torch" in sys.modules and ModelManager
"""


@pytest.mark.parametrize("script", [WITHOUT, LATER])
def test_torch_waits_until_the_model_manager_is_imported(script: str) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed: extra `embeddings`")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
