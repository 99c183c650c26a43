"""Keep lists against what was planted in the sources, read as LeRobot's and openpi's loaders read them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipeline.__main__ import main
from beam_pipeline.curated import CuratedSet
from beam_pipeline.exports.export import ExportError, ExportOptions
from beam_pipeline.exports.keep_list import ranges_of, write
from tests.factories import motion, write_lerobot_v21, write_video
from tests.job import run_job
from tests.sources.rlds_files import STEPS, episode, write_dataset

ARM = "  - {name: arm, path: arm, embodiment: panda}"
DROID = "  - {name: droid, path: droid, embodiment: panda}"
TEXT = {"text": {}}


def passes(filters: dict[str, list[list[int]]], folder: str, path: str, steps: int) -> list[bool]:
    """Which steps openpi samples: it looks `FOLDER--PATH--STEP` up in a table of all steps of all ranges."""
    table = {f"{key}--{t}" for key, ranges in filters.items() for start, end in ranges for t in range(start, end)}
    return [f"{folder}--{path}--{t}" in table for t in range(steps)]


@pytest.mark.parametrize(
    ("steps", "runs"),
    [([], []), ([3], [[3, 4]]), ([0, 1, 2], [[0, 3]]), ([0, 1, 5, 6, 9], [[0, 2], [5, 7], [9, 10]])],
)
def test_steps_become_half_open_runs(steps: list[int], runs: list[list[int]]) -> None:
    assert ranges_of(np.array(steps, np.int64)) == runs


def test_lerobot_lists_name_the_kept_episodes_alone(tmp_path: Path) -> None:
    standing = np.tile(motion(1)[:1], (40, 1))
    write_lerobot_v21(tmp_path / "arm", {0: motion(0), 1: standing, 2: motion(2), 3: motion(3)}, video=False)
    assert run_job(tmp_path, ARM, "\nselect: {rules: {quality.idle_fraction: {max: 0.5}}}").status == 0
    arguments = ["export", "--format", "keep-list", "--output", str(tmp_path / "keep"), str(tmp_path / "out")]
    assert main(arguments) == 0
    assert json.loads((tmp_path / "keep/lerobot_episodes.json").read_text()) == {"arm": [0, 2, 3]}
    ranges = json.loads((tmp_path / "keep/keep_ranges.json").read_text())
    assert ranges == {"arm": {f"arm/train/{index:06d}": [[0, 39]] for index in (0, 2, 3)}}
    assert not (tmp_path / "keep/openpi").exists()


def test_parts_of_a_recording_are_told_by_its_clock(tmp_path: Path) -> None:
    write_video(tmp_path / "video/cut.mp4", 60)
    times = np.arange(60) / 20 + 5.0 * (np.arange(60) // 20)
    rows = [f"{t:.3f},{k},{np.sin(k / 5):.5f},{np.cos(k / 7):.5f}" for k, t in enumerate(times)]
    (tmp_path / "video/cut.csv").write_text("\n".join(["timestamp,frame_index,x,y", *rows]) + "\n")
    assert run_job(tmp_path, "  - {name: v, path: video, embodiment: panda}").status == 0
    assert [e.row["parent_id"] for e in CuratedSet(tmp_path / "out").episodes()] == ["v/cut"] * 3
    done = write(CuratedSet(tmp_path / "out"), ExportOptions(tmp_path / "keep"))
    kept = json.loads((tmp_path / "keep/keep_times_ns.json").read_text())
    wanted = [[round(times[first] * 1e9), round(times[first + 18] * 1e9)] for first in (0, 20, 40)]
    assert kept == {"v": {"v/cut": wanted}}
    assert json.loads((tmp_path / "keep/keep_ranges.json").read_text()) == {}
    assert done.notes == (
        "v: 1 recordings were cut or put on one clock: keep_times_ns.json has the times that were kept",
    )


def test_columns_are_nothing_that_a_list_holds(tmp_path: Path) -> None:
    write_lerobot_v21(tmp_path / "arm", {0: motion(0)}, video=False)
    assert run_job(tmp_path, ARM).status == 0
    with pytest.raises(ExportError, match="a keep list holds no columns: leave --without and --canonical out"):
        write(CuratedSet(tmp_path / "out"), ExportOptions(tmp_path / "keep", without=("action",)))


def test_a_gap_ends_a_range(tmp_path: Path) -> None:
    write_lerobot_v21(tmp_path / "arm", {0: motion(0), 1: motion(1)}, video=False)
    path = tmp_path / "arm/data/chunk-000/episode_000001.parquet"
    table = pq.read_table(path)
    leap = np.arange(40, dtype="f4") / 20 + np.where(np.arange(40) < 15, 0, 5).astype("f4")
    pq.write_table(table.set_column(table.schema.get_field_index("timestamp"), "timestamp", pa.array(leap)), path)
    assert run_job(tmp_path, ARM).status == 0
    write(CuratedSet(tmp_path / "out"), ExportOptions(tmp_path / "keep"))
    ranges = json.loads((tmp_path / "keep/keep_ranges.json").read_text())
    assert ranges == {"arm": {"arm/train/000000": [[0, 39]], "arm/train/000001": [[0, 14], [15, 39]]}}


def droid(folder: Path) -> None:
    """Three episodes: a success, one that openpi calls none, and one that stands still."""
    names = [("/a/1", "/a/success/1.h5"), ("/a/2", "/a/failure/2.h5"), ("/a/3", "/a/success/3.h5")]
    episodes = []
    for index, (recording, path) in enumerate(names):
        still = {} if index < 2 else {"steps/observation/state": np.ones(40, "f4"), "steps/action": np.zeros(40, "f4")}
        more = {
            "episode_metadata/recording_folderpath": [recording.encode()],
            "episode_metadata/file_path": [path.encode()],
        }
        moving = (np.sin(np.arange(40) / 3 + index) * (index + 1)).astype("f4")
        state = {"steps/observation/state": moving, "steps/action": moving}
        episodes.append(episode(20, **{**state, **still, **more}))
    write_dataset(folder, episodes, STEPS, {"recording_folderpath": TEXT, "file_path": TEXT})


def test_openpi_samples_the_kept_steps_and_no_others(tmp_path: Path) -> None:
    droid(tmp_path / "droid")
    rules = "\nselect: {rules: {quality.idle_fraction: {max: 0.5}}}"
    assert run_job(tmp_path, DROID, rules).outcomes() == {
        "droid/train/000000": "kept",
        "droid/train/000001": "kept",
        "droid/train/000002": "rejected",
    }
    done = write(CuratedSet(tmp_path / "out"), ExportOptions(tmp_path / "keep"))
    filters = json.loads((tmp_path / "keep/openpi/droid.json").read_text())
    assert passes(filters, "/a/1", "/a/success/1.h5", 20) == [True] * 19 + [False]
    assert passes(filters, "/a/3", "/a/success/3.h5", 20) == [False] * 20
    assert done.notes == ("droid: openpi drops 1 kept episodes: their file_path does not hold 'success'",)


def test_recordings_of_one_name_and_of_none_are_said(tmp_path: Path) -> None:
    same = {"episode_metadata/recording_folderpath": [b"/a"], "episode_metadata/file_path": [b"/success.h5"]}
    moving = [(np.sin(np.arange(40) / 3 + i) * (i + 1)).astype("f4") for i in range(3)]
    state = [{"steps/observation/state": m, "steps/action": m} for m in moving]
    episodes = [episode(20, **state[0], **same), episode(20, **state[1], **same), episode(20, **state[2])]
    write_dataset(tmp_path / "droid", episodes, STEPS, {"recording_folderpath": TEXT, "file_path": TEXT})
    assert run_job(tmp_path, DROID).status == 0
    done = write(CuratedSet(tmp_path / "out"), ExportOptions(tmp_path / "keep"))
    assert done.notes == (
        "droid: 1 kept episodes lack recording_folderpath or file_path, by which openpi's DROID loader names them: "
        "they are not in openpi/",
        "droid: 1 names stand for several recordings, such as '/a--/success.h5': not in openpi/",
    )
    assert not (tmp_path / "keep/openpi").exists()
