from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import write_video
from transforms.arrays import times_ns
from transforms.conventions import Embodiment, Source
from transforms.episode import Recording, RecordingRef, Utterance, VideoRef
from transforms.loader import MultimodalLoader
from transforms.sources import video
from transforms.sources.sidecar import gather_vectors
from transforms.stage import Unreadable
from transforms.temporal_alignment import TemporalAlignmentParams, align

ROBOT = Embodiment()


def source_of(path: Path, **values: object) -> Source:
    return replace(Source("v", str(path), "video"), **values)  # type: ignore[arg-type]


def plan(path: Path, **values: object) -> list[RecordingRef]:
    return list(video.plan(source_of(path, **values), path))


def load(path: Path, robot: Embodiment = ROBOT, **values: object) -> Recording:
    (ref,) = plan(path, **values)
    return video.read(ref, source_of(path, **values), robot)


def rule_of(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(Unreadable) as caught:
        call()
    return caught.value.problem.rule, caught.value.problem.detail


@pytest.fixture()
def clip(tmp_path: Path) -> Path:
    write_video(tmp_path / "a.mp4", 40)
    return tmp_path / "a.mp4"


def test_a_video_alone(clip: Path) -> None:
    recording = load(clip)
    assert recording.recording_id == "v/a" and not recording.explicit
    assert list(recording.streams) == ["video.main"]
    frames = recording.streams["video.main"]
    assert frames.column("pts_ns").to_pylist() == [50_000_000 * i for i in range(40)]
    assert frames.column("timestamp_ns") == frames.column("pts_ns")
    ref = recording.videos["main"]
    assert isinstance(ref, VideoRef)
    assert (ref.start_ns, ref.end_ns, ref.origin_ns, len(ref.content_hash)) == (0, 1_950_000_000, 0, 32)
    (finding,) = recording.findings
    assert (finding.check, finding.status) == ("metadata.sidecar", "not_run")


def test_sensors_instructions_and_marks(clip: Path) -> None:
    rows = "".join(f"{i / 50:.3f},{i},{2 * i},{v}\n" for i, v in enumerate(["1.5", "nan", "inf", "-inf", ""]))
    clip.with_suffix(".sensors.csv").write_text("timestamp,q[0],q[1],force\n" + rows)
    said = [{"text": "pick", "start": 0, "end": 1.5}, {"text": "place", "start": 1.5}]
    marks = [{"start": 0, "end": 1}, {"start": 1, "end": 1.95}]
    content = {"instruction": said, "episodes": marks, "operator": "x", "success": True}
    clip.with_suffix(".json").write_text(json.dumps(content))
    recording = load(clip)
    sensors = recording.streams["sensors"]
    assert sensors.column("timestamp_ns").to_pylist() == [0, 20_000_000, 40_000_000, 60_000_000, 80_000_000]
    assert sensors.column("q").to_pylist()[2] == [2, 4]
    force = sensors.column("force").to_pylist()
    assert force[0] == 1.5 and np.isnan(force[1]) and force[2:] == [np.inf, -np.inf, None]
    assert recording.utterances == (Utterance("pick", 0, 1_500_000_000), Utterance("place", 1_500_000_000))
    assert json.loads(recording.attributes["episodes"]) == [[0, 10**9], [10**9, 1_950_000_000]]
    assert json.loads(recording.attributes["operator"]) == "x"
    assert recording.success is True and not recording.explicit and recording.findings == ()


def test_one_instruction_and_a_table_in_json(clip: Path) -> None:
    content = {"instruction": "open the drawer", "timestamp": [0, 50, 100], "x": [1.0, 2.0, 3.0], "note": ["a"]}
    clip.with_suffix(".json").write_text(json.dumps(content))
    recording = load(clip, time_unit="ms")
    assert recording.utterances == (Utterance("open the drawer"),)
    assert recording.streams["sensors"].column("timestamp_ns").to_pylist() == [0, 50_000_000, 100_000_000]
    assert recording.streams["sensors"].column("x").to_pylist() == [1.0, 2.0, 3.0]
    assert json.loads(recording.attributes["note"]) == ["a"]


def test_several_sidecars_are_streams_by_name(clip: Path) -> None:
    clip.with_suffix(".arm.csv").write_text("t,q\n0,1\n1000,2\n")
    table = pa.table({"t": pa.array([0, 500], pa.int64()), "wrench": pa.array([[1.0, 2.0], [3.0, 4.0]])})
    pq.write_table(table, clip.with_suffix(".force.parquet"))
    lines = [{"text": "reach", "t": 0}, {"text": "grasp", "start": 900, "end": 1200}]
    clip.with_suffix(".text.jsonl").write_text("\n".join(map(json.dumps, lines)))
    recording = load(clip, time_column="t", time_unit="us")
    assert sorted(recording.streams) == ["arm", "force", "video.main"]
    assert recording.streams["force"].column("timestamp_ns").to_pylist() == [0, 500_000]
    assert recording.utterances == (Utterance("reach", 0), Utterance("grasp", 900_000, 1_200_000))


def test_text_column_of_a_table(clip: Path) -> None:
    clip.with_suffix(".csv").write_text("timestamp,text\n0,pick\n0.5,pick\n1.0,place\n")
    assert load(clip).utterances == (Utterance("pick", 0, 10**9), Utterance("place", 10**9))


def test_camera_is_the_suffix_of_the_name(tmp_path: Path) -> None:
    for name in ("run.left.mp4", "run.mp4"):
        write_video(tmp_path / name, 5)
    (tmp_path / "run.csv").write_text("timestamp,x\n0,1\n0.2,2\n")
    (tmp_path / "run.left.csv").write_text("timestamp,y\n0,1\n0.2,2\n")
    refs = plan(tmp_path)
    assert [ref.recording_id for ref in refs] == ["v/run.left", "v/run"]
    left, main = (video.read(ref, source_of(tmp_path), ROBOT) for ref in refs)
    assert list(left.videos) == ["left"] and list(main.videos) == ["main"]
    assert left.streams["sensors"].schema.names == ["timestamp_ns", "timestamp", "y"]
    assert sorted(main.streams) == ["sensors", "video.main"]
    assert "x" in main.streams["sensors"].schema.names


def test_stated_times_of_frames(clip: Path) -> None:
    stamps = [1000.0 + i / 20 for i in range(40)]
    clip.with_suffix(".json").write_text(json.dumps({"timestamps": stamps}))
    recording = load(clip)
    frames = recording.streams["video.main"]
    assert frames.column("timestamp_ns").to_pylist() == [10**12 + 50_000_000 * i for i in range(40)]
    ref = recording.videos["main"]
    assert isinstance(ref, VideoRef) and (ref.start_ns, ref.origin_ns) == (0, 10**12)


def test_a_table_that_names_frames_gives_their_times(clip: Path) -> None:
    rows = "".join(f"{100 + i / 20},{i}\n" for i in reversed(range(40)))
    clip.with_suffix(".csv").write_text("timestamp,frame_index\n" + rows)
    times = times_ns(load(clip).streams["video.main"])
    assert times is not None and times[[0, 39]].tolist() == [100_000_000_000, 101_950_000_000]


def findings_of(recording: Recording) -> dict[str, float | None]:
    return {finding.check: finding.value for finding in recording.findings}


def test_stated_times_that_do_not_fit_are_reported(clip: Path) -> None:
    clip.with_suffix(".json").write_text(json.dumps({"timestamps": [0.0, 1.0]}))
    recording = load(clip)
    assert findings_of(recording) == {"metadata.frame_times": -38.0}
    assert recording.streams["video.main"].column("timestamp_ns").to_pylist()[1] == 50_000_000


def test_clocks_apart_and_rows_without_time(clip: Path) -> None:
    clip.with_suffix(".csv").write_text("timestamp,x\n101.95,1\n102,2\n")
    assert findings_of(load(clip)) == {"metadata.clocks_apart": 100.0}
    clip.with_suffix(".csv").write_text("timestamp,x\n0,1\nnan,2\ninf,3\n,4\n")
    recording = load(clip)
    assert findings_of(recording) == {"metadata.time_missing": 3.0}
    assert recording.streams["sensors"].column("timestamp_ns").to_pylist() == [0, None, None, None]


def test_no_time_column(clip: Path) -> None:
    clip.with_suffix(".csv").write_text("x\n1\n2\n")
    (finding,) = load(clip).findings
    assert (finding.check, finding.status) == ("metadata.time_column", "not_run") and "time_column" in finding.detail
    assert load(clip).streams["sensors"].column("timestamp_ns").null_count == 2
    assert load(clip, Embodiment(rate_hz=10)).streams["sensors"].column("timestamp_ns").to_pylist() == [0, 100_000_000]


def test_timestamps_as_dates(clip: Path) -> None:
    clip.with_suffix(".csv").write_text("timestamp,x\n1970-01-01 00:00:01,1\n1970-01-01 00:00:02,2\n")
    assert load(clip).streams["sensors"].column("timestamp_ns").to_pylist() == [10**9, 2 * 10**9]


@pytest.mark.parametrize("writer", ["polars", "pandas"])
def test_tables_mean_the_same_whoever_wrote_them(clip: Path, writer: str) -> None:
    """Polars writes large texts and lists, pandas a categorical by a dictionary: all are texts and vectors."""
    said, q = ["pick", "pick", "place"], [[0.1, 0.2], [0.2, 0.4], [0.4, 0.8]]
    values = {"timestamp": [0.0, 0.5, 1.0], "text": said, "q": q}
    path = clip.with_suffix(".parquet")
    if writer == "polars":
        polars.DataFrame(values).write_parquet(path)
        assert pq.read_schema(path).field("text").type == pa.large_string()
    else:
        frame = pandas.DataFrame(values).astype({"text": "category"})
        frame.to_parquet(path)
        assert pa.types.is_dictionary(pq.read_schema(path).field("text").type)
    recording = load(clip)
    assert recording.utterances == (Utterance("pick", 0, 10**9), Utterance("place", 10**9, None))
    steps = align(recording, TemporalAlignmentParams(rate_hz=4)).streams["steps"]
    expected = [[0.1, 0.2], [0.15, 0.3], [0.2, 0.4], [0.3, 0.6], [0.4, 0.8]]
    np.testing.assert_allclose(steps.column("q").to_pylist(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("suffix", "content", "rule", "words"),
    [
        (".json", "{broken", "corrupt", "not JSON"),
        (".json", "3", "corrupt", "neither an object nor a list"),
        (".json", '{"episodes": [{"start": 1}]}', "corrupt", "'episodes' is malformed"),
        (".json", '{"episodes": [{"start": 0, "end": 1e300}]}', "corrupt", "is beyond"),
        (".json", '{"timestamps": ["x"]}', "corrupt", "'timestamps' is malformed"),
        (".json", '{"instruction": 3}', "corrupt", "'instruction' is malformed"),
        (".json", '{"timestamp": [1, 2], "x": [1, "a"]}', "corrupt", "a column mixes types"),
        (".jsonl", '{"a": 1}\nnot json', "corrupt", "line 2: not JSON"),
        (".jsonl", "[1, 2]", "corrupt", "'rows' is malformed"),
        (".csv", "a,b\n1,2,3\n", "corrupt", "not readable as csv"),
        (".csv", "a,a\n1,2\n", "corrupt", "'a' appears twice"),
        (".csv", "", "empty", "0 bytes"),
        (".parquet", "PAR1 no parquet", "corrupt", "not readable as parquet"),
    ],
)
def test_broken_sidecars_are_named(clip: Path, suffix: str, content: str, rule: str, words: str) -> None:
    clip.with_suffix(suffix).write_text(content)
    found, detail = rule_of(lambda: load(clip))
    assert found == rule and words in detail and f"a{suffix}" in detail


def test_a_sidecar_without_rows_is_a_finding(clip: Path) -> None:
    clip.with_suffix(".csv").write_text("timestamp,x\n")
    assert findings_of(load(clip)) == {"metadata.sidecar_empty": 1.0}


def test_a_sidecar_that_vanished(clip: Path) -> None:
    clip.with_suffix(".csv").write_text("timestamp,x\n0,1\n")
    (ref,) = plan(clip)
    clip.with_suffix(".csv").unlink()
    assert rule_of(lambda: video.read(ref, source_of(clip), ROBOT))[0] == "absent"


@pytest.mark.parametrize(
    ("content", "rule", "words"),
    [
        (None, "truncated", "is cut off"),
        (b"this is text\n" * 20, "wrong_format", "neither mp4, mkv nor webm"),
        (b"", "empty", "0 bytes"),
    ],
)
def test_broken_videos_are_named_though_sidecars_are_fine(
    clip: Path, content: bytes | None, rule: str, words: str
) -> None:
    clip.with_suffix(".csv").write_text("timestamp,x\n0,1\n")
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2] if content is None else content)
    found, detail = rule_of(lambda: load(clip))
    assert found == rule and words in detail and "a.mp4" in detail


def test_required_columns(clip: Path) -> None:
    clip.with_suffix(".csv").write_text("timestamp,x\n0,1\n")
    assert load(clip, required=("x", "observation.images.main")).streams["sensors"].num_rows == 1
    rule, detail = rule_of(lambda: load(clip, required=("torque",)))
    assert rule == "required_missing" and "torque" in detail


def test_folders_name_what_is_no_video(clip: Path) -> None:
    clip.with_suffix(".csv").write_text("timestamp,x\n0,1\n")
    (clip.parent / "notes.bin").write_bytes(b"\0\1")
    problems = {ref.recording_id: ref.problem and ref.problem.rule for ref in plan(clip.parent)}
    assert problems == {"v/a": None, "v/notes.bin": "wrong_format"}
    (clip.parent / "none").mkdir()
    assert rule_of(lambda: plan(clip.parent / "none"))[0] == "empty"
    assert rule_of(lambda: plan(clip, splits=("train",)))[0] == "absent"


def test_detection_is_by_content_and_name(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "renamed").write_bytes(clip.read_bytes())
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "a.csv").write_text("x\n1\n")
    assert [video.detect(tmp_path / n) for n in ("a.mp4", "renamed", "text.mp4", "a.csv", "gone")] == [
        True,
        True,
        True,
        False,
        False,
    ]


@given(st.integers(1, 12), st.booleans())
def test_gathered_vectors_hold_the_same_numbers(width: int, gap: bool) -> None:
    columns = {f"q[{i}]": pa.array([float(i), float(i) + 0.5]) for i in reversed(range(width))}
    if gap:
        columns[f"q[{width + 1}]"] = pa.array([0.0, 0.0])
    gathered = gather_vectors(columns)
    if gap:
        assert list(gathered) == list(columns)
    else:
        assert gathered["q"].to_pylist() == [[float(i) for i in range(width)], [i + 0.5 for i in range(width)]]


def test_in_a_pipeline(clip: Path) -> None:
    clip.with_suffix(".csv").write_text("timestamp,x\n0,1\n")

    def check(recordings: list[Recording]) -> None:
        assert [sorted(r.streams) for r in recordings] == [["sensors", "video.main"]]

    with TestPipeline(runner=FnApiRunner()) as pipeline:
        assert_that(pipeline | MultimodalLoader([source_of(clip)], {}), check)


def test_real_video(robot_data: Path) -> None:
    recording = load(robot_data / "mcap_prismax/100/robot.left_camera.color.image_raw.mp4")
    frames = recording.streams["video.image_raw"]
    pts = frames.column("pts_ns").to_numpy()
    assert len(pts) == 958 and pts[:3].tolist() == [0, 40_015_000, 79_999_000]
    assert recording.attributes["video.codec"] == '"h264"'
