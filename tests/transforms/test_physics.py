"""Physical checks: numbers worked by hand, one corruption at a time, and a real Panda that breaks no limit."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import h5py
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that
from apache_beam.transforms.error_handling import CollectingErrorHandler
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.arrays import Floats, list_column
from transforms.conventions import ColumnSlice, Embodiment, EndEffectorColumns, JointColumns
from transforms.encoders import sign_flips
from transforms.episode import TIMESTAMP, Episode, Finding
from transforms.kinematics import backward_derivative, backward_velocity, noise_sigma
from transforms.physics import PhysicsParams, PhysicsValidator, validate
from transforms.schema import ACTION, JOINT_POSITION, JOINT_VELOCITY, STATE, VALID
from transforms.urdf import UrdfLimits

NAMES = ("a", "b")
LIMITS = UrdfLimits(NAMES, np.array([-1.0, -1.0]), np.array([1.0, 1.0]), np.array([2.0, 2.0]), np.full(2, np.nan))
EMBODIMENT = Embodiment(urdf="x.urdf", joints=JointColumns(NAMES, ColumnSlice(STATE), unit="rad"))
URDF = """<robot name="r">
  <joint name="a" type="revolute"><limit lower="-1" upper="1" velocity="2"/></joint>
  <joint name="b" type="revolute"><limit lower="-1" upper="1" velocity="2"/></joint>
</robot>"""


def episode(q: Floats, dt_s: float | None = 0.1, **columns: Floats) -> Episode:
    stamps = np.round(np.arange(len(q)) * (dt_s or 0) * 1e9).astype(np.int64)
    clock = pa.array(stamps) if dt_s is not None else pa.nulls(len(q), pa.int64())
    named = {JOINT_POSITION: list_column(q), **{k: list_column(v) for k, v in columns.items()}}
    steps = pa.RecordBatch.from_arrays([clock, *named.values()], names=[TIMESTAMP, *named])
    return Episode("s/0", "s", "arm", "file", "test", steps)


def of(found: list[Finding], check: str) -> list[Finding]:
    return [f for f in found if f.check == check]


def slow(steps: int = 40) -> Floats:
    time = np.arange(steps) * 0.1
    return np.stack([0.5 * np.sin(time), 0.5 * np.cos(time)], axis=1)


def test_derivatives_by_true_time() -> None:
    times = np.array([0, 100, 300, 400, 400], np.int64) * 1_000_000
    q = np.array([[0.0], [0.1], [0.5], [0.5], [0.7]])
    velocity = backward_velocity(q, times)
    np.testing.assert_allclose(velocity[:, 0], [np.nan, 1.0, 2.0, 0.0, np.nan])
    acceleration = backward_derivative(velocity, times, 2)
    np.testing.assert_allclose(acceleration[:4, 0], [np.nan, np.nan, 1 / 0.15, -2 / 0.15])


def test_noise_is_estimated_beside_movement() -> None:
    rng = np.random.default_rng(0)
    time = np.arange(2000)[:, None] / 50
    sigma = noise_sigma(np.sin(2 * np.pi * time) + rng.normal(0, 1e-3, (2000, 1)))
    assert sigma[0] == pytest.approx(1e-3, rel=0.1)


def test_position_excess_is_frame_exact() -> None:
    q = slow()
    q[10:13, 1] = [1.05, 1.2, 1.05]
    q[20, 0] = -1.5
    first, second = of(validate(episode(q), EMBODIMENT, LIMITS, PhysicsParams()), "physics.position_excess")
    assert (first.frames, first.interval) == ((10, 12), (1_000_000_000, 1_200_000_000))
    assert first.value == pytest.approx(0.2, abs=5e-3)
    assert first.detail.startswith("b at 1.2 rad")
    assert second.frames == (20, 20)
    assert second.detail.startswith("a at -1.5 rad")


def test_the_last_next_state_is_checked_and_a_step_of_no_transition_is_not() -> None:
    q = slow()
    q[-1, 0], q[0, 0] = 1.5, 1.5
    one = episode(q)
    valid = pa.array([False, *[True] * (len(q) - 2), False])
    one = replace(one, steps=one.steps.append_column(VALID, valid))
    (found,) = of(validate(one, EMBODIMENT, LIMITS, PhysicsParams()), "physics.position_excess")
    assert found.frames == (len(q) - 1, len(q) - 1)
    assert found.value == pytest.approx(0.5, abs=5e-3)


def test_rounding_beyond_a_limit_is_no_violation() -> None:
    q = slow()
    q[5, 0] = 1.0 + 5e-7
    (found,) = of(validate(episode(q), EMBODIMENT, LIMITS, PhysicsParams()), "physics.position_excess")
    assert (found.value, found.frames) == (0.0, None)


def test_velocity_ratio_needs_two_frames_and_jumps_are_apart() -> None:
    q = np.zeros((30, 2))
    q[11:, 0] += 0.3  # 3 rad/s into step 11
    q[12:, 0] += 0.33  # 3.3 rad/s into step 12
    q[20:, 1] += 0.44  # 4.4 rad/s into step 20 alone
    found = validate(episode(q), EMBODIMENT, LIMITS, PhysicsParams())
    (velocity,) = of(found, "physics.velocity_ratio")
    assert velocity.frames == (11, 12)
    assert velocity.value == pytest.approx(3.3 / 2.2)
    assert velocity.interval == (1_100_000_000, 1_200_000_000)
    (jump,) = of(found, "physics.jump_ratio")
    assert (jump.frames, jump.value) == ((20, 20), pytest.approx(4.4 / 2.2))


def test_without_violation_the_peak_ratio_is_given() -> None:
    q = np.outer(np.arange(30) * 0.011, [1, -1])  # 0.11 rad/s
    (found,) = of(validate(episode(q), EMBODIMENT, LIMITS, PhysicsParams()), "physics.velocity_ratio")
    assert (found.value, found.frames) == (pytest.approx(0.11 / 2.2), None)


def test_logged_velocity_is_checked_and_compared() -> None:
    q = slow()
    time = np.arange(40) * 0.1
    logged = 2 * np.stack([0.5 * np.cos(time), -0.5 * np.sin(time)], axis=1)
    logged[7:9, 0] = 4.4
    found = validate(episode(q, **{JOINT_VELOCITY: logged}), EMBODIMENT, LIMITS, PhysicsParams())
    (over,) = of(found, "physics.logged_velocity_ratio")
    assert (over.frames, over.value) == ((7, 8), 2.0)
    scale = of(
        validate(episode(q, **{JOINT_VELOCITY: logged * (logged < 4)}), EMBODIMENT, None, PhysicsParams()),
        "conventions.velocity_scale",
    )[0]
    assert scale.value == pytest.approx(0.5, abs=0.02)


def test_acceleration_and_jerk_only_when_configured() -> None:
    q = slow()
    q[15:, 0] += 0.1 * np.arange(25)  # 1 rad/s more, at once: 10 rad/s^2 into one step
    params = PhysicsParams(max_acceleration_rad_s2=2.0, max_jerk_rad_s3=1e4, min_frames=1)
    found = validate(episode(q), EMBODIMENT, LIMITS, params)
    (over,) = of(found, "physics.acceleration_ratio")
    assert over.frames == (16, 16)
    assert over.value == pytest.approx(10 / 2.2, rel=0.1)
    assert of(found, "physics.jerk_ratio")[0].value < 1
    (idle,) = of(validate(episode(q), EMBODIMENT, LIMITS, PhysicsParams()), "physics.jerk_ratio")
    assert (idle.status, idle.value) == ("not_run", None)
    assert "max_jerk_rad_s3" in idle.detail


def test_degrees_look_like_degrees() -> None:
    (found,) = of(validate(episode(np.degrees(slow())), EMBODIMENT, None, PhysicsParams()), "conventions.joint_unit")
    assert found.value == 1.0
    assert "look like degrees" in found.detail


def test_a_frozen_encoder_is_found_while_others_move() -> None:
    q = slow()
    q[10:21, 0] = q[10, 0]
    (found,) = of(validate(episode(q), EMBODIMENT, LIMITS, PhysicsParams()), "physics.frozen_encoder")
    assert (found.value, found.frames) == (1.0, (11, 20))
    assert found.detail.startswith("a repeats")


def test_an_unused_joint_is_no_frozen_encoder_unless_commanded() -> None:
    q = slow()
    q[:, 1] = 0.25
    still = validate(episode(q), EMBODIMENT, LIMITS, PhysicsParams())
    assert of(still, "physics.frozen_encoder")[0].value == 0.0
    assert of(still, "physics.constant_joints")[0].detail == "b"
    asked = replace(episode(q, **{ACTION: slow()}), conventions={"action_kind": "absolute_joint"})
    (found,) = of(validate(asked, EMBODIMENT, LIMITS, PhysicsParams()), "physics.frozen_encoder")
    assert (found.value, found.frames) == (3.9, (1, 39))


def test_quaternion_norm_and_flips_of_raw_values() -> None:
    rotation = np.tile([0.0, 0.0, 0.0, 1.0], (6, 1))
    rotation[2:4] *= -1
    rotation[5] *= 1.25
    effector = EndEffectorColumns(
        ColumnSlice("pose", 0, 3), ColumnSlice("pose", 3, 7), rotation_type="quaternion", quaternion_order="xyzw"
    )
    pose = np.concatenate([np.zeros((6, 3)), rotation], axis=1)
    found = validate(episode(slow(6), pose=pose), replace(EMBODIMENT, end_effector=effector), LIMITS, PhysicsParams())
    (norm,) = of(found, "physics.quaternion_norm")
    assert (norm.value, norm.frames) == (0.25, (5, 5))
    (flips,) = of(found, "physics.quaternion_flips")
    assert (flips.value, flips.frames) == (2.0, (2, 4))
    assert len(sign_flips(rotation)) == 2


@pytest.mark.parametrize(
    ("embodiment", "limits", "dt_s", "check", "reason"),
    [
        (Embodiment(), None, 0.1, "physics.position_excess", "no `joints` are declared"),
        (EMBODIMENT, None, 0.1, "physics.position_excess", "no `urdf`"),
        (EMBODIMENT, None, 0.1, "physics.velocity_ratio", "no `urdf`"),
        (EMBODIMENT, LIMITS, None, "physics.velocity_ratio", "declare `rate_hz`"),
        (Embodiment(), None, 0.1, "physics.quaternion_norm", "no end-effector rotation"),
    ],
)
def test_what_is_undeclared_is_not_run(
    embodiment: Embodiment, limits: UrdfLimits | None, dt_s: float | None, check: str, reason: str
) -> None:
    (found,) = of(validate(episode(slow(), dt_s), embodiment, limits, PhysicsParams()), check)
    assert (found.status, found.value) == ("not_run", None)
    assert reason in found.detail


def test_an_unknown_unit_is_named() -> None:
    embodiment = Embodiment(joints=JointColumns(NAMES, ColumnSlice(STATE)))
    bare = episode(slow())
    bare = replace(bare, steps=bare.steps.select([TIMESTAMP]))
    (found,) = of(validate(bare, embodiment, None, PhysicsParams()), "physics.velocity_ratio")
    assert "declare `joints.unit`" in found.detail


def test_many_intervals_keep_the_worst() -> None:
    q = np.zeros((40, 2))
    q[::4, 0] = np.linspace(2, 3, 10)
    found = of(validate(episode(q), EMBODIMENT, LIMITS, PhysicsParams(max_intervals=3)), "physics.position_excess")
    assert [f.frames for f in found] == [(28, 28), (32, 32), (36, 36)]
    assert "7 lesser intervals not listed" in found[0].detail


def test_wrong_parameters_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"limit_factor is 0\.5"):
        PhysicsParams(limit_factor=0.5)
    with pytest.raises(ValueError, match="min_frames 0"):
        PhysicsParams(min_frames=0)
    with pytest.raises(ValueError, match=r"physics\.noise_sigmas is -1; need 0 or more"):
        PhysicsParams(noise_sigmas=-1)
    with pytest.raises(ValueError, match=r"physics\.max_jerk_rad_s3 is 0; need more than 0, or leave it out"):
        PhysicsParams(max_jerk_rad_s3=0)


@given(st.integers(8, 60), st.floats(0.02, 0.9), st.floats(0.01, 0.2), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_slow_movement_within_limits_is_never_flagged(steps: int, reach: float, dt_s: float, seed: int) -> None:
    phase = np.random.default_rng(seed).uniform(0, 6, 2)
    q = reach * np.sin(np.arange(steps)[:, None] * dt_s * 2.0 + phase)  # at most 1.8 rad/s
    found = validate(episode(q, dt_s), EMBODIMENT, LIMITS, PhysicsParams())
    assert of(found, "physics.position_excess")[0].value == 0.0
    assert of(found, "physics.velocity_ratio")[0].value <= 1.0
    assert of(found, "physics.jump_ratio")[0].value == 0.0
    assert all(
        f.value is None or f"{f.value:.9g}" == f"{f.value!r:}" or float(f"{f.value:.9g}") == f.value for f in found
    )


def test_in_a_pipeline_with_one_dead_letter(tmp_path: Path) -> None:
    urdf = tmp_path / "r.urdf"
    urdf.write_text(URDF)
    embodiments = {"arm": replace(EMBODIMENT, urdf=str(urdf))}
    good = episode(slow())
    broken = replace(good, episode_id="s/1", steps=good.steps.set_column(0, TIMESTAMP, pa.array(["x"] * 40)))

    def check_good(out: list[Episode]) -> None:
        assert [e.episode_id for e in out] == ["s/0"]
        assert of(list(out[0].findings), "physics.velocity_ratio")[0].value == pytest.approx(0.5 / 2.2, rel=0.01)

    with TestPipeline(runner=FnApiRunner()) as p:
        handler = CollectingErrorHandler()
        with handler:
            stage = PhysicsValidator(PhysicsParams(), embodiments).with_error_handler(handler)
            out = p | beam.Create([good, broken], reshuffle=False).with_output_types(Episode) | "Validate" >> stage
        assert_that(out, check_good)
        ids = handler.output() | beam.Map(lambda dead: (dead.stage, dead.episode_id, dead.rule))
        assert_that(ids, lambda rows: _equal(rows, [("physics", "s/1", "stage_failed")]), label="dead")


def _equal(got: list[object], want: list[object]) -> None:
    assert got == want


@pytest.mark.skipif("ROBOT_DATA" not in os.environ, reason="ROBOT_DATA is not set")
@pytest.mark.parametrize("name", ["dataset", "generated_dataset_small"])
def test_isaac_demonstrations_break_no_panda_limit_at_20_hz(name: str) -> None:
    data = Path(os.environ["ROBOT_DATA"])
    joints = tuple(f"panda_joint{i}" for i in range(1, 8))
    arm = Embodiment(urdf=str(data / "models/panda.urdf"), joints=JointColumns(joints, ColumnSlice(STATE), unit="rad"))
    stage = PhysicsValidator(PhysicsParams(), {"arm": arm})
    stage.setup()
    raw = []
    with h5py.File(data / f"isaaclab_hdf5/{name}.hdf5") as file:
        for demo in file["data"].values():
            robot = demo["states/articulation/robot"]
            q, v = (np.asarray(robot[f"joint_{k}"][:, :7], np.float64) for k in ("position", "velocity"))
            (out,) = stage.process_element(episode(q, 0.05, **{JOINT_VELOCITY: v}))
            found = list(out.findings)
            assert [f.value for f in of(found, "physics.position_excess")] == [0.0]
            (ratio,) = of(found, "physics.velocity_ratio")
            assert ratio.frames is None and ratio.value <= 1
            assert of(found, "physics.jump_ratio")[0].value == 0.0
            assert of(found, "conventions.joint_unit")[0].value == 0.0
            assert of(found, "physics.frozen_encoder")[0].value <= 0.05  # joint 7 rests on its limit for 0.8 s
            raw.append(float(np.abs(np.diff(q, axis=0)).max() * 20))
    assert max(raw) == pytest.approx(2.61, abs=1e-3)
