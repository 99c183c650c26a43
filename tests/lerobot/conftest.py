from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
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
def lerobot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Runs a Python program in the environment that has lerobot, and gives what it printed; the test is skipped where
    there is none.
    """
    if not PYTHON.exists():
        pytest.skip("the environment .venv-lerobot is absent; make test-lerobot sets it up")
    folder = tmp_path_factory.mktemp("lerobot")
    said = folder / "said"
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "hf"),  # `datasets` keeps what it read
        "PYTHONWARNINGS": "ignore",
    }
    command = [PYTHON, Path(__file__).with_name("fork_server.py")]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None and server.stdout is not None

        def run(*argv: str | Path) -> str:
            print(json.dumps({"argv": list(map(str, argv)), "said": str(said)}), file=server.stdin, flush=True)
            assert server.stdout.readline() == "0\n", said.read_text()
            return said.read_text()

        yield run


@pytest.fixture
def read_official(lerobot: Callable[..., str], tmp_path: Path) -> Callable[..., LeRobotRead]:
    """Reads a folder with LeRobotDataset, every `stride`-th item whole, and hashes raw videos with the same decoder."""

    def read(folder: Path, camera: str = "", stride: int = 1, videos: Sequence[Path] = ()) -> LeRobotRead:
        out = tmp_path / "read.npz"
        lerobot(READ, folder, out, camera, str(stride), *videos)
        with np.load(out) as found:
            columns = {name: found[name] for name in found.files if name != "said"}
            return LeRobotRead(columns, json.loads(str(found["said"])))

    return read
