"""What starts the pipeline does not import torch; Beam's model manager is there all the same when it is asked for."""

from __future__ import annotations

import subprocess
import sys


def said_by(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def test_commands_start_without_torch() -> None:
    program = "import sys, beam_pipeline.commands.curate; print('torch' in sys.modules, 'scipy' in sys.modules)"
    assert said_by(program) == "False False"


def test_the_model_manager_can_be_imported_afterwards() -> None:
    program = (
        "from transforms import beam_inference\n"
        "from apache_beam.ml.inference import base\n"
        "from apache_beam.ml.inference.model_manager import ModelManager\n"
        "print(ModelManager.__name__, base.resource.__name__)"
    )
    assert said_by(program) == "ModelManager resource"
