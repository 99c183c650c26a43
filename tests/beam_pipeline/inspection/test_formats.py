"""RLDS, HDF5 and video folders with planted disagreements, and paths with nothing to inspect."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.beam_pipeline.inspection.found import codes, inspected, only, said
from tests.factories import motion, rlds_example, write_isaac, write_lerobot_v21, write_rlds, write_video

Capture = pytest.CaptureFixture[str]


def test_a_sound_rlds_set(tmp_path: Path, capsys: Capture) -> None:
    write_rlds(tmp_path / "toy/1.0.0", [[rlds_example(0), rlds_example(1)], [rlds_example(2)]])
    dataset = only(capsys, tmp_path / "toy")
    assert (dataset["version"], dataset["episodes_present"], dataset["files"]) == ("toy 1.0.0", 3, 2)
    shapes = {s["name"]: (s["dtype"], s["shape"]) for s in dataset["streams"]}
    assert shapes["observation.state"] == ("float32", [8]) and shapes["is_last"] == ("bool", [])
    (camera,) = dataset["cameras"]
    assert (camera["name"], camera["codec"], camera["width"], camera["height"]) == ("image", "jpeg", 32, 32)
    assert dataset["instructions"] == [{"text": "pick up the cube", "episodes": None}]
    assert codes(dataset) == {"DATA-502": 1}


def test_shards_that_are_absent_short_undeclared_or_cut(tmp_path: Path, capsys: Capture) -> None:
    paths = write_rlds(tmp_path / "1.0.0", [[rlds_example(0)], [rlds_example(1)], [rlds_example(2)]], [2, 1, 1])
    paths[1].unlink()
    paths[2].write_bytes(paths[2].read_bytes()[:-5])
    (tmp_path / "1.0.0/toy-extra.tfrecord").write_bytes(paths[0].read_bytes())
    found = codes(only(capsys, tmp_path / "1.0.0"))
    assert found == {"DATA-006": 1, "DATA-101": 2, "DATA-108": 1, "DATA-209": 2, "DATA-502": 1}


def test_a_first_record_that_is_damaged(tmp_path: Path, capsys: Capture) -> None:
    (path,) = write_rlds(tmp_path / "1.0.0", [[rlds_example(0)]])
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(bytes(data))
    dataset = only(capsys, tmp_path / "1.0.0")
    assert codes(dataset) == {"DATA-007": 1} and dataset["streams"] == []


def test_hdf5_samples_total_gaps_masks_and_environment(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "a.hdf5"
    write_isaac(path, {0: motion(0, 30), 3: motion(1, 20)})
    with h5py.File(path, "a") as file:
        file["data"].attrs["total"] = 99
        file["data/demo_3"].attrs["num_samples"] = 21
        file["data/demo_0"].attrs["language_instruction"] = "stack the cubes"
        file["data/demo_0/obs/wrist"] = np.zeros((30, 16, 24, 3), np.uint8)
        file["mask/train"] = np.array([b"demo_0", b"demo_3"])
        file["mask/valid"] = np.array([b"demo_0", b"demo_9"])
    dataset = only(capsys, path)
    assert (dataset["version"], dataset["steps"], dataset["episodes_listed"]) == ("Toy-Franka-v0", 50, 3)
    assert dataset["instructions"] == [{"text": "stack the cubes", "episodes": 1}]
    (camera,) = dataset["cameras"]
    assert (camera["name"], camera["codec"], camera["width"], camera["height"]) == ("wrist", "raw uint8", 24, 16)
    found = codes(dataset)
    assert found == {
        **{"DATA-101": 1, "DATA-109": 1, "DATA-211": 1, "DATA-212": 1, "DATA-213": 1},
        "DATA-502": 1,
    }
    assert said(dataset, "DATA-212") == ["a.hdf5 /data/demo_3: num_samples says 21, `actions` holds 20 rows"]


def test_hdf5_without_actions_and_one_cut_off(tmp_path: Path, capsys: Capture) -> None:
    for name in ("a", "b"):
        write_isaac(tmp_path / f"{name}.hdf5", {0: motion(0, 30)})
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        del file["data/demo_0/actions"]
    data = (tmp_path / "b.hdf5").read_bytes()
    (tmp_path / "b.hdf5").write_bytes(data[: len(data) // 2])
    assert codes(only(capsys, tmp_path)) == {"DATA-006": 1, "DATA-310": 1, "DATA-502": 1, "DATA-601": 1}


def test_videos_with_sidecars(tmp_path: Path, capsys: Capture) -> None:
    for name in "abc":
        write_video(tmp_path / f"day/{name}.mp4", 40)
    (tmp_path / "day/a.csv").write_text("time_ms,q[0],q[1],gripper\n0,0.1,0.2,1\n")
    pq.write_table(pa.table({"timestamp": [0.0], "force": [1.0]}), tmp_path / "day/b.parquet")
    (tmp_path / "day/b.info.json").write_text(json.dumps({"instruction": "open the drawer"}))
    dataset = only(capsys, tmp_path)
    assert (dataset["path"], dataset["episodes_present"], dataset["steps"]) == (str(tmp_path / "day"), 3, 120)
    assert dataset["duration_s"] == pytest.approx(6.0)
    shapes = {s["name"]: (s["dtype"], s["shape"]) for s in dataset["streams"]}
    assert shapes["q"] == ("float64", [2]) and shapes["force"] == ("float64", [])
    assert {"time_ms", "gripper", "timestamp"} <= set(shapes)
    assert dataset["instructions"] == [{"text": "open the drawer", "episodes": 1}]
    (camera,) = dataset["cameras"]
    assert (camera["codec"], camera["width"], camera["rate_hz"], camera["files"]) == ("mpeg4", 64, 20, 3)
    assert codes(dataset) == {"DATA-111": 1}


def test_sidecars_that_cannot_be_read(tmp_path: Path, capsys: Capture) -> None:
    for name in ("a", "b", "c"):
        write_video(tmp_path / f"{name}.mp4", 10)
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "c.json").write_text("[]")
    found = codes(only(capsys, tmp_path))
    assert found == {"DATA-007": 2, "DATA-112": 1, "DATA-601": 1}


def test_a_video_that_is_cut_off(tmp_path: Path, capsys: Capture) -> None:
    write_video(tmp_path / "a.mp4", 40)
    (tmp_path / "a.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:-300])
    dataset = only(capsys, tmp_path)
    assert "DATA-110" in codes(dataset) and dataset["duration_s"] is None


def test_nothing_there_empty_unknown_and_beside(tmp_path: Path, capsys: Capture) -> None:
    assert codes(only(capsys, tmp_path / "gone")) == {"DATA-001": 1}
    (tmp_path / "empty").mkdir()
    assert codes(only(capsys, tmp_path / "empty")) == {"DATA-004": 1}
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/notes.txt").write_text("nothing to see")
    assert codes(only(capsys, tmp_path / "odd")) == {"DATA-002": 1}
    write_video(tmp_path / "odd/a.mp4", 5)
    status, datasets = inspected(capsys, tmp_path / "odd")
    assert (status, [codes(d) for d in datasets][1:]) == (0, [{"DATA-003": 1}])


def test_formats_side_by_side(tmp_path: Path, capsys: Capture) -> None:
    write_isaac(tmp_path / "h/a.hdf5", {0: motion(0, 30)})
    write_rlds(tmp_path / "r/1.0.0", [[rlds_example(0)]])
    write_lerobot_v21(tmp_path / "l", {0: motion(0, 30)}, video=False)
    write_video(tmp_path / "v/a.mp4", 5)
    _, datasets = inspected(capsys, tmp_path)
    assert [(d["format"], Path(d["path"]).name) for d in datasets] == [
        ("isaac_hdf5", "h"),
        ("lerobot", "l"),
        ("rlds", "r"),
        ("video", "a.mp4"),
    ]
