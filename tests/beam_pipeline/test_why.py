"""Why: every outcome explained in words against the numbers of the raw files, and the streams plotted."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beam_pipeline.__main__ import main
from beam_pipeline.curated import CuratedSet
from beam_pipeline.episode_steps import steps_of
from beam_pipeline.explanation import explain
from tests.factories import motion, write_isaac, write_video
from tests.job import read_ledger, write_config

SOURCES = """\
  - {name: i, path: isaac, format: isaac_hdf5, embodiment: arm}
  - {name: v, path: video, embodiment: panda}
  - {name: bag, path: bag, embodiment: panda}"""
EPOCH_S = 1_700_000_000
"""Bags, and this video, count their time from 1970."""
EMBODIMENTS = """
  panda:
    rate_hz: 20
  arm:
    rate_hz: 20
    joints:
      names: [j1, j2, j3, j4, j5, j6, j7]
      position: {column: states.articulation.robot.joint_position, start: 0, end: 7}
      unit: rad
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("why")
    bad = motion(6)
    bad[5:7] = np.nan
    write_isaac(folder / "isaac/a.hdf5", {0: motion(5), 1: bad, 2: motion(7), 3: motion(5)})
    (folder / "isaac/b.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(40))
    write_video(folder / "video/v.mp4", 60)
    (folder / "video/v.json").write_text('{"episodes": [{"start": 0, "end": 1.4}, {"start": 1.6, "end": 2.9}]}')
    times = np.arange(60) / 20.0
    lines = ["timestamp,x,y"] + [f"{t:.3f},{np.sin(t):.5f},{np.cos(t):.5f}" for t in times]
    (folder / "video/v.csv").write_text("\n".join(lines) + "\n")
    write_video(folder / "bag/b.mp4", 60)
    late = (EPOCH_S + times).tolist()
    marks = [{"start": EPOCH_S, "end": EPOCH_S + 1.4}, {"start": EPOCH_S + 1.6, "end": EPOCH_S + 2.9}]
    (folder / "bag/b.json").write_text(json.dumps({"timestamps": late, "episodes": marks}))
    lines = ["timestamp,x,y"] + [
        f"{at:.3f},{np.sin(t):.5f},{np.tan(t / 9):.5f}" for at, t in zip(late, times, strict=True)
    ]
    (folder / "bag/b.csv").write_text("\n".join(lines) + "\n")
    (folder / "out").mkdir()
    (folder / "out/verdicts.csv").write_text("episode_id,verdict,who,why\ni/a/000002,reject,Ann,wrong cube\n")
    config = write_config(folder, SOURCES, embodiments=EMBODIMENTS)
    assert main(["curate", "--config", str(config), "--output", str(folder / "out")]) == 0
    return folder


def why(folder: Path, capsys: pytest.CaptureFixture[str], name: str, *flags: str) -> tuple[int, str, str]:
    picture = folder / "why.png"
    picture.unlink(missing_ok=True)
    status = main(["why", name, "--output", str(folder / "out"), "--plot", str(picture), *flags])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_a_rejected_episode_is_read_again_and_its_place_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = why(folder, capsys, "i/a/000001")
    assert status == 0
    assert "i/a/000001 of source i (40 steps) was rejected" in out
    assert "the rule integrity.nan is broken: transitions hold values that are not finite" in out
    assert "above the limit of 0" in out
    assert f"plot: {folder / 'why.png'} (steps read again from its source)" in out
    assert min(Image.open(folder / "why.png").size) > 300
    published = CuratedSet(folder / "out")
    steps = steps_of(published, explain(published, "i/a/000001"), folder / "job.yaml").table
    read = np.array([row[:7] for row in steps.column("action").to_pylist()])
    expected = motion(6)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(read).any(axis=1)), [5, 6])
    np.testing.assert_array_equal(read[8:], expected[8:].astype("f8"))


def test_each_other_outcome(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = read_ledger(folder / "out")
    twin, other = sorted(("i/a/000000", "i/a/000003"), key=lambda name: ledger[name]["outcome"])
    assert (ledger[twin]["outcome"], ledger[other]["outcome"]) == ("duplicate", "kept")
    _, out, _ = why(folder, capsys, twin)
    assert f"it repeats {other}: exact similarity 1" in out and f"its representative {other} is kept" in out
    _, out, _ = why(folder, capsys, other)
    assert "it passes every rule" in out and f"it stands for:\n  {twin}: exact similarity 1.0000" in out
    assert "(steps published)" in out
    _, out, _ = why(folder, capsys, "i/a/000002")
    assert "a person decided: rejected by Ann: wrong cube; the rules keep it" in out
    broken = next(name for name, row in ledger.items() if row["outcome"] == "quarantined")
    status, out, _ = why(folder, capsys, broken)
    assert status == 0 and "it could not be processed at load:" in out and "no plot: it cannot be read:" in out
    _, out, _ = why(folder, capsys, "v/v")
    assert "its 4 parts are decided each for itself" in out and "  v/v/1600000000: kept, 1.300 s from 1.600 s" in out
    assert (folder / "why.png").exists()
    _, out, _ = why(folder, capsys, "v/v/1600000000")
    assert "it is a part of v/v, 1.300 s from 1.600 s" in out


def test_an_unknown_id_names_near_ones(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = why(folder, capsys, "i/a/00001")
    assert status == 2 and "no episode is 'i/a/00001'; did you mean 'i/a/000001'" in err


def test_a_source_that_is_gone_costs_the_picture_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.move(folder / "isaac", folder / "away")
    try:
        status, out, _ = why(folder, capsys, "i/a/000001")
    finally:
        shutil.move(folder / "away", folder / "isaac")
    assert status == 0 and "the rule integrity.nan is broken" in out
    assert f"no plot: source 'i' is gone, there is nothing at {folder / 'isaac'}" in out
    assert not (folder / "why.png").exists()


def test_a_rule_with_a_limit_names_the_nearest(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(folder, SOURCES, "\nselect: {rules: {quality.ldlj: {min: 0}}}", EMBODIMENTS)
    shutil.copytree(folder / "out", tmp_path / "out")
    assert main(["decide", "--config", str(config), "--output", str(tmp_path / "out")]) == 0
    status = main(["why", "i/a/000000", "--output", str(tmp_path / "out"), "--plot", str(tmp_path / "x.png")])
    out = capsys.readouterr().out
    assert status == 0 and "below the limit of 0" in out and "the motion is not smooth" in out
    assert "of 4 episodes of i with this check," in out and "nearest:\n  i/a/00000" in out
    write_config(folder, SOURCES, embodiments=EMBODIMENTS)


def test_places_are_told_from_the_start_of_the_episode_whatever_its_clock(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = "\nselect: {rules: {alignment.max_gap_ms: {max: 20}}}"
    config = write_config(folder, SOURCES, rules, EMBODIMENTS)
    shutil.copytree(folder / "out", tmp_path / "out")
    try:
        assert main(["decide", "--config", str(config), "--output", str(tmp_path / "out")]) == 0
    finally:
        write_config(folder, SOURCES, embodiments=EMBODIMENTS)
    flags = ["--output", str(tmp_path / "out"), "--plot", str(tmp_path / "x.png")]
    name = f"bag/b/{EPOCH_S + 1}600000000"
    assert main(["why", "bag/b", *flags]) == 0
    assert f"  {name}: rejected by alignment.max_gap_ms, 1.300 s from 1.600 s" in capsys.readouterr().out
    assert main(["why", name, *flags]) == 0
    out = capsys.readouterr().out
    assert "it is a part of bag/b, 1.300 s from 1.600 s" in out
    times = [float(text) for text in re.findall(r"found from ([-\d.]+) s to ([-\d.]+) s", out)[0]]
    assert times[1] - times[0] == pytest.approx(0.05) and -1.6 <= times[0] < 1.3


def test_bad_usage(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", "x"]) == 2
    assert main(["why", "x", "--output", str(tmp_path)]) == 1
    assert "holds no published run" in capsys.readouterr().err
    assert main(["why", "x", "--output", str(folder / "out"), "--nonsense"]) == 2
