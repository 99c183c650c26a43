"""LeRobot -> curate -> LeRobot: recorded sets come back with their numbers, statistics, tasks and videos."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.exported import CAMERAS, RAW, export, raw_episodes, raw_tasks, raw_video, vectors


@pytest.mark.parametrize("source", sorted(RAW))
@pytest.mark.parametrize("kind", ["lerobot-v3", "lerobot-v21-gr00t"])
def test_every_step_keeps_its_state_and_action(
    curated_recordings: Path,
    robot_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    source: str,
    kind: str,
) -> None:
    run = export(capsys, curated_recordings, tmp_path / "out", "--source", source, kind=kind)
    assert run.status == 0, run.err
    rows, start = run.rows(), 0
    raw = raw_episodes(robot_data, source)
    assert rows.num_rows == sum(table.num_rows for table in raw)
    tasks = raw_tasks(robot_data, source)
    names = (
        [json.loads(line)["task"] for line in (run.folder / "meta/tasks.jsonl").read_text().splitlines()]
        if (kind == "lerobot-v21-gr00t")
        else []
    )
    for number, table in enumerate(raw):
        mine = rows.slice(start, table.num_rows)
        for column in ("observation.state", "action"):
            recorded, exported = vectors(table, column), vectors(mine, column)
            assert exported.dtype == recorded.dtype
            assert exported.tobytes() == recorded.tobytes(), f"{source} episode {number}: {column}"
        stamps = vectors(table, "timestamp").reshape(-1)
        shifted = (np.float64(stamps) - np.float64(stamps[0])).astype("f4")
        np.testing.assert_array_almost_equal_nulp(vectors(mine, "timestamp"), shifted, 4 if stamps[0] else 0)
        assert vectors(mine, "frame_index").tolist() == list(range(table.num_rows))
        assert vectors(mine, "index").tolist() == list(range(start, start + table.num_rows))
        assert set(vectors(mine, "episode_index").tolist()) == {number}
        if names:
            wanted = [tasks[int(index)] for index in vectors(table, "task_index").reshape(-1)]
            assert [names[int(index)] for index in vectors(mine, "task_index")] == wanted
        start += table.num_rows


def test_whole_videos_keep_their_bytes_and_show_the_same_times(
    curated_recordings: Path, robot_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for source in ("g1", "gr00t"):
        run = export(capsys, curated_recordings, tmp_path / source, "--source", source)
        camera, fps = CAMERAS[source], run.json("meta/info.json")["fps"]
        for number, (episode, row) in enumerate(zip(RAW[source][2], run.episodes(), strict=True)):
            copied = run.folder / f"videos/{camera}/chunk-000/file-{number:03d}.mp4"
            assert copied.read_bytes() == raw_video(robot_data, source, episode).read_bytes()
            assert row[f"videos/{camera}/file_index"] == number
            assert row[f"videos/{camera}/from_timestamp"] == 0.0
            assert row[f"videos/{camera}/to_timestamp"] == pytest.approx(row["length"] / fps)
        assert run.json("export.json")["frames_not_shown"] == 0


def test_statistics_are_those_of_the_recorded_values(
    curated_recordings: Path, robot_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = export(capsys, curated_recordings, tmp_path / "out", "--source", "so101")
    raw = [vectors(table, "action").astype("f8") for table in raw_episodes(robot_data, "so101")]
    cases = [(np.concatenate(raw), run.json("meta/stats.json")["action"])]
    for values, row in zip(raw, run.episodes(), strict=True):
        cases.append((values, {key.rpartition("/")[2]: row[key] for key in row if key.startswith("stats/action/")}))
    for values, found in cases:
        assert found["count"] == [len(values)]
        for name, wanted in {
            "min": values.min(0),
            "max": values.max(0),
            "mean": values.mean(0),
            "std": values.std(0),
            **{f"q{p:02d}": np.percentile(values, p, axis=0) for p in (1, 10, 50, 90, 99)},
        }.items():
            np.testing.assert_allclose(found[name], wanted, rtol=1e-12, err_msg=name)
    info = run.json("meta/info.json")
    assert (info["fps"], info["total_frames"], info["splits"]) == (30, 1492, {"train": "0:4"})
    own = json.loads((robot_data / RAW["so101"][0] / "meta/info.json").read_text())["features"]["action"]
    assert info["features"]["action"] == own


def test_gr00ts_modality_comes_back_and_others_are_made_of_names(
    curated_recordings: Path, robot_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = export(capsys, curated_recordings, tmp_path / "gr00t", "--source", "gr00t", kind="lerobot-v21-gr00t")
    own = robot_data / RAW["gr00t"][0] / "meta"
    assert run.json("meta/modality.json") == json.loads((own / "modality.json").read_text())
    texts = [json.loads(line)["task"] for line in (run.folder / "meta/tasks.jsonl").read_text().splitlines()]
    assert texts == raw_tasks(robot_data, "gr00t")[: len(texts)]
    rows = run.rows()
    for column in ("annotation.human.action.task_description", "annotation.human.validity"):
        wanted = np.concatenate([vectors(table, column).reshape(-1) for table in raw_episodes(robot_data, "gr00t")])
        assert vectors(rows, column).tolist() == wanted.tolist(), column
    made = export(capsys, curated_recordings, tmp_path / "g1", "--source", "g1", kind="lerobot-v21-gr00t")
    state = {name: (part["start"], part["end"]) for name, part in made.json("meta/modality.json")["state"].items()}
    assert state == {"left_arm": (0, 7), "right_arm": (7, 14), "left_hand": (14, 20), "right_hand": (20, 26)}
    assert made.json("meta/modality.json")["annotation"] == {"human.task_description": {"original_key": "task_index"}}
    assert made.json("meta/modality.json")["video"] == {"cam_high": {"original_key": CAMERAS["g1"]}}


def test_sources_that_differ_become_folders(
    curated_recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = export(capsys, curated_recordings, tmp_path / "out", "--source", "so101", "--source", "isaac")
    assert run.status == 0, run.err
    assert sorted(p.name for p in run.folder.iterdir()) == ["export.json", "isaac", "so101"]
    assert "isaac: 20 of 20 episodes have no instruction; their task is empty" in run.out
    features = run.json("isaac/meta/info.json")["features"]
    assert "observation.eef_pos" in features and "observation.joint_position" not in features
    record = run.json("export.json")
    assert [one["folder"] for one in record["data_sets"]] == ["isaac", "so101"]
    assert record["data_sets"][1]["episodes"][2]["episode_id"] == "so101/train/000002"
