"""LeRobot sets with planted disagreements: each gets its code, its count and its values; a sound set gets none."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.inspection import disagreements
from benchmarks.lerobot_v3_set import write_set
from tests.beam_pipeline.inspection.found import codes, inspected, only, said
from tests.factories import motion, write_lerobot_v21, write_video
from tests.sources.lerobot_files import Window, edit_info, edit_listed, episode_table, three_episodes, write_v3

Capture = pytest.CaptureFixture[str]
FRONT = "observation.images.front"
VIDEO = {FRONT: {"dtype": "video", "shape": [64, 64, 3], "names": None, "info": {"video.codec": "mpeg4"}}}


@pytest.fixture()
def v21(tmp_path: Path) -> Path:
    """Two sound episodes with videos."""
    write_lerobot_v21(tmp_path / "set", {0: motion(0, 30), 1: motion(1, 20)})
    return tmp_path / "set"


@pytest.fixture()
def v3(tmp_path: Path) -> Path:
    """Three sound episodes of 5, 4 and 6 rows at 10 Hz, all shown by one video of 15 frames."""
    windows = [Window(0.0, 0.5), Window(0.5, 0.9), Window(0.9, 1.5)]
    three_episodes(tmp_path / "set", cameras={FRONT: windows}, features=VIDEO)
    write_video(tmp_path / f"set/videos/{FRONT}/chunk-000/file-000.mp4", 15, 10)
    return tmp_path / "set"


def test_a_sound_v2_set(v21: Path, capsys: Capture) -> None:
    status, (dataset,) = inspected(capsys, v21)
    assert (status, dataset["notices"]) == (0, [])
    assert (dataset["version"], dataset["robot"], dataset["files"]) == ("v2.1", "toy", 4)
    assert (dataset["episodes_listed"], dataset["episodes_present"], dataset["steps"]) == (2, 2, 50)
    assert dataset["duration_s"] == pytest.approx(2.5)
    (camera,) = dataset["cameras"]
    assert (camera["codec"], camera["width"], camera["rate_hz"], camera["files_read"]) == ("mpeg4", 64, 20, 2)
    assert dataset["instructions"] == [{"text": "push the block to the left", "episodes": 2}]


def test_declared_h264_that_is_mpeg4(v21: Path, capsys: Capture) -> None:
    info = json.loads((v21 / "meta/info.json").read_text())
    info["features"][FRONT]["info"]["video.codec"] = "h264"
    info["features"][FRONT]["shape"] = [480, 640, 3]
    info["features"][FRONT]["info"]["video.fps"] = 30
    (v21 / "meta/info.json").write_text(json.dumps(info))
    dataset = only(capsys, v21)
    assert codes(dataset) == {"DATA-401": 2, "DATA-402": 2, "DATA-403": 2}
    assert said(dataset, "DATA-401")[0].startswith("front: declared h264, the file is mpeg4 (videos/chunk-000/")
    assert said(dataset, "DATA-402")[0].startswith("front: declared 640x480, the file is 64x64")
    assert said(dataset, "DATA-403")[0].startswith("front: declared 30 Hz, the file has 20 Hz")


def test_video_where_the_metadata_says_videos(v21: Path, capsys: Capture) -> None:
    (v21 / "videos").rename(v21 / "video")
    dataset = only(capsys, v21)
    assert codes(dataset) == {"DATA-106": 2}
    assert dataset["cameras"][0]["files"] == 2


def test_absent_extra_and_undeclared_files(v21: Path, capsys: Capture) -> None:
    (v21 / "data/chunk-000/episode_000001.parquet").rename(v21 / "data/chunk-000/episode_000007.parquet")
    (v21 / f"videos/chunk-000/{FRONT}/episode_000001.mp4").unlink()
    write_video(v21 / "videos/chunk-000/observation.images.side/episode_000000.mp4", 5)
    dataset = only(capsys, v21)
    assert codes(dataset) == {"DATA-101": 1, "DATA-102": 1, "DATA-105": 1, "DATA-107": 1}
    assert said(dataset, "DATA-105") == [
        f"front: 1 of 2 files are absent, such as videos/chunk-000/{FRONT}/episode_000007.mp4"
    ]


def test_totals_splits_lengths_and_frames(v21: Path, capsys: Capture) -> None:
    edit_info(
        v21, total_episodes=3, total_frames=51, total_videos=1, total_tasks=4, total_chunks=2, splits={"a": "0:9"}
    )
    lines = [{"episode_index": 0, "length": 29}, {"episode_index": 1, "length": 20}, {"episode_index": 1}]
    (v21 / "meta/episodes.jsonl").write_text("\n".join([*map(json.dumps, lines), "{"]))
    write_video(v21 / f"videos/chunk-000/{FRONT}/episode_000001.mp4", 18)
    dataset = only(capsys, v21)
    found = codes(dataset)
    assert {f"DATA-{n}" for n in (201, 202, 203, 204, 205, 206, 207, 208, 404)} == set(found)
    assert found["DATA-207"] == 2
    assert said(dataset, "DATA-208") == ["episode 0: 30 rows, 29 listed"]
    assert said(dataset, "DATA-404")[0].startswith("front: 18 frames for 20 rows")


def test_columns_against_what_is_declared(v21: Path, capsys: Capture) -> None:
    info = json.loads((v21 / "meta/info.json").read_text())
    info["features"]["action"] = {"dtype": "float64", "shape": [6], "names": None}
    info["features"]["observation.force"] = {"dtype": "float32", "shape": [3], "names": None}
    del info["features"]["observation.state"]
    (v21 / "meta/info.json").write_text(json.dumps(info))
    (v21 / "meta/modality.json").write_text(json.dumps({"state": {"arm": {"start": 0, "end": 9}}}))
    assert codes(only(capsys, v21)) == {"DATA-301": 2, "DATA-302": 2, "DATA-303": 2, "DATA-304": 2, "DATA-305": 2}


def test_lists_of_one_width_are_not_called_another_shape(v21: Path, capsys: Capture) -> None:
    for path in (v21 / "data/chunk-000").glob("*.parquet"):
        table = pq.read_table(path)
        values = pa.array(table["action"].to_pylist(), pa.list_(pa.float32()))
        pq.write_table(table.set_column(table.column_names.index("action"), "action", values), path)
    assert codes(only(capsys, v21)) == {}


def test_times_that_begin_late_and_another_rate(v21: Path, capsys: Capture) -> None:
    path = v21 / "data/chunk-000/episode_000000.parquet"
    table = pq.read_table(path)
    times = pa.array([0.05 + index / 10 for index in range(30)], pa.float32())
    pq.write_table(table.set_column(table.column_names.index("timestamp"), "timestamp", times), path)
    dataset = only(capsys, v21)
    assert codes(dataset) == {"DATA-403": 1, "DATA-501": 1}
    assert said(dataset, "DATA-403")[0].startswith("info.json declares 20 Hz; the median step is 0.1 s")


def test_a_video_that_cannot_be_read(v21: Path, capsys: Capture) -> None:
    path = v21 / f"videos/chunk-000/{FRONT}/episode_000001.mp4"
    path.write_bytes(path.read_bytes()[:-200])
    dataset = only(capsys, v21)
    assert codes(dataset) == {"DATA-110": 1}
    assert "cut off" in said(dataset, "DATA-110")[0]


def test_a_data_file_that_is_cut_off(v21: Path, capsys: Capture) -> None:
    path = v21 / "data/chunk-000/episode_000001.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    dataset = only(capsys, v21)
    assert codes(dataset) == {"DATA-006": 1}
    assert dataset["steps"] == 30


def test_a_sound_v3_set(v3: Path, capsys: Capture) -> None:
    dataset = only(capsys, v3)
    assert dataset["notices"] == []
    assert (dataset["episodes_listed"], dataset["episodes_present"], dataset["steps"]) == (3, 3, 15)
    assert dataset["splits"] == {"train": 3}
    assert dataset["cameras"][0]["files"] == 1


def test_v3_windows(v3: Path, capsys: Capture) -> None:
    def change(rows: list[dict[str, object]]) -> None:
        rows[0][f"videos/{FRONT}/to_timestamp"] = 0.3
        rows[2][f"videos/{FRONT}/to_timestamp"] = 2.5

    edit_listed(v3, change)
    dataset = only(capsys, v3)
    assert codes(dataset) == {"DATA-405": 1, "DATA-406": 1}
    assert said(dataset, "DATA-405") == [
        "front: in 1 of 3 episodes",
        "episode 0, front: from_timestamp 0 to to_timestamp 0.3 s for 5 rows",
    ]
    assert said(dataset, "DATA-406")[0].endswith("ends at 1.5 s; episode 2 needs 2.5 s")


def test_v3_lists_that_do_not_agree(v3: Path, capsys: Capture) -> None:
    def change(rows: list[dict[str, object]]) -> None:
        rows[1]["dataset_to_index"] = 10
        rows[2]["data/file_index"] = 5
        rows.append({**rows[0]})
        rows.append({"episode_index": 8, "length": 3})
        rows[0]["tasks"] = ["do some thing"]

    edit_listed(v3, change)
    dataset = only(capsys, v3)
    found = codes(dataset)
    assert found["DATA-101"] == 1
    assert found["DATA-207"] == 2
    assert found["DATA-214"] == 2
    assert found["DATA-218"] == 1 and found["DATA-602"] == 1
    assert said(dataset, "DATA-214")[0] == "1 episodes, such as 1: 5 to 10 for 4 rows"


def test_v3_rows_that_are_not_listed(tmp_path: Path, capsys: Capture) -> None:
    write_v3(tmp_path / "set", [[episode_table(0, 0, 5), episode_table(1, 5, 4)]])
    edit_listed(tmp_path / "set", lambda rows: rows.pop())
    dataset = only(capsys, tmp_path / "set")
    assert codes(dataset) == {"DATA-102": 1, "DATA-201": 1, "DATA-202": 1, "DATA-206": 1, "DATA-208": 1}
    assert (dataset["episodes_listed"], dataset["episodes_present"], dataset["steps"]) == (2, 2, 9)


def test_v3_without_a_list(v3: Path, capsys: Capture) -> None:
    (v3 / "meta/episodes/chunk-000/file-000.parquet").unlink()
    dataset = only(capsys, v3)
    assert codes(dataset) == {"DATA-207": 1}
    assert (dataset["episodes_present"], dataset["steps"]) == (3, 15)


def test_an_info_that_cannot_be_used(v21: Path, capsys: Capture) -> None:
    (v21 / "meta/info.json").write_text("{")
    assert codes(only(capsys, v21)) == {"DATA-007": 1}


def test_the_generated_set_of_the_benchmark(tmp_path: Path, capsys: Capture) -> None:
    truth = write_set(tmp_path / "set", 2200, seed=3)
    dataset = only(capsys, tmp_path / "set")
    assert (truth.absent, truth.short) == (1000, 22)
    assert disagreements({"datasets": [dataset]}, truth) == []
