"""Beam's inference comes without its model manager, and so without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
import beam_pipeline.commands.dedup
from apache_beam.ml.inference import base
from transforms.handlers.beam_inference import RunInference
assert RunInference is base.RunInference
assert base.ModelManager is None and base.resource is not None
print(sorted({"torch", "apache_beam.ml.inference.model_manager"} & set(sys.modules)))
"""


def test_the_command_loads_no_torch_and_leaves_no_stand_in() -> None:
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", CODE], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
