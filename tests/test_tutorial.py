"""The tutorial's commands, run as they stand there, in their order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tutorial.md"
LOADER = ".venv-lerobot/bin/python"
LIMIT_S = 300


def commands() -> list[str]:
    """Every block of shell commands on the page."""
    return re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def run(block: str, folder: Path) -> str:
    """What a block prints, run in the project's folder with `folder` in place of the tutorial's own."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", block.replace("out/tutorial", str(folder))],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_from_recordings_to_a_data_set_and_a_training_run(tmp_path: Path) -> None:
    folder = tmp_path / "tutorial"
    told = {}
    for block in commands():
        if block.startswith(LOADER):
            if not (ROOT / LOADER).exists():
                pytest.skip(f"all but the last command ran; {LOADER} is absent: make test-lerobot sets it up")
            told["train"] = run(block, folder)
        else:
            words = block.split()
            name = words[3] if words[:3] == ["python", "-m", "beam_pipeline"] else words[0]
            told[name] = run(block, folder)
    assert "DATA-602" in told["inspect"]
    assert "planned 8, kept 7, rejected 1" in told["curate"]
    assert "the rule timestamps.backward is broken" in told["why"] and (folder / "why.png").stat().st_size > 10_000
    assert "kept 6, rejected 2" in told["cp"] and "verdict.reject 1" in told["cp"]
    assert "lerobot-v3: 6 episodes" in told["split"]
    first, last = map(float, re.findall(r"10 steps ([\d.]+), of the last 10 ([\d.]+)", told["train"])[0])
    assert last < first / 4
