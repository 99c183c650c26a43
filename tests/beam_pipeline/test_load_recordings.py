"""What reads the recordings changes no byte of what is published, the ledger and the counts included."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.factories import motion, rlds_example, write_isaac, write_lerobot_v21, write_rlds, write_video
from tests.job import Job, run_job

SOURCES = """
  - {name: r, path: rlds, embodiment: panda}
  - {name: i, path: 'isaac/*.hdf5', format: isaac_hdf5, embodiment: panda}
  - {name: l, path: lerobot, embodiment: panda}
  - {name: v, path: video}
"""
RAY = ("--runner=RayRunner", "--ray_workers_max=2", "--ray_object_store_mb=200")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Every format, with a truncated file, an absent episode and a file that no reader knows."""
    write_rlds(tmp_path / "rlds", [[rlds_example(s) for s in (0, 0, 1)]])
    write_isaac(tmp_path / "isaac/x.hdf5", {0: motion(2), 1: motion(3)})
    write_isaac(tmp_path / "isaac/broken.hdf5", {0: motion(4, 400)})
    content = (tmp_path / "isaac/broken.hdf5").read_bytes()
    (tmp_path / "isaac/broken.hdf5").write_bytes(content[: len(content) // 2])
    write_lerobot_v21(tmp_path / "lerobot", {0: motion(5), 1: motion(6)}, listed=3)
    write_video(tmp_path / "video/x.mp4", 30)
    (tmp_path / "video/notes.bin").write_bytes(b"no recording")
    return tmp_path


def digests(job: Job) -> dict[str, str]:
    """Every published data file with the hash of its bytes."""
    data = [p for p in job.output.rglob("*") if p.is_file() and p.suffix in (".parquet", ".mp4")]
    return {str(p.relative_to(job.output)): hashlib.sha256(p.read_bytes()).hexdigest() for p in data}


def stages(job: Job) -> list[dict[str, object]]:
    """What each stage took in, gave out and dead-lettered."""
    found: list[dict[str, object]] = json.loads((job.output / "run_summary.json").read_text())["stages"]
    return found


def test_ray_data_and_beam_publish_the_same_bytes(folder: Path) -> None:
    with_beam = run_job(folder, SOURCES, output="beam")
    with_ray = run_job(folder, SOURCES, "", "--read_with=ray_data", *RAY, output="ray")
    assert (with_beam.status, with_ray.status) == (0, 0)
    assert digests(with_ray) == digests(with_beam)
    assert stages(with_ray) == stages(with_beam)
    quarantined = [name for name, outcome in with_ray.outcomes().items() if outcome == "quarantined"]
    assert len(quarantined) == 3


def test_another_reader_is_bad_usage(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_job(folder, SOURCES, "", "--read_with=pandas").status == 2
    assert "invalid choice: 'pandas' (choose from 'beam', 'ray_data')" in capsys.readouterr().err
