"""Whole jobs on copies of filmed episodes: which channel parts or joins them, and who stays over two nights."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pytest

from beam_pipeline.__main__ import main
from tests.encoded import read_frames, write_frames
from tests.factories import motion, write_lerobot_v21
from tests.job import read_ledger, run_job

SOURCES = "  - {name: arm, path: 'nights/*', format: lerobot, embodiment: arm}"
EMBODIMENTS = """
  arm:
    rate_hz: 20
    joints:
      names: [j1, j2, j3, j4, j5, j6, j7]
      position: {column: observation.state, start: 0, end: 7}
      unit: rad
"""
OTHER_TEXT = round(1 / 19, 9)
"""Both texts have 5 words and 5 word pairs; `the` is in both."""
VIDEO = "videos/chunk-000/observation.images.front/episode_{:06d}.mp4"


def shaky(q: np.ndarray) -> np.ndarray:
    """The same motion, less smooth, within the hysteresis of the grid."""
    return (q + np.random.default_rng(5).normal(0, 1e-3, q.shape)).astype("<f4")


def film_again(night: Path, episode: int, original: Path, **how: object) -> None:
    """Replace an episode's video by a copy of another's."""
    write_frames(night / VIDEO.format(episode), read_frames(original), **how)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Night 1: a shaky trial and another task. Night 2: the trial's smooth copy, its relabelled copy, its replay."""
    folder = tmp_path_factory.mktemp("nights")
    trial = motion(1, 60)
    write_lerobot_v21(folder / "nights/1", {0: shaky(trial), 1: motion(2, 60)})
    original = folder / "nights/1" / VIDEO.format(0)
    write_lerobot_v21(folder / "later/2", {0: trial})
    film_again(folder / "later/2", 0, original, crf=26, brightness=10)
    write_lerobot_v21(folder / "later/3", {0: trial}, task="slide the cup off the table")
    film_again(folder / "later/3", 0, original, crf=28)
    write_lerobot_v21(folder / "later/4", {7: trial}, listed=8)  # filmed with another ground: a replay elsewhere
    return folder


def outcomes(output: Path) -> dict[str, tuple[str, str | None]]:
    return {
        name: (row["outcome"], row["duplicate_of"])
        for name, row in read_ledger(output).items()
        if row["rule"] != "declared_absent"
    }


def edges(output: Path) -> list[tuple[object, ...]]:
    columns = "a, b, channel, similarity > 0.5, relabelled, frames_similarity > 0.8, instruction_similarity"
    return duckdb.sql(f"select {columns} from '{output}/clusters/*.parquet' order by a, b").fetchall()


@pytest.fixture(scope="module")
def published(nights: Path) -> Path:
    """Night 1 curated alone, then both nights into the same folder."""
    first = run_job(nights, SOURCES, embodiments=EMBODIMENTS)
    assert first.status == 0 and set(first.outcomes().values()) == {"kept"}
    for late in sorted((nights / "later").iterdir()):
        shutil.move(late, nights / "nights" / late.name)
    second = run_job(nights, SOURCES, embodiments=EMBODIMENTS)
    assert second.status == 0
    return second.output


def test_a_published_episode_stays_where_a_better_copy_comes_later(nights: Path, published: Path) -> None:
    found = outcomes(published)
    shaky_one, smooth = "arm/1/train/000000", "arm/2/train/000000"
    assert found[shaky_one] == ("kept", None) and found[smooth] == ("duplicate", shaky_one)
    fresh = run_job(nights, SOURCES, embodiments=EMBODIMENTS, output="fresh")
    assert fresh.status == 0
    anew = outcomes(fresh.output)
    assert anew[smooth] == ("kept", None) and anew[shaky_one] == ("duplicate", smooth), "better quality wins otherwise"


def test_every_channel_is_told(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shaky_one, smooth, relabelled = "arm/1/train/000000", "arm/2/train/000000", "arm/3/train/000000"
    assert edges(published) == [
        (shaky_one, smooth, "trajectory", True, False, True, 1.0),
        (shaky_one, relabelled, "trajectory", True, True, True, OTHER_TEXT),
        (smooth, relabelled, "trajectory", True, True, True, OTHER_TEXT),
    ]
    row = read_ledger(published)[smooth]
    assert row["rule"] == "duplicate.trajectory"
    assert re.fullmatch(
        f"trajectory similarity [0-9.]+, frames [0-9.]+, instruction 1.0000 to {shaky_one}", row["detail"]
    )
    assert main(["why", smooth, "--output", str(published), "--plot", str(published.parent / "why.png")]) == 0
    assert f"channel by channel: {row['detail']}" in capsys.readouterr().out.replace("\n", " ")
    page = (published / "report.html").read_text(encoding="utf-8")
    assert "Equal motion under another instruction" in page and "slide the cup off the table" in page
    assert row["detail"] in page


def test_the_same_motion_before_another_camera_or_under_another_text_stays(published: Path) -> None:
    found = outcomes(published)
    assert found["arm/3/train/000000"] == ("kept", None)
    assert found["arm/4/train/000007"] == ("kept", None)


def test_relabelled_copies_go_where_the_configuration_says_so(nights: Path, published: Path, tmp_path: Path) -> None:
    config = nights / "job.yaml"
    shaky_one, relabelled = "arm/1/train/000000", "arm/3/train/000000"
    output = shutil.copytree(published, tmp_path / "out")
    config.write_text(config.read_text() + "\nselect: {drop_relabelled: true}\n")
    assert main(["decide", "--config", str(config), "--output", str(output)]) == 0
    gone = read_ledger(output)["arm/3/train/000000"]
    found = outcomes(output)
    gone = read_ledger(output)[shaky_one]
    assert gone["duplicate_of"] == relabelled, "both were published; the smoother one stays"
    assert f"instruction 0.0526, relabelled, to {relabelled}" in gone["detail"]
    assert found["arm/2/train/000000"] == ("duplicate", relabelled) and found[relabelled] == ("kept", None)
