"""The benchmark of training samples measures every source of a small published folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.training import measure
from tests.factories import motion, rlds_example, write_lerobot_v21, write_rlds
from tests.job import run_job

pytest.importorskip("torch", reason="torch is not installed: pip install 'demosift[training]'")

SOURCES = """  - {name: toy, path: 'rlds/1.0.0', format: rlds, embodiment: panda}
  - {name: filmed, path: lerobot, format: lerobot, embodiment: panda}"""


def test_every_arm_gives_a_rate(tmp_path: Path) -> None:
    write_rlds(tmp_path / "rlds/1.0.0", [[rlds_example(seed, 12) for seed in range(2)]])
    write_lerobot_v21(tmp_path / "lerobot", {i: motion(40 + i, 30) for i in range(2)})
    assert run_job(tmp_path, SOURCES).status == 0
    for source, camera in (("toy", "image"), ("filmed", "front")):
        rows = measure(tmp_path / "out", source, 0.05, 50)
        assert [row.name for row in rows] == [
            f"{source}: state and action",
            f"{source}: state and 16 actions, normalised",
            f"{source}: state, action, observation.images.{camera}",
            f"{source}: state, action, observation.images.{camera}, in order",
        ]
        assert all(row.value is not None and row.value > 0 for row in rows)
