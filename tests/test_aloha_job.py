"""ALOHA files through the whole command: what is published, against the files as h5py reads them."""

from __future__ import annotations

from pathlib import Path

import duckdb
import h5py
import numpy as np

from tests.aloha_files import jpegs, scene, write_aloha
from tests.job import run_job

SOURCE = "  - {name: aloha, path: folder, embodiment: aloha, required: [observation.state, action]}"
ALOHA = """
  aloha:
    rate_hz: 50
    action: {kind: absolute_joint}
"""


def test_aloha_folder_from_command_to_transitions(tmp_path: Path) -> None:
    for number in (0, 1, 2, 10):
        write_aloha(tmp_path / f"folder/episode_{number}.hdf5", number, 40, compress=number != 1)
    cut = tmp_path / "folder/episode_2.hdf5"
    cut.write_bytes(cut.read_bytes()[:-500])
    with h5py.File(tmp_path / "folder/episode_10.hdf5", "r+") as file:
        file["observations/qpos"][5, 2] = np.nan
    job = run_job(tmp_path, SOURCE, embodiments=ALOHA)
    assert job.status == 0
    assert {name: (row["outcome"], row["rule"]) for name, row in job.ledger.items()} == {
        "aloha/000000": ("kept", ""),
        "aloha/000001": ("kept", ""),
        "aloha/000002": ("quarantined", "truncated"),
        "aloha/000010": ("rejected", "integrity.nan"),
    }
    query = f"select * from '{job.output}/transitions/*/*.parquet' where episode_id = ? order by frame_index"
    for number in (0, 1):
        rows = duckdb.sql(query, params=[f"aloha/{number:06d}"]).to_arrow_table()
        with h5py.File(tmp_path / f"folder/episode_{number}.hdf5") as file:
            np.testing.assert_array_equal(rows["observation.state"].to_pylist(), file["observations/qpos"][:-1])
            np.testing.assert_array_equal(rows["next.observation.state"].to_pylist(), file["observations/qpos"][1:])
            np.testing.assert_array_equal(rows["action"].to_pylist(), file["action"][:-1])
        assert rows["timestamp_ns"].to_pylist() == [20_000_000 * step for step in range(39)]
    first = duckdb.sql(query, params=["aloha/000000"]).to_arrow_table()
    shown = first["observation.images.cam_high"].to_pylist()
    assert [image["bytes"] for image in shown] == jpegs(scene(0, 40))[:-1]
