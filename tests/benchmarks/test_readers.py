"""The readers' benchmark on a few megabytes: every format gives its ratio, and a bar that is missed fails a check."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import mcap_arms, mcap_corpus, rosbag_arms, rosbag_corpus
from benchmarks.harness import Bar, Report, Row, finish
from benchmarks.readers import hdf5_rows, lerobot_rows, measure, rlds_rows, video_rows
from tests.rosbag_files import by_rosbags
from transforms.conventions import Embodiment, Source
from transforms.sources import mcap, rosbag1


def test_lerobot_and_hdf5_sides_see_the_same_rows(tmp_path: Path) -> None:
    rows = {row.name: row for row in [*lerobot_rows(tmp_path, 2, 1), *hdf5_rows(tmp_path, 2, 1)]}
    for name in ("lerobot group per episode", "lerobot group per file", "hdf5 numeric", "hdf5 images"):
        ratio, size = rows[f"{name}: ratio"].value, rows[f"{name}: size"].value
        assert ratio is not None and ratio > 0
        assert size is not None and size >= 1.9
    assert not any(tmp_path.iterdir())


def test_video_sides_see_the_same_frames(tmp_path: Path) -> None:
    rows = {row.name: row.value for row in video_rows(tmp_path, 0.5)}
    assert {"video: ratio", "video: ratio, mean of the luma plane", "video: ratio, no pixel touched"} <= set(rows)


def test_mcap_sides_see_the_same_messages_and_ours_the_same_numbers(tmp_path: Path) -> None:
    corpus = mcap_corpus.write_mcap(tmp_path / "mcap", 0.1, chunks=1)
    (path,) = corpus.files
    assert {mcap_arms.mcap_arm(path)().units, corpus.steps} == {4 * mcap_corpus.CYCLES_PER_CHUNK}
    assert {mcap_arms.support_arm(path, way)().units for way in mcap_arms.WAYS} == {corpus.steps}
    source = Source("m", str(path))
    (ref,) = mcap.plan(source, path)
    streams = mcap.read(ref, source, Embodiment()).streams
    first = next(m for m in mcap_arms.decoded(path, mcap_arms.WAYS[0]) if m.velocity)
    row = streams["observation.state"].slice(0, 1).to_pylist()[0]
    joints = len(mcap_corpus.JOINTS)
    assert row["observation.state"][:joints] == first.position and row["observation.effort"][:joints] == first.effort


def test_bag_sides_see_the_same_messages_and_ours_the_same_numbers(tmp_path: Path) -> None:
    corpus = rosbag_corpus.write_rosbags(tmp_path / "bags", 6, chunks=1)
    first, _, packed = corpus.files[:3]
    many = len(rosbag_corpus.TOPICS) * rosbag_corpus.CYCLES_PER_CHUNK
    assert b"compression=lz4" in packed.read_bytes()[:6000] and corpus.steps == many * len(corpus.files)
    for path in (first, packed):
        assert rosbag_arms.rosbag_arm(path)().units == many
        assert {rosbag_arms.rosbags_arm(path, way)().units for way in rosbag_arms.WAYS} == {many}
    source = Source("b", str(packed))
    (ref,) = rosbag1.plan(source, packed)
    recording = rosbag1.read(ref, source, Embodiment())
    assert {finding.check for finding in recording.findings} <= {"timestamps.log_delay_ms", "alignment.topic_skew_ms"}
    messages = [m for _, m in by_rosbags(packed, "/left/joint_states")]
    rows = next(b for b in recording.streams.values() if "observation.effort" in b.schema.names).to_pylist()
    assert [row["observation.effort"][:7] for row in rows] == [m.effort.tolist() for m in messages]


def test_without_tensorflow_the_rows_say_why(tmp_path: Path) -> None:
    rows = rlds_rows(tmp_path, 1, 1, tmp_path / "absent/python")
    assert [(row.name, row.value) for row in rows] == [("rlds numeric: ratio", None), ("rlds images: ratio", None)]
    assert all("make tensorflow" in row.note and "absent/python" in row.note for row in rows)


def test_tensorflow_sees_every_record(tmp_path: Path) -> None:
    interpreter = Path(__file__).parents[2] / ".venv-tensorflow/bin/python"
    if not interpreter.is_file():
        pytest.skip("no TensorFlow environment: `make tensorflow` creates it")
    report = measure(["rlds"], 2, 1, interpreter)
    names = [f"rlds {corpus}{part}: ratio" for corpus in ("numeric", "images") for part in ("", " to columns")]
    assert [bar.row for bar in report.bars] == names
    assert all(row.value for row in report.rows)


def test_check_fails_on_a_bar_out_of_reach(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("toy", [Row("toy: ratio", 1.0, "x")], [Bar("toy: ratio", "min", 1e9)], command="toy")
    assert finish(report, tmp_path / "report.json", check=True) == 1
    assert "falls short: toy: ratio is 1, bar >= 1e+09" in capsys.readouterr().out
    assert finish(report, None, check=False) == 0
    assert json.loads((tmp_path / "report.json").read_text())["rows"][0]["value"] == 1.0
