"""The official LeRobotDataset reads exports: numbers, tasks and frames are those of the recordings."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.exported import CAMERAS, RAW, export, raw_episodes, raw_tasks, raw_video, vectors
from tests.factories import jpeg, motion, rlds_example, write_lerobot_v21, write_rlds
from tests.job import run_job
from tests.lerobot.conftest import LeRobotRead

Read = Callable[..., LeRobotRead]
STRIDE = 37


@pytest.mark.parametrize("source", sorted(RAW))
def test_recorded_sets_come_back(
    curated_recordings: Path,
    robot_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    read_official: Read,
    source: str,
) -> None:
    run = export(capsys, curated_recordings, tmp_path / source, "--source", source)
    assert run.status == 0, run.err
    camera = CAMERAS[source]
    videos = [raw_video(robot_data, source, number) for number in RAW[source][2]] if camera else []
    read = read_official(run.folder, camera or "", STRIDE, videos)
    raw = raw_episodes(robot_data, source)
    for column in ("observation.state", "action"):
        # the files hold GR00T's float64, as the round trips test; LeRobot's tensors are float32 whatever is stored
        wanted = np.concatenate([vectors(table, column) for table in raw]).astype(np.float32)
        assert read.columns[column].dtype == np.float32
        assert read.columns[column].tobytes() == wanted.tobytes(), column
    stamps = np.concatenate([vectors(t, "timestamp").reshape(-1) - vectors(t, "timestamp").reshape(-1)[0] for t in raw])
    np.testing.assert_allclose(read.columns["timestamp"], stamps, atol=2e-6)
    texts = raw_tasks(robot_data, source)
    spoken = [texts[int(i)] for t in raw for i in vectors(t, "task_index").reshape(-1)]
    assert read.said["tasks"] == spoken[::STRIDE]
    assert read.said["episodes"] == len(raw)
    if camera:
        hashes = [value for video in read.said["raw"] for value in video]
        assert len(hashes) == len(spoken)
        assert read.said["frames"] == {str(i): hashes[i] for i in range(0, len(spoken), STRIDE)}
        assert camera in read.said["stats"]


def test_an_episode_that_was_rejected_leaves_the_others_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], read_official: Read
) -> None:
    q = {0: motion(0), 1: np.repeat(motion(1)[:1], 40, axis=0), 2: motion(2)}
    write_lerobot_v21(tmp_path / "toy", q)
    rule = "\nselect: {rules: {quality.idle_fraction: {max: 0.8}}}"
    job = run_job(tmp_path, "  - {name: toy, path: toy, embodiment: panda}", rule)
    assert job.outcomes() == {"toy/train/000000": "kept", "toy/train/000001": "rejected", "toy/train/000002": "kept"}
    run = export(capsys, job.output, tmp_path / "set")
    videos = [tmp_path / f"toy/videos/chunk-000/observation.images.front/episode_{i:06d}.mp4" for i in (0, 2)]
    read = read_official(run.folder, "observation.images.front", 1, videos)
    np.testing.assert_array_equal(read.columns["action"], np.concatenate([q[0], q[2]]))
    hashes = [value for video in read.said["raw"] for value in video]
    assert [read.said["frames"][str(i)] for i in range(80)] == hashes
    assert len(set(hashes)) > 70, "frames differ, so that a wrong one would be seen"
    assert set(read.said["tasks"]) == {"push the block to the left"}


@pytest.mark.parametrize("how", ["remux", "reencode"])
def test_remuxed_and_reencoded_frames(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], read_official: Read, how: str
) -> None:
    write_lerobot_v21(tmp_path / "toy", {0: motion(0), 1: motion(1)})
    job = run_job(tmp_path, "  - {name: toy, path: toy, embodiment: panda}")
    run = export(capsys, job.output, tmp_path / "set", "--videos", how)
    assert run.status == 0, run.err
    camera = "observation.images.front"
    videos = [tmp_path / f"toy/videos/chunk-000/{camera}/episode_{i:06d}.mp4" for i in (0, 1)]
    if how == "remux":
        read = read_official(run.folder, camera, 1, videos)
        assert list(read.said["frames"].values()) == [value for video in read.said["raw"] for value in video]
        return
    copied = export(capsys, job.output, tmp_path / "copied")
    ours, theirs = read_official(run.folder, camera, 5), read_official(copied.folder, camera, 5)
    for index in range(0, 80, 5):
        a, b = (one.columns[f"frame/{index}"].astype(float) for one in (ours, theirs))
        assert np.abs(a - b).mean() < 4, f"frame {index} is another one"


def test_pictures_come_back(tmp_path: Path, capsys: pytest.CaptureFixture[str], read_official: Read) -> None:
    write_rlds(tmp_path / "rlds", [[rlds_example(1), rlds_example(2)]])
    job = run_job(tmp_path, "  - {name: pictures, path: rlds, embodiment: panda}")
    run = export(capsys, job.output, tmp_path / "set")
    assert run.status == 0, run.err
    read = read_official(run.folder, "observation.images.image", 3)
    encoded = [jpeg(1000 * seed + step) for seed in (1, 2) for step in range(40)]
    for index in range(0, 80, 3):
        with Image.open(io.BytesIO(encoded[index])) as picture:
            wanted = np.asarray(picture).transpose(2, 0, 1)
        np.testing.assert_array_equal(read.columns[f"frame/{index}"], wanted)
    reward = [[0.0] * 39 + [1.0]] * 2
    assert read.columns["next.reward"].tolist() == np.ravel(reward).tolist()
    assert read.columns["next.done"].tolist() == [step == 39 for _ in range(2) for step in range(40)]
