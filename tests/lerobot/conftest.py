from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-lerobot/bin/python"
READ = Path(__file__).with_name("read_dataset.py")


@dataclass(frozen=True)
class LeRobotRead:
    """Columns as the official loader has them, and what it said: tasks, hashes of frames by index."""

    columns: dict[str, np.ndarray]
    said: dict[str, Any]


@pytest.fixture(scope="session")
def lerobot() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python in the environment that has lerobot; the test is skipped where there is none."""
    if not PYTHON.exists():
        pytest.skip("the environment .venv-lerobot is absent; make test-lerobot sets it up")

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
        command = [str(PYTHON), *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def read_official(
    lerobot: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., LeRobotRead]:
    """Reads a folder with LeRobotDataset, every `stride`-th item whole, and hashes raw videos with the same decoder."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))  # `datasets` keeps what it read

    def read(folder: Path, camera: str = "", stride: int = 1, videos: Sequence[Path] = ()) -> LeRobotRead:
        out = tmp_path / "read.npz"
        lerobot(READ, folder, out, camera, str(stride), *videos)
        with np.load(out) as found:
            columns = {name: found[name] for name in found.files if name != "said"}
            return LeRobotRead(columns, json.loads(str(found["said"])))

    return read
