"""Temporal alignment against signals known in closed form, clocks with planted faults, and the graph."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.error_handling import ErrorHandler
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tests.transforms.recordings import batch, clock, recording
from transforms.arrays import column_matrix, times_ns
from transforms.episode import Finding, ImageRef, Recording, VideoRef
from transforms.resampling import low_pass
from transforms.schema import ACTION, END_EFFECTOR_POSE, IS_FIRST, IS_TERMINAL, REWARD, STATE, VALID
from transforms.stage import DeadLetter, Unreadable
from transforms.stream_columns import resample_stream
from transforms.temporal_alignment import TemporalAlignmentParams, TemporalAlignmentStage, align

MS = 1_000_000
PLAIN = TemporalAlignmentParams()
VIDEO = VideoRef("a.mp4", 0, 10**10, content_hash="00")


def measured(result: Recording, check: str, of: str = "steps") -> Finding:
    (finding,) = (f for f in result.findings if f.check == check and f.detail.startswith(f"stream {of}"))
    return finding


def frames(times: np.ndarray) -> pa.RecordBatch:
    return batch(times, pts_ns=np.asarray(times) + 7 * MS)


def column(result: Recording, name: str) -> np.ndarray:
    values = column_matrix(result.streams["steps"], name)
    assert values is not None
    return values


def test_one_clock_is_not_resampled_and_frame_i_is_row_i() -> None:
    times = clock(10, 30)
    steps = batch(times, observation__state=np.arange(20.0).reshape(10, 2))
    videos = {"front": VIDEO, "wrist": ImageRef("a.h5", "x", 9)}
    result = align(recording({"steps": steps, "video.front": frames(times)}, videos=videos), PLAIN)
    assert set(result.streams) == {"steps"}
    out = result.streams["steps"]
    assert out.select(steps.schema.names).equals(steps)
    assert out.column("observation.images.front.pts_ns").to_pylist() == (times + 7 * MS).tolist()
    assert out.column("observation.images.wrist.index").to_pylist() == [*range(9), None]
    assert VALID not in out.schema.names
    assert measured(result, "timestamps.backward").value == 0


def test_two_rates_with_offset_clocks_meet_the_closed_form() -> None:
    """A 1 Hz sine at 200 Hz whose clock is 3.3 ms off the camera's 30 Hz: linear error < (pi dt)^2 / 2 = 1.3e-4 rad."""
    rows = clock(1000, 200, 3_300_000)
    seconds = rows / 1e9
    joint = np.stack([np.sin(2 * np.pi * seconds), seconds], axis=1)
    camera = clock(120, 30, 500 * MS)
    streams = {"joints": batch(rows, observation__state=joint), "video.front": frames(camera)}
    result = align(recording(streams, videos={"front": VIDEO}), PLAIN)
    at = camera / 1e9
    out = column(result, STATE)
    assert times_ns(result.streams["steps"]).tolist() == camera.tolist()
    assert np.abs(out[:, 1] - at).max() < 1e-6
    inner = slice(15, -15)
    assert np.abs(out[inner, 0] - np.sin(2 * np.pi * at[inner])).max() < 2e-3
    assert np.abs(out[:, 0] - np.sin(2 * np.pi * at)).max() < 0.02
    assert column(result, VALID).all()
    age = column(result, "staleness_ms.joints")[:, 0]
    assert age[0] == pytest.approx((500 - 3.3) % 5, abs=1e-3)
    assert age.max() < 5


def test_without_filter_linear_interpolation_is_within_its_own_bound() -> None:
    rows = clock(100, 50, 4 * MS)
    state = np.sin(2 * np.pi * rows / 1e9)[:, None]
    grid = TemporalAlignmentParams(rate_hz=50)
    other = batch(clock(100, 50), other=np.zeros((100, 1)))
    result = align(recording({"arm": batch(rows, observation__state=state), "other": other}), grid)
    at = times_ns(result.streams["steps"])
    assert at is not None
    assert at[0] == 4 * MS
    assert np.abs(column(result, STATE)[:, 0] - np.sin(2 * np.pi * at / 1e9)).max() <= (2 * np.pi * 0.02) ** 2 / 8


def test_what_the_new_rate_cannot_hold_is_filtered_out_and_slow_motion_is_not_delayed() -> None:
    rows = clock(1000, 100)
    seconds = rows / 1e9
    slow, fast = np.sin(2 * np.pi * 0.5 * seconds), np.sin(2 * np.pi * 9.0 * seconds)
    steps = batch(rows, observation__state=np.stack([slow, fast, slow + fast], axis=1))
    result = align(recording({"steps": steps}), TemporalAlignmentParams(rate_hz=10))
    out = column(result, STATE)[15:-15]
    at = times_ns(result.streams["steps"])[15:-15] / 1e9
    assert np.abs(out[:, 0] - np.sin(np.pi * at)).max() < 2e-3
    assert np.abs(out[:, 1]).max() < 2e-3
    assert np.abs(out[:, 2] - np.sin(np.pi * at)).max() < 4e-3


def test_quaternions_slerp_through_sign_flips() -> None:
    rows = clock(21, 10)
    angle = np.linspace(0, 4.0, 21)
    quaternions = Rotation.from_rotvec(angle[:, None] * [0, 0, 1]).as_quat()
    quaternions[::3] *= -1
    pose = np.hstack([np.zeros((21, 3)), quaternions])
    result = align(
        recording({"steps": batch(rows, observation__end_effector_pose=pose)}), TemporalAlignmentParams(rate_hz=40)
    )
    out = column(result, END_EFFECTOR_POSE)[:, 3:]
    expected = Rotation.from_rotvec(np.arange(len(out))[:, None] * [0, 0, 0.05])
    assert (Rotation.from_quat(out) * expected.inv()).magnitude().max() < 1e-9
    assert np.linalg.norm(out, axis=1) == pytest.approx(1)


def test_commands_modes_and_text_are_held_and_never_from_the_future() -> None:
    rows = np.array([0, 100, 200, 300]) * MS
    steps = batch(
        rows,
        action=np.array([[0.0], [1.0], [2.0], [3.0]]),
        mode=np.array([1, 2, 3, 4]),
        task=["a", "b", "c", "d"],
        reward=[1.0, 2.0, 4.0, 8.0],
        is_first=[True, False, False, False],
        is_terminal=[False, False, False, True],
    )
    up = align(recording({"steps": steps}), TemporalAlignmentParams(rate_hz=20)).streams["steps"]
    assert column_matrix(up, ACTION)[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert up.column("mode").to_pylist() == [1, 1, 2, 2, 3, 3, 4]
    assert up.column("task").to_pylist() == ["a", "a", "b", "b", "c", "c", "d"]
    assert up.column(REWARD).to_pylist() == [1, 0, 2, 0, 4, 0, 8]
    assert up.column(IS_FIRST).to_pylist() == [True] + [False] * 6
    down = align(recording({"steps": steps}), TemporalAlignmentParams(rate_hz=5)).streams["steps"]
    assert down.column(REWARD).to_pylist() == [3, 12]
    assert down.column(IS_TERMINAL).to_pylist() == [False, True]
    assert down.column("frame_index").to_pylist() == [0, 1]


def test_declared_rotations_inside_raw_columns_are_held() -> None:
    steps = batch(clock(2, 10), observation__state=np.array([[0.0, 3.1], [1.0, -3.1]]))
    conventions = {"rotation_column": "observation.state[1:2]"}
    result = align(recording({"steps": steps}, conventions=conventions), TemporalAlignmentParams(rate_hz=20))
    assert column(result, STATE).tolist() == [[0, 3.1], [0.5, 3.1], [1, -3.1]]


def test_nothing_is_interpolated_across_a_gap() -> None:
    rows = np.array([0, 50, 100, 400, 450]) * MS
    steps = batch(rows, observation__state=np.arange(5.0)[:, None], action=np.arange(5.0)[:, None])
    result = align(recording({"steps": steps}), TemporalAlignmentParams(rate_hz=20))
    out = result.streams["steps"]
    assert out.column(VALID).to_pylist() == [True, True, True, False, False, False, False, False, True, True]
    assert out.column(STATE).to_pylist()[2:9] == [[2.0], None, None, None, None, None, [3.0]]
    assert out.column(ACTION).to_pylist()[2:9] == [[2.0], None, None, None, None, None, [3.0]]
    assert column(result, "staleness_ms.steps")[2:9, 0].tolist() == [0, 50, 100, 150, 200, 250, 0]
    gap = measured(result, "alignment.max_gap_ms")
    assert (gap.value, gap.interval, gap.frames) == (300.0, (100 * MS, 400 * MS), None)  # rows of the old clock
    assert measured(result, "alignment.drop_rate").value == 0.5


def test_frames_match_within_half_a_frame_period_only() -> None:
    camera = np.array([0, 40, 80, 200, 240]) * MS
    steps = batch(np.array([0, 19, 21, 61, 101, 139, 181]) * MS, observation__state=np.zeros((7, 1)))
    result = align(recording({"steps": steps, "video.front": frames(camera)}, videos={"front": VIDEO}), PLAIN)
    pts = result.streams["steps"].column("observation.images.front.pts_ns").to_pylist()
    assert [None if p is None else (p - 7 * MS) // MS for p in pts] == [0, 0, 40, 80, None, None, 200]
    (share,) = (f for f in result.findings if f.check == "alignment.steps_without_frame")
    assert (share.value, share.frames) == (pytest.approx(2 / 7), (4, 5))


@pytest.mark.parametrize(
    ("stamps", "check", "count", "at", "interval"),
    [
        ([0, 100, 200, 150, 300, 250], "timestamps.backward", 2, (3, 3), (150, 200)),
        ([0, 100, 100, 100, 200, 200], "timestamps.equal", 3, (2, 3), (100, 100)),
        ([0, 100, None, None, 400, 500], "timestamps.missing", 2, (2, 3), None),
    ],
)
def test_a_bad_clock_is_reported_and_its_rows_are_left_alone(
    stamps: list[int | None], check: str, count: int, at: tuple[int, int], interval: tuple[int, int] | None
) -> None:
    steps = batch(stamps, observation__state=np.arange(6.0)[:, None])
    result = align(recording({"steps": steps}), TemporalAlignmentParams(rate_hz=100))
    assert result.streams["steps"].equals(steps)
    finding = measured(result, check)
    assert (finding.value, finding.frames, finding.interval) == (count, at, interval)
    assert measured(result, "alignment.jitter_ms").status == "not_run"


def test_rows_of_a_clock_that_is_left_become_intervals() -> None:
    steps = batch(np.array([0, 10, 20, 70, 80]) * MS, observation__state=np.zeros((5, 1)))
    flagged = Finding("load", "metadata.is_first", 1.0, "steps", frames=(3, 4), detail="stream steps")
    one = recording({"steps": steps}, findings=(flagged,))
    for rate_hz, frames, interval in ((None, (3, 4), None), (50, None, (70 * MS, 80 * MS))):
        result = align(one, TemporalAlignmentParams(rate_hz=rate_hz))
        gap, kept = measured(result, "alignment.max_gap_ms"), measured(result, "metadata.is_first")
        assert (kept.frames, kept.interval) == (frames, interval)
        assert (gap.frames, gap.interval) == (frames and (2, 3), (20 * MS, 70 * MS))


def test_no_time_at_all_passes_with_checks_not_run() -> None:
    steps = batch([None] * 4, observation__state=np.zeros((4, 1)))
    result = align(recording({"steps": steps}), PLAIN)
    assert result.streams["steps"].equals(steps)
    assert {f.status for f in result.findings} == {"not_run"}
    assert "rate_hz" in measured(result, "timestamps.missing").detail


def test_jitter_is_the_p95_of_the_deviation_from_the_median() -> None:
    steps = batch(np.cumsum([0] + [100] * 90 + [110] * 10) * MS, observation__state=np.zeros((101, 1)))
    assert measured(align(recording({"steps": steps}), PLAIN), "alignment.jitter_ms").value == 10.0


def test_the_fastest_sensor_rules_where_two_cameras_watch_and_events_never_invalidate() -> None:
    streams = {
        "slow": batch(clock(5, 10), observation__force=np.zeros((5, 1))),
        "fast": batch(clock(21, 50), observation__state=np.zeros((21, 1))),
        "notes": batch([0, 390 * MS], note=["go", "stop"]),
        "video.a": frames(clock(13, 30)),
        "video.b": frames(clock(13, 30)),
    }
    result = align(recording(streams, videos={"a": VIDEO, "b": VIDEO}), PLAIN)
    out = result.streams["steps"]
    assert times_ns(out).tolist() == clock(21, 50).tolist()
    assert out.column(VALID).to_pylist() == [True] * 21
    assert out.column("note").to_pylist() == ["go"] * 20 + ["stop"]
    assert out.column("staleness_ms.notes").to_pylist()[19] == pytest.approx(380)


def test_a_sensor_out_of_order_beside_a_camera_keeps_its_rows() -> None:
    sensor = batch(np.array([0, 40, 30, 80]) * MS, observation__state=np.arange(4.0)[:, None])
    streams = {"arm": sensor, "video.front": frames(clock(10, 25))}
    result = align(recording(streams, videos={"front": VIDEO}), PLAIN)
    out = result.streams["steps"]
    assert out.select(sensor.schema.names).equals(sensor)
    pts = out.column("observation.images.front.pts_ns").to_pylist()
    assert [(p - 7 * MS) // MS for p in pts] == [0, 40, 40, 80]
    assert measured(result, "timestamps.backward", "arm").value == 1


def test_streams_that_share_no_time_say_so() -> None:
    streams = {"a": batch(clock(3, 10), x=[0.0] * 3), "b": batch(clock(3, 10, 10**9), y=[0.0] * 3)}
    with pytest.raises(Unreadable, match="the last begins at 1000000000 ns, the first ends at 200000000 ns"):
        align(recording(streams), TemporalAlignmentParams(rate_hz=10))
    with pytest.raises(Unreadable, match="no stream 'c' to align to; streams with rows: a, b"):
        align(recording(streams), TemporalAlignmentParams(reference="c"))
    late = {"a": batch([0, 10**18], x=[0.0, 1.0])}
    with pytest.raises(Unreadable, match="the limit is max_steps = 10000000"):
        align(recording(late), TemporalAlignmentParams(rate_hz=10))
    with pytest.raises(ValueError, match=r"rate_hz is 0\.0; need 0 < rate_hz <= 10000"):
        TemporalAlignmentParams(rate_hz=0.0)


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.integers(1, 400), min_size=1, max_size=40),
    rate=st.floats(1, 200),
    slope=st.floats(-5, 5),
)
def test_a_straight_line_stays_straight_and_invalid_steps_hold_nothing(
    gaps: list[int], rate: float, slope: float
) -> None:
    times = np.concatenate([[0], np.cumsum(gaps)]) * MS
    steps = batch(times, observation__state=(slope * times / 1e9)[:, None])
    result = align(recording({"steps": steps}), TemporalAlignmentParams(rate_hz=rate)).streams["steps"]
    at = times_ns(result)
    state, valid = column_matrix(result, STATE), column_matrix(result, VALID)[:, 0] == 1
    assert at[0] == 0
    assert at[-1] <= times[-1]
    assert np.isnan(state[~valid, 0]).all()
    assert np.abs(state[valid, 0] - slope * at[valid] / 1e9).max(initial=0) < 1e-6


def test_the_stage_in_a_graph_with_a_dead_letter() -> None:
    good = recording({"steps": batch(clock(3, 10), observation__state=np.zeros((3, 1)))})
    empty = replace(recording({"arm": batch([], x=pa.array([], pa.float32()))}), recording_id="lab/000001")
    with TestPipeline(FnApiRunner()) as pipeline:
        with ErrorHandler(_Letters()) as handler:
            stage = TemporalAlignmentStage(PLAIN).with_error_handler(handler)
            aligned = pipeline | beam.Create([good, empty]) | stage
        names = aligned | beam.Map(lambda r: (r.recording_id, r.streams["steps"].num_rows))
        assert_that(names, equal_to([("lab/000000", 3)]), "aligned")
        assert_that(handler.output(), equal_to([("lab/000001", "empty")]), "dead")


class _Letters(beam.PTransform):
    def expand(self, letters: beam.PCollection[DeadLetter]) -> beam.PCollection[tuple[str, str]]:
        return letters | "Name letters" >> beam.Map(lambda letter: (letter.episode_id, letter.rule))


def test_columns_of_odd_shapes_are_resampled() -> None:
    times = np.arange(10) * 50_000_000
    reward = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(10, dtype="f4")), 1)
    columns = {
        "timestamp_ns": pa.array(times),
        "reward": reward,
        "none": pa.array([[]] * 10, pa.list_(pa.float32(), 0)),
    }
    moved = resample_stream(pa.RecordBatch.from_pydict(columns), times, times[1::2], {}).columns
    assert moved["reward"].to_pylist() == [3.0, 7.0, 11.0, 15.0, 9.0]
    assert moved["none"].to_pylist() == [[]] * 5


def test_stamps_in_bursts_are_filtered_in_the_memory_of_their_rows() -> None:
    times = (np.arange(200)[:, None] * 10 * MS + np.arange(10) * 1000).ravel()
    values = np.stack([times / 1e9, np.sin(2 * np.pi * 1.0 * times / 1e9)], axis=1)
    tracemalloc.start()
    smooth = low_pass(times, values, 50 * MS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000, "a grid of the median period of 1 us would have 1000 points a row"
    np.testing.assert_allclose(smooth[200:-200], values[200:-200], atol=0.02)
