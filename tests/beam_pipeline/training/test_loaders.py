"""The lines of docs/training.md that load a split with Ray Data and with `datasets`, run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from beam_pipeline.__main__ import main
from tests.factories import motion, write_isaac
from tests.job import run_job

PAGE = Path(__file__).parents[3] / "docs" / "training.md"
SOURCE = "  - {name: kitchen, path: 'isaac/*.hdf5', format: isaac_hdf5, embodiment: panda}"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loaders")
    write_isaac(folder / "isaac/a.hdf5", {number: motion(number) for number in range(6)})
    assert run_job(folder, SOURCE, "\nsink: {part_target_mb: 0.02}").status == 0
    assert main(["split", "--output", str(folder / "out"), "--val", "0.3", "--stratify"]) == 0
    return folder / "out"


def lines_of(library: str, output: Path) -> str:
    """The page's Python block that imports a library, with its DIR made ours."""
    blocks = [b for b in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if f"import {library}" in b]
    assert len(blocks) == 1, f"{PAGE.name} has one block for {library}"
    return blocks[0].replace("DIR", str(output))


def expected(output: Path, split: str) -> set[str]:
    rows = pq.read_table(output / "splits.parquet").to_pylist()
    return {row["episode_id"] for row in rows if row["split"] == split}


def test_datasets_loads_a_split(output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    names: dict[str, Any] = {}
    exec(lines_of("datasets", output), names)
    rows = names["rows"]
    assert set(rows["episode_id"]) == expected(output, "train") and len(rows) == 4 * 39
    assert len(rows[0]["action"]) == 8


def test_ray_data_loads_a_split(output: Path) -> None:
    ray = pytest.importorskip("ray")
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)  # another process may run one
    try:
        names: dict[str, Any] = {}
        exec(lines_of("ray", output), names)
        frame = names["rows"].to_pandas()
    finally:
        ray.shutdown()
    assert set(frame["episode_id"]) == expected(output, "train") and len(frame) == 4 * 39
    assert set(frame["source"]) == {"kitchen"}


def test_the_torch_lines_run(output: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install 'demosift[training]'")
    code = lines_of("torch", output).replace("observation.state", "states.articulation.robot.joint_position")
    names: dict[str, Any] = {}
    exec(code, names)
    batch = names["batch"]
    assert batch["action"].shape == (64, 16, 8)
    assert batch["action_is_pad"].shape == (64, 16)
