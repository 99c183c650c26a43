"""Video files of exports: whole, linked, remuxed, encoded anew; and frames that no exported step shows."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest

from tests.exported import export
from tests.factories import motion, write_lerobot_v21, write_video
from tests.job import run_job
from tests.sources.lerobot_files import FPS, Window, episode_table, vector_column, write_v3

CAMERA = "observation.images.front"
TOY = "  - {name: toy, path: toy, embodiment: panda}"
RULE = "\nselect: {rules: {quality.idle_fraction: {max: 0.8}}}"


def packets(path: Path) -> list[tuple[float, bytes]]:
    """Time and bytes of each packet in order of showing."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        found = [(float(p.pts * stream.time_base), bytes(p)) for p in container.demux(stream) if p.pts is not None]
    return sorted(found)


def frames(path: Path) -> np.ndarray:
    """(N, H, W, 3) of a file."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    write_lerobot_v21(tmp_path / "toy", {0: motion(0), 1: motion(1)})
    return run_job(tmp_path, TOY).output


@pytest.mark.parametrize("how", ["reference", "copy", "remux", "reencode"])
def test_every_way_shows_the_recorded_frames(
    tmp_path: Path, toy: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    run = export(capsys, toy, tmp_path / "set", "--videos", how)
    assert run.status == 0, run.err
    for number in (0, 1):
        recorded = tmp_path / f"toy/videos/chunk-000/{CAMERA}/episode_{number:06d}.mp4"
        made = run.folder / f"videos/{CAMERA}/chunk-000/file-{number:03d}.mp4"
        assert made.is_symlink() == (how == "reference")
        if how in ("reference", "copy"):
            assert made.read_bytes() == recorded.read_bytes()
        elif how == "remux":
            assert packets(made) == packets(recorded)
        else:
            assert np.abs(frames(made).astype(int) - frames(recorded)).mean() < 4
            assert [round(time * 20) for time, _ in packets(made)] == list(range(40))
    assert run.json("meta/info.json")["features"][CAMERA]["info"]["video.codec"] == (
        "h264" if how == "reencode" else "mpeg4"
    )
    assert ("2 video files are links into the curated folder; keep it" in run.out) == (how == "reference")


def test_the_same_export_has_the_same_bytes(tmp_path: Path, toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = []
    for name in ("a", "b"):
        run = export(capsys, toy, tmp_path / name, "--videos", "reencode")
        made.append({str(p.relative_to(run.folder)): p.read_bytes() for p in run.folder.rglob("*") if p.is_file()})
    assert made[0] == made[1] and len(made[0]) == 8


def still(table: pa.Table) -> pa.Table:
    """The same rows with a state that never moves."""
    values = np.zeros((table.num_rows, 2), "f4")
    return table.set_column(0, "observation.state", vector_column(values))


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Three curated episodes of 30, 20 and 25 steps in one file; the second stands still and is rejected."""
    tables = [episode_table(0, 0, 30), still(episode_table(1, 30, 20)), episode_table(2, 50, 25)]
    windows = [Window(0.0, 3.0), Window(3.0, 5.0), Window(5.0, 7.5)]
    declared = {"dtype": "video", "shape": [64, 64, 3], "names": ["height", "width", "channels"]}
    write_v3(tmp_path / "toy", [tables], {CAMERA: windows}, features={CAMERA: declared})
    write_video(tmp_path / f"toy/videos/{CAMERA}/chunk-000/file-000.mp4", 75, fps=FPS)
    job = run_job(tmp_path, TOY, RULE)
    assert [row["outcome"] for _, row in sorted(job.ledger.items())] == ["kept", "rejected", "kept"]
    return job.output


def test_a_shared_file_is_copied_once_and_frames_of_the_rejected_episode_are_reported(
    tmp_path: Path, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = export(capsys, shared, tmp_path / "set")
    assert run.status == 0, run.err
    windows = [
        tuple(row[f"videos/{CAMERA}/{name}"] for name in ("file_index", "from_timestamp", "to_timestamp"))
        for row in run.episodes()
    ]
    assert windows == [(0, 0.0, 3.0), (0, 5.0, 7.5)]
    assert len(list(run.folder.rglob("*.mp4"))) == 1
    assert "toy: 20 of 75 frames in 1 of 1 video files are shown by no exported step" in run.out
    record = run.json("export.json")
    assert record["frames_not_shown"] == 20
    (file,) = record["data_sets"][0]["video_files"]
    assert (file["frames"], file["frames_not_shown"]) == (75, 20)
    assert file["path"] == f"videos/{CAMERA}/chunk-000/file-000.mp4"


def test_a_cut_inside_a_file_is_encoded_only_when_asked(
    tmp_path: Path, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = "lerobot-v21-gr00t"
    refused = export(capsys, shared, tmp_path / "set", kind=kind)
    assert refused.status == 1 and not refused.folder.exists()
    assert "toy/train/000002: step 0 shows frame 50 of videos/" in refused.err
    assert "use --videos reencode, which encodes the shown frames anew" in refused.err
    run = export(capsys, shared, tmp_path / "set", "--videos", "reencode", kind=kind)
    assert run.status == 0 and "shown by no exported step" not in run.out
    recorded = frames(tmp_path / f"toy/videos/{CAMERA}/chunk-000/file-000.mp4").astype(int)
    for number, window in enumerate([slice(0, 30), slice(50, 75)]):
        made = frames(run.folder / f"videos/chunk-000/{CAMERA}/episode_{number:06d}.mp4")
        assert made.shape == recorded[window].shape and np.abs(made - recorded[window]).mean() < 4


def test_a_file_that_is_no_mp4_is_remuxed_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_video(tmp_path / "takes/a.mkv", 40, fps=20)
    times = np.round(np.arange(40) / 20, 3)
    rows = ["timestamp,observation.state[0],action[0]"]
    rows += [f"{t},{np.sin(t):.6f},{np.cos(t):.6f}" for t in times]
    (tmp_path / "takes/a.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "takes/a.json").write_text('{"instruction": "push"}')
    job = run_job(tmp_path, "  - {name: takes, path: takes, format: video, embodiment: panda}")
    assert job.outcomes() == {"takes/a": "kept"}, job.ledger
    refused = export(capsys, job.output, tmp_path / "set")
    assert refused.status == 1 and "is no mp4, which LeRobot's paths name; --videos remux" in refused.err
    run = export(capsys, job.output, tmp_path / "set", "--videos", "remux")
    assert run.status == 0, run.err
    (made,) = run.folder.rglob("*.mp4")
    assert packets(made) == packets(tmp_path / "takes/a.mkv")
