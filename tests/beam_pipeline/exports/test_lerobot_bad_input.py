"""What cannot be exported is said with its place and a remedy, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.exported import ExportRun, export
from tests.factories import motion, rlds_example, write_isaac, write_lerobot_v21, write_rlds, write_video
from tests.job import run_job

TOY = "  - {name: toy, path: toy, embodiment: panda}"
Refuse = Callable[..., ExportRun]


@pytest.fixture
def refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refuse:
    """Exports and expects a refusal that leaves nothing behind."""

    def run(curated: Path, *flags: str, kind: str = "lerobot-v3", target: Path | None = None) -> ExportRun:
        before = sorted(tmp_path.iterdir())
        done = export(capsys, curated, target or tmp_path / "set", *flags, kind=kind)
        assert done.status == 1 and sorted(tmp_path.iterdir()) == before
        return done

    return run


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A curated folder of two episodes with a video each."""
    write_lerobot_v21(tmp_path / "toy", {0: motion(0), 1: motion(1)})
    return run_job(tmp_path, TOY).output


def rewrite_times(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    table = pq.read_table(path)
    times = pa.array(change(table["timestamp"].to_numpy()).astype("f4"))
    pq.write_table(table.set_column(table.schema.get_field_index("timestamp"), "timestamp", times), path)


def test_a_folder_that_is_not_curated(tmp_path: Path, refuse: Refuse) -> None:
    assert "holds no published run (no _manifests/*.json); curate into it first" in refuse(tmp_path).err


def test_a_target_that_holds_something(tmp_path: Path, toy: Path, refuse: Refuse) -> None:
    said = refuse(toy, target=tmp_path / "toy").err
    assert "toy holds 3 entries, such as 'data'; name a folder that is absent or empty" in said
    assert "is a file or a link; name a folder" in refuse(toy, target=tmp_path / "job.yaml").err


def test_an_empty_target_is_used(tmp_path: Path, toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "set").mkdir()
    assert export(capsys, toy, tmp_path / "set").status == 0
    assert not list(tmp_path.glob("*.partial-*"))


def test_unknown_sources_and_columns(toy: Path, refuse: Refuse) -> None:
    assert "there is no source 'tyo'" in refuse(toy, "--source", "tyo").err
    assert "--without acton: there is no such column; there are episode_id," in refuse(toy, "--without", "acton").err


def test_unknown_flags_are_bad_usage(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        export(capsys, toy, tmp_path / "set", "--video", "copy")
    assert "unrecognized arguments: --video" in capsys.readouterr().err


def test_no_episode_was_kept(tmp_path: Path, refuse: Refuse) -> None:
    write_lerobot_v21(tmp_path / "toy", {0: np.repeat(motion(0)[:1], 40, axis=0)})
    rule = "\nselect: {rules: {quality.idle_fraction: {max: 0.5}}}\ngates: {max_rejected_fraction: 1.0}"
    job = run_job(tmp_path, TOY, rule)
    assert job.outcomes() == {"toy/train/000000": "rejected"}
    assert "has a kept episode; its ledger says why" in refuse(job.output).err
    assert "source 'toy' has no kept episode" in refuse(job.output, "--source", "toy").err


def test_irregular_times_are_refused_and_resampling_helps(
    tmp_path: Path, refuse: Refuse, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lerobot_v21(tmp_path / "toy", {0: motion(0)}, video=False)
    rewrite_times(tmp_path / "toy/data/chunk-000/episode_000000.parquet", lambda t: t + 0.03 * (np.arange(40) > 20))
    said = refuse(run_job(tmp_path, TOY).output).err
    assert "toy/train/000000: step 21 comes 0.08 s after step 20, and 1 of 39 are off" in said
    assert "here 20 Hz, within 0.0001 s; curate with `temporal_alignment: {rate_hz: ...}`, which resamples" in said
    job = run_job(tmp_path, TOY, "\ntemporal_alignment: {rate_hz: 20}", output="again")
    run = export(capsys, job.output, tmp_path / "set")
    assert run.status == 0 and run.json("meta/info.json")["fps"] == 20, run.err


def test_mixed_rates_are_refused(tmp_path: Path, refuse: Refuse) -> None:
    write_lerobot_v21(tmp_path / "toy", {0: motion(0), 1: motion(1)}, video=False)
    rewrite_times(tmp_path / "toy/data/chunk-000/episode_000001.parquet", lambda t: t * 2)
    said = refuse(run_job(tmp_path, TOY).output).err
    assert "source 'toy' mixes rates: toy/train/000000 has 20 Hz, toy/train/000001 10 Hz" in said


def test_steps_without_time_are_refused(tmp_path: Path, refuse: Refuse) -> None:
    write_isaac(tmp_path / "toy/a.hdf5", {0: motion(0)})
    source = "  - {name: toy, path: 'toy/*.hdf5', format: isaac_hdf5, embodiment: bare}"
    job = run_job(tmp_path, source, embodiments="\n  bare: {}\n")
    said = refuse(job.output).err
    assert "toy/a/000000: 40 of 40 steps have no time; declare `rate_hz` of the embodiment 'bare'" in said


def test_a_lost_video_is_named(toy: Path, refuse: Refuse) -> None:
    next((toy / "videos").iterdir()).unlink()
    said = refuse(toy).err
    assert "which is absent; copy the curated folder whole, or curate again" in said and "toy/train/00000" in said


def test_a_camera_that_some_episodes_lack(tmp_path: Path, refuse: Refuse, capsys: pytest.CaptureFixture[str]) -> None:
    write_lerobot_v21(tmp_path / "toy", {0: motion(0), 1: motion(1)})
    camera = "observation.images.front"
    (tmp_path / f"toy/videos/chunk-000/{camera}/episode_000001.mp4").unlink()
    job = run_job(tmp_path, TOY, "\nselect: {rules: {quality.idle_fraction: {max: 0.8}}}")
    assert f"toy/train/000001 has no camera {camera}, other episodes of 'toy' have" in refuse(job.output).err
    assert export(capsys, job.output, tmp_path / "set", "--without", camera).status == 0


def test_frames_that_are_fewer_than_steps(tmp_path: Path, refuse: Refuse) -> None:
    write_lerobot_v21(tmp_path / "toy", {0: motion(0)})
    camera = "observation.images.front"
    write_video(tmp_path / f"toy/videos/chunk-000/{camera}/episode_000000.mp4", 30)
    job = run_job(tmp_path, TOY, "\nselect: {rules: {quality.idle_fraction: {max: 0.8}}}")
    said = refuse(job.output).err
    assert f"toy/train/000000: step 30 shows no frame of {camera}, and 10 of 40 steps have none" in said


def test_pictures_are_no_videos_for_gr00t(tmp_path: Path, refuse: Refuse, capsys: pytest.CaptureFixture[str]) -> None:
    write_rlds(tmp_path / "toy", [[rlds_example(1)]])
    job = run_job(tmp_path, TOY)
    kind = "lerobot-v21-gr00t"
    said = refuse(job.output, kind=kind).err
    assert (
        "observation.images.image of 'toy' stores pictures, and GR00T reads videos alone; --image-cameras video" in said
    )
    assert export(capsys, job.output, tmp_path / "set", "--image-cameras", "video", kind=kind).status == 0
