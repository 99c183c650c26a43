"""Runs the export command, and reads raw LeRobot recordings without the project."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from beam_pipeline.__main__ import main

RAW = {
    "g1": ("lerobot_v21_g1", "data/chunk-000/episode_{:06d}.parquet", (1, 2)),
    "gr00t": ("gr00t/robot_sim.PickNPlace", "data/chunk-000/episode_{:06d}.parquet", (0, 1, 2)),
    "so101": ("lerobot_v30_so101", "data/chunk-000/file-000.parquet", (0, 1, 2, 3)),
}
"""Source of examples/real_data.yaml -> its folder, its files, and the episodes that are on disk."""
CAMERAS = {"g1": "observation.images.cam_high", "gr00t": "observation.images.ego_view", "so101": None}


def raw_episodes(robot_data: Path, source: str) -> list[pa.Table]:
    """Rows of each recorded episode as its file has them."""
    folder, pattern, episodes = RAW[source]
    tables = [pq.read_table(robot_data / folder / pattern.format(number)) for number in episodes]
    return [
        table.filter(pc.equal(table["episode_index"], number)) for table, number in zip(tables, episodes, strict=True)
    ]


def raw_video(robot_data: Path, source: str, number: int) -> Path:
    """The recorded video of an episode."""
    folder = robot_data / RAW[source][0]
    return folder / f"videos/chunk-000/{CAMERAS[source]}/episode_{number:06d}.mp4"


def raw_tasks(robot_data: Path, source: str) -> list[str]:
    """Task texts by index."""
    meta = robot_data / RAW[source][0] / "meta"
    if (meta / "tasks.parquet").exists():
        return pq.read_table(meta / "tasks.parquet")["__index_level_0__"].to_pylist()
    return [json.loads(line)["task"] for line in (meta / "tasks.jsonl").read_text().splitlines()]


def vectors(table: pa.Table, column: str) -> np.ndarray:
    """A column of lists or of numbers as (T, D) or (T,), in its own dtype."""
    values = table[column].combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = values.chunk(0)
    if pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
        return values.flatten().to_numpy(zero_copy_only=False).reshape(len(values), -1)
    return values.to_numpy(zero_copy_only=False)


@dataclass(frozen=True)
class ExportRun:
    """Exit status, what was printed, and the target."""

    status: int
    out: str
    err: str
    folder: Path

    def json(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text())

    def rows(self) -> pa.Table:
        """All rows of the data set's Parquet files in order."""
        return pa.concat_tables([pq.read_table(path) for path in sorted((self.folder / "data").glob("*/*.parquet"))])

    def episodes(self) -> list[dict[str, Any]]:
        """v3's table of episodes."""
        return pq.read_table(self.folder / "meta/episodes/chunk-000/file-000.parquet").to_pylist()


def export(
    capsys: pytest.CaptureFixture[str], curated: Path, folder: Path, *flags: str, kind: str = "lerobot-v3"
) -> ExportRun:
    """`python -m beam_pipeline export` in this process."""
    capsys.readouterr()
    arguments: Sequence[str] = ["export", "--format", kind, "--output", str(folder), *flags, str(curated)]
    status = main(list(arguments))
    said = capsys.readouterr()
    return ExportRun(status, said.out, said.err, folder)
