"""Quality: formulas against hand-worked numbers, cameras drawn frame by frame, and truths of real recordings."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that
from apache_beam.transforms.error_handling import CollectingErrorHandler
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from transforms.arrays import Floats, list_column
from transforms.episode import TIMESTAMP, Episode, Finding, ImageRef, VideoRef
from transforms.frames import FrameParams
from transforms.motion import MotionParams, measure_motion
from transforms.quality import DataQualityParams, DataQualityScorer, count_flips, score, tracking_residual
from transforms.schema import ACTION, ACTION_GRIPPER, END_EFFECTOR_POSE, GRIPPER, JOINT_POSITION, STATE, VALID
from transforms.smoothness import ldlj, sparc, uniform

PARAMS = DataQualityParams()


def no_images(ref: ImageRef, indices: Sequence[int]) -> list[bytes]:
    raise AssertionError("no image should be read")


def episode(columns: dict[str, Floats | pa.Array], dt_s: float | None = 0.1, **changes: object) -> Episode:
    arrays = {k: v if isinstance(v, pa.Array) else list_column(v) for k, v in columns.items()}
    count = len(next(iter(arrays.values())))
    stamps = pa.array(np.round(np.arange(count) * (dt_s or 0) * 1e9).astype(np.int64))
    clock = stamps if dt_s is not None else pa.nulls(count, pa.int64())
    steps = pa.RecordBatch.from_arrays([clock, *arrays.values()], names=[TIMESTAMP, *arrays])
    return replace(Episode("s/0", "s", "arm", "file", "test", steps), **changes)


def measure(one: Episode) -> dict[str, Finding]:
    return {f.check: f for f in score(one, no_images, PARAMS).findings}


def moving(steps: int = 40) -> Floats:
    return np.outer(np.arange(steps) * 0.02, [1.0, -1.0])  # 0.2 rad/s


def scene(shift: int, size: int = 64) -> NDArray[np.uint8]:
    image = np.tile(np.linspace(40, 200, size), (size, 1)).astype(np.uint8)
    image[20:44, 5 + shift : 25 + shift] = 250
    return np.stack([image] * 3, axis=2)


def png(image: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def test_sparc_of_a_minimum_jerk_reach_and_of_two() -> None:
    time = np.linspace(0, 1, 101)
    bell = 30 * time**2 - 60 * time**3 + 30 * time**4
    one = sparc(bell, 100.0)
    assert one == pytest.approx(-1.41, abs=0.05)
    assert sparc(np.concatenate([bell, bell]), 100.0) < one - 0.5
    assert sparc(7.5 * bell, 100.0) == pytest.approx(one)


def test_ldlj_of_a_minimum_jerk_reach() -> None:
    time = np.linspace(0, 1, 1001)
    bell = 30 * time**2 - 60 * time**3 + 30 * time**4
    # peak 1.875, integral of (60 - 360 t + 360 t^2)^2 over [0, 1] = 720
    assert ldlj(bell, 1000.0) == pytest.approx(-np.log(720 / 1.875**2), abs=0.02)


def test_a_profile_is_put_on_an_even_clock() -> None:
    times = np.array([0, 100, 300, 300, 400], np.int64) * 1_000_000
    values, rate = uniform(np.array([np.nan, 1.0, 3.0, 9.0, 4.0]), times)
    assert rate == pytest.approx(1 / 0.15)
    np.testing.assert_allclose(values, [1.0, 2.5, 4.0])


def test_nan_and_null_are_counted_where_they_are() -> None:
    state = np.zeros((10, 2))
    state[3, 0], state[7, 1] = np.nan, np.inf
    action = pa.array([None if i == 5 else [1.0] for i in range(10)], pa.list_(pa.float64(), 1))
    found = measure(episode({STATE: state, ACTION: action}))["integrity.nan"]
    assert (found.value, found.frames) == (3.0, (3, 7))
    assert found.detail == "observation.state: 2, action: 1"


def test_only_values_of_transitions_count_as_nan() -> None:
    state, action = np.zeros((6, 1)), np.zeros((6, 1))
    state[[0, 5]] = np.nan  # step 0 is reached by no data, step 5 is the last next state
    action[[0, 5]] = np.nan  # no action follows the last state
    valid = pa.array([False, True, True, True, True, False])
    found = measure(episode({STATE: state, ACTION: action, VALID: valid}))["integrity.nan"]
    assert (found.value, found.frames, found.detail) == (1.0, (5, 5), "observation.state: 1")


def test_idling_and_its_longest_pause() -> None:
    q = moving()
    q[11:21] = q[10]
    q[30] = q[29]
    found = measure(episode({JOINT_POSITION: q}))
    assert found["quality.idle_fraction"].value == pytest.approx(11 / 39, abs=1e-8)
    pause = found["quality.longest_pause_s"]
    assert (pause.value, pause.frames) == (1.0, (10, 20))


def test_a_moving_gripper_is_no_idling() -> None:
    q = np.full((10, 2), 0.5)
    found = measure(episode({JOINT_POSITION: q, GRIPPER: np.linspace(0, 1, 10)[:, None]}))
    assert found["quality.idle_fraction"].value == 0.0


def test_motion_by_pose_turns_too() -> None:
    pose = np.zeros((5, 7))
    angle = np.array([0, 0, 0.05, 0.1, 0.1])
    pose[:, 5], pose[:, 6] = np.sin(angle / 2), np.cos(angle / 2)
    motion = measure_motion(episode({END_EFFECTOR_POSE: pose}), MotionParams())
    assert not isinstance(motion, str)
    np.testing.assert_array_equal(motion.moving, [False, False, True, True, False])
    np.testing.assert_array_equal(motion.still, [False, True, False, False, True])


def test_gripper_flips_with_hysteresis() -> None:
    opening = np.array([1, 0.9, 0.5, 0.7, 0.5, 0.2, 0.5, 0.3, 0.9, 0.5, 0.0])
    assert count_flips(opening, 0.35, 0.65) == 3
    found = measure(episode({JOINT_POSITION: moving(11), ACTION_GRIPPER: opening[:, None]}))["quality.gripper_flips"]
    assert (found.value, found.detail) == (3.0, "by action.gripper")


def test_tracking_finds_the_lag() -> None:
    wave = np.sin(np.arange(103) / 5)[:, None]
    action, state = wave[3:], wave[:-3]
    residual, lag = tracking_residual(action, state, 10)
    assert (residual, lag) == (0.0, 3)
    one = episode({STATE: state, ACTION: action}, conventions={"action_kind": "absolute_joint"})
    assert measure(one)["quality.action_state_residual"].detail == "at a lag of 3 steps"


def test_a_constant_command_is_not_tracked() -> None:
    wave = np.sin(np.arange(50) / 5)
    trembling = 1e-4 * np.cos(np.arange(50))
    shut = np.full(50, -1.5)
    state, action = np.stack([wave, trembling], axis=1), np.stack([wave, shut], axis=1)
    assert tracking_residual(action, state, 10) == (0.0, 0)
    assert np.isnan(tracking_residual(action[:, 1:], state[:, 1:], 10)[0])
    half = tracking_residual(2 * wave[:2, None], wave[:2, None], 0)[0]
    assert half == pytest.approx(np.sin(0.2) / np.sqrt(2) / (2 * np.sin(0.2)))


@pytest.mark.parametrize(
    ("columns", "dt_s", "check", "reason"),
    [
        ({"x": np.zeros((5, 1))}, 0.1, "integrity.nan", "none of observation.state"),
        ({"x": np.zeros((5, 1))}, 0.1, "quality.idle_fraction", "give two finite steps"),
        ({STATE: moving(20)}, 0.1, "quality.sparc", "declared units"),
        ({JOINT_POSITION: moving(20)}, None, "quality.longest_pause_s", "declare `rate_hz`"),
        ({JOINT_POSITION: moving(5)}, 0.1, "quality.ldlj", "4 samples of speed"),
        ({JOINT_POSITION: moving(20)}, 0.1, "quality.gripper_flips", "no gripper"),
        ({STATE: moving(20)}, 0.1, "quality.action_state_residual", "declared as unknown"),
    ],
)
def test_what_cannot_be_measured_says_why(
    columns: dict[str, Floats], dt_s: float | None, check: str, reason: str
) -> None:
    found = measure(episode(columns, dt_s))[check]
    assert (found.status, found.value) == ("not_run", None)
    assert reason in found.detail


def cameras(images: list[NDArray[np.uint8]], q: Floats, present: list[int | None] | None = None) -> dict[str, Finding]:
    """Findings of an episode whose one camera shows `images`, step by step."""
    index = pa.array(present if present is not None else list(range(len(images))), pa.int64())
    columns: dict[str, Floats | pa.Array] = {JOINT_POSITION: q, "observation.images.cam.index": index}
    one = episode(columns, videos={"cam": ImageRef("file", "", len(images))})
    return {f.check: f for f in score(one, lambda _, chosen: [png(images[i]) for i in chosen], PARAMS).findings}


def test_a_camera_that_freezes_while_the_robot_moves() -> None:
    images = [scene(min(i, 12)) for i in range(30)]
    found = cameras(images, moving(30))
    assert found["frames.frozen"].value == pytest.approx(17 / 29, abs=1e-8)
    assert found["frames.frozen"].frames == (13, 29)
    assert found["frames.frozen"].detail == "cam"
    assert found["frames.frozen_s"].value == 1.7
    assert found["frames.repeated"].value == pytest.approx(17 / 29, abs=1e-8)


def test_a_still_scene_is_no_frozen_camera() -> None:
    q = moving(30)
    q[13:] = q[12]
    found = cameras([scene(min(i, 12)) for i in range(30)], q)
    assert found["frames.frozen"].value == 0.0


def test_single_repeats_are_no_frozen_camera() -> None:
    found = cameras([scene(i // 2) for i in range(30)], moving(30))
    assert found["frames.frozen"].value == 0.0
    assert found["frames.repeated"].value == pytest.approx(15 / 29, abs=1e-8)


def test_black_blank_clipped_and_missing_frames_are_told_apart() -> None:
    images = [scene(i) for i in range(20)]
    images[3:5] = [np.zeros((64, 64, 3), np.uint8)] * 2
    images[7] = np.full((64, 64, 3), 120, np.uint8)
    images[10][:40] = 255
    present = [i if i not in (15, 16) else None for i in range(20)]
    found = cameras(images, moving(20), present)
    assert (found["frames.black"].value, found["frames.black"].frames) == (pytest.approx(2 / 18, abs=1e-8), (3, 4))
    assert (found["frames.blank"].value, found["frames.blank"].frames) == (pytest.approx(1 / 18, abs=1e-8), (7, 7))
    assert found["frames.clipped"].frames == (10, 10)
    assert (found["frames.missing"].value, found["frames.missing"].frames) == (0.1, (15, 16))
    assert found["frames.missing"].detail == "cam: 2 of 20 steps"


def test_a_camera_of_one_flat_colour_throughout_is_a_placeholder() -> None:
    found = cameras([np.zeros((64, 64, 3), np.uint8)] * 10, moving(10))
    assert found["frames.placeholder"].value == 1.0
    assert found["frames.black"].status == found["frames.frozen"].status == "not_run"
    assert cameras([scene(i) for i in range(10)], moving(10))["frames.placeholder"].value == 0.0


def test_a_camera_without_frames_is_missing_not_black() -> None:
    found = cameras([], moving(5), [None] * 5)
    assert found["frames.missing"].value == 1.0
    assert found["frames.black"].status == "not_run"


def test_a_long_image_sequence_is_read_in_portions() -> None:
    found = cameras([scene(0)] * 129 + [scene(i % 30) for i in range(131)], moving(260))
    # each of 1..129 equals the one before, across the seam of the portions
    assert found["frames.frozen"].frames == (1, 129)


def test_a_video_that_freezes(tmp_path: Path) -> None:
    path = tmp_path / "cam.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for i in range(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(scene(min(i, 19)), format="rgb24")))
        container.mux(stream.encode())
    stamps = pa.array([i * 100_000_000 for i in range(30)])
    columns: dict[str, Floats | pa.Array] = {JOINT_POSITION: moving(30), "observation.images.cam.pts_ns": stamps}
    one = episode(columns, videos={"cam": VideoRef(str(path), 0, 3_000_000_000)})
    found = measure(one)
    assert found["frames.missing"].value == 0.0
    assert found["frames.frozen"].frames is not None
    assert found["frames.frozen"].frames[1] == 29
    assert found["frames.frozen"].frames[0] in range(20, 24)  # the codec refines the picture for some frames more


def test_wrong_parameters_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"0\.7 and 0\.65; need 0 < closed < open"):
        DataQualityParams(gripper_closed=0.7)
    with pytest.raises(ValueError, match=r"still_rad_s is 1 and moving_rad_s 0\.05; need 0 <= still_rad_s <= moving"):
        MotionParams(still_rad_s=1)
    with pytest.raises(ValueError, match=r"motion\.still_gripper is -1; need 0 or more"):
        MotionParams(still_gripper=-1)
    with pytest.raises(ValueError, match=r"frames\.black_luma is -1; need 0 or more"):
        FrameParams(black_luma=-1)
    with pytest.raises(ValueError, match=r"frames\.clipped_share is 1; need between 0 and 1"):
        FrameParams(clipped_share=1)
    with pytest.raises(ValueError, match=r"frames\.min_frozen is 0; need at least 1 frame"):
        FrameParams(min_frozen=0)


@given(st.integers(8, 200), st.floats(1e-3, 1e3), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_smoothness_ignores_amplitude(count: int, scale: float, seed: int) -> None:
    profile = np.random.default_rng(seed).uniform(0.1, 1, count)
    assert sparc(profile * scale, 30.0) == pytest.approx(sparc(profile, 30.0), rel=1e-6)
    assert ldlj(profile * scale, 30.0) == pytest.approx(ldlj(profile, 30.0), rel=1e-6)


def test_in_a_pipeline_with_one_dead_letter() -> None:
    good = episode({JOINT_POSITION: moving(), STATE: moving()})
    ref = ImageRef("file", "", 40)
    broken = replace(
        episode({JOINT_POSITION: moving(3), "observation.images.cam.index": pa.array([0, 1, 2])}),
        episode_id="s/1",
        videos={"cam": ref},
    )

    def check_good(out: list[Episode]) -> None:
        assert [e.episode_id for e in out] == ["s/0"]
        assert {"quality.sparc", "quality.ldlj", "integrity.nan"} <= {f.check for f in out[0].findings}

    def check_dead(rows: list[tuple[str, str, str]]) -> None:
        assert rows == [("quality", "s/1", "wrong_format")]

    with TestPipeline(runner=FnApiRunner()) as p:
        handler = CollectingErrorHandler()
        with handler:
            stage = DataQualityScorer(PARAMS, _garbage).with_error_handler(handler)
            out = p | beam.Create([good, broken], reshuffle=False).with_output_types(Episode) | "Score" >> stage
        assert_that(out, check_good)
        dead = handler.output() | beam.Map(lambda letter: (letter.stage, letter.episode_id, letter.rule))
        assert_that(dead, check_dead, label="dead")


def _garbage(ref: ImageRef, indices: Sequence[int]) -> list[bytes]:
    return [b"no image"] * len(indices)


@pytest.mark.skipif("ROBOT_DATA" not in os.environ, reason="ROBOT_DATA is not set")
def test_so101_is_static_in_37_percent_of_its_steps() -> None:
    table = pq.read_table(Path(os.environ["ROBOT_DATA"]) / "lerobot_v30_so101/data/chunk-000/file-000.parquet")
    state = np.asarray(table["observation.state"].to_pylist(), np.float64)
    index = np.asarray(table["episode_index"])
    still = known = 0
    for number in range(4):
        motion = measure_motion(episode({STATE: state[index == number]}, 1 / 30), MotionParams())
        assert not isinstance(motion, str)
        still, known = still + int(motion.still.sum()), known + int(motion.known.sum())
    assert (still, known) == (549, 1488)


@pytest.mark.skipif("ROBOT_DATA" not in os.environ, reason="ROBOT_DATA is not set")
@pytest.mark.parametrize(
    ("place", "camera", "repeated"),
    [
        ("gr00t/robot_sim.PickNPlace", "ego_view", 0.0),
        ("lerobot_v21_g1", "cam_high", 100 / 392),
    ],
)
def test_real_cameras_are_not_frozen(place: str, camera: str, repeated: float) -> None:
    root = Path(os.environ["ROBOT_DATA"]) / place
    path = sorted((root / "data/chunk-000").glob("*.parquet"))[0]
    table = pq.read_table(path)
    rate = {"ego_view": 20, "cam_high": 30}[camera]
    count = table.num_rows
    video = root / f"videos/chunk-000/observation.images.{camera}/{path.stem}.mp4"
    stamps = pa.array(np.round(np.arange(count) * 1e9 / rate).astype(np.int64))
    state = np.asarray(table["observation.state"].to_pylist(), np.float64)
    columns: dict[str, Floats | pa.Array] = {STATE: state, f"observation.images.{camera}.pts_ns": stamps}
    one = episode(columns, 1 / rate, videos={camera: VideoRef(str(video), 0, int(count / rate * 1e9))})
    found = measure(one)
    assert found["frames.frozen"].value == 0.0
    assert found["frames.black"].value == found["frames.blank"].value == found["frames.clipped"].value == 0.0
    assert found["frames.repeated"].value == pytest.approx(repeated, abs=1e-8)
