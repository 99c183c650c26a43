"""Canonical columns: hand-worked conversions, what is undeclared, what speaks against a declaration."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tests.transforms.recordings import batch, clock, recording
from transforms.arrays import column_matrix
from transforms.canonical import canonicalise, gripper_opening, unit_quaternions
from transforms.conventions import (
    ActionColumns,
    ColumnSlice,
    Embodiment,
    EndEffectorColumns,
    GripperColumns,
    JointColumns,
)
from transforms.episode import Finding, Recording
from transforms.schema import ACTION_GRIPPER, END_EFFECTOR_POSE, GRIPPER, JOINT_POSITION, STATE, UNKNOWN

HALF = np.sqrt(0.5)
QUARTER_TURN_Z = [0.0, 0.0, HALF, HALF]


def found(result: Recording, check: str) -> list[Finding]:
    return [f for f in result.findings if f.check == check]


@pytest.mark.parametrize(
    ("kind", "order", "unit", "raw"),
    [
        ("quaternion", "wxyz", "unknown", [HALF, 0, 0, HALF]),
        ("quaternion", "xyzw", "unknown", [0, 0, 2 * HALF, 2 * HALF]),
        ("rpy", "unknown", "deg", [0, 0, 90]),
        ("rpy", "unknown", "rad", [0, 0, np.pi / 2]),
        ("rotvec", "unknown", "deg", [0, 0, 90]),
        ("rotation_6d", "unknown", "unknown", [0, -1, 0, 1, 0, 0]),
    ],
)
def test_a_quarter_turn_about_z_in_every_representation(kind: str, order: str, unit: str, raw: list[float]) -> None:
    assert unit_quaternions(np.array([raw], float), kind, order, unit)[0] == pytest.approx(QUARTER_TURN_Z, abs=1e-12)


def test_rpy_turns_about_fixed_axes_as_in_urdf() -> None:
    roll, pitch, yaw = 0.3, -0.4, 1.1
    turn = [Rotation.from_rotvec(np.eye(3)[i] * a) for i, a in enumerate((roll, pitch, yaw))]
    expected = (turn[2] * turn[1] * turn[0]).as_matrix()
    got = unit_quaternions(np.array([[roll, pitch, yaw]]), "rpy", "unknown", "rad")
    assert Rotation.from_quat(got[0]).as_matrix() == pytest.approx(expected)


def test_rows_without_a_rotation_are_nan() -> None:
    raw = np.array([[0, 0, 0, 0], [np.nan, 0, 0, 1], [0, 0, 0, 1.0]])
    got = unit_quaternions(raw, "quaternion", "xyzw", "unknown")
    assert np.isnan(got).all(axis=1).tolist() == [True, True, False]


def test_a_wrong_width_is_named() -> None:
    with pytest.raises(ValueError, match="a rpy rotation has 3 elements, the slice names 4"):
        unit_quaternions(np.zeros((1, 4)), "rpy", "unknown", "rad")


def test_joints_pose_and_gripper_become_canonical() -> None:
    raw = np.array([[180, -90, 1000, 2000, 3000, HALF, 0, 0, HALF, 20]], np.float32)
    arm = Embodiment(
        joints=JointColumns(("a", "b"), ColumnSlice("raw", 0, 2), unit="deg"),
        end_effector=EndEffectorColumns(
            ColumnSlice("raw", 2, 5), ColumnSlice("raw", 5, 9), "quaternion", "wxyz", position_unit="mm"
        ),
        gripper=GripperColumns(ColumnSlice("raw", 9, 10), closed=80, open=0),
        action=ActionColumns("delta_joint", GripperColumns(ColumnSlice("action", 0, 1), closed=-1, open=1)),
        state=(ColumnSlice("raw", 9, 10), ColumnSlice("raw", 0, 2)),
    )
    result = canonicalise(recording({"steps": batch([0], raw=raw, action=np.array([[0.5]]))}), arm)
    steps = result.streams["steps"]
    assert column_matrix(steps, JOINT_POSITION)[0] == pytest.approx([np.pi, -np.pi / 2])
    assert column_matrix(steps, END_EFFECTOR_POSE)[0] == pytest.approx([1, 2, 3, 0, 0, HALF, HALF])
    assert column_matrix(steps, GRIPPER)[0] == pytest.approx([0.75])
    assert column_matrix(steps, ACTION_GRIPPER)[0] == pytest.approx([0.75])
    assert column_matrix(steps, STATE)[0] == pytest.approx([20, 180, -90])
    assert str(steps.schema.field(JOINT_POSITION).type) == "fixed_size_list<item: float>[2]"
    assert column_matrix(steps, "raw")[0] == pytest.approx(raw[0])
    assert result.conventions["gripper_closed"] == "80"
    assert result.conventions["quaternion_order"] == "wxyz"
    assert json.loads(result.conventions["joint_names"]) == ["a", "b"]
    assert all(f.status == "measured" for f in result.findings)


def test_what_is_undeclared_is_unknown_and_not_run() -> None:
    given_pose = EndEffectorColumns(ColumnSlice("raw", 0, 3), ColumnSlice("raw", 3, 7), "quaternion")
    arm = Embodiment(joints=JointColumns(("a",), ColumnSlice("raw", 0, 1)), end_effector=given_pose)
    result = canonicalise(recording({"steps": batch([0], raw=np.zeros((1, 7)))}), arm)
    assert result.streams["steps"].schema.names == ["timestamp_ns", "raw"]
    assert {f.check for f in result.findings if f.status == "not_run"} == {
        "conventions.joint_position",
        "conventions.end_effector_pose",
        "conventions.gripper",
        "conventions.action_gripper",
    }
    assert "quaternion_order" in found(result, "conventions.end_effector_pose")[0].detail
    assert {result.conventions[k] for k in ("joint_unit", "rate_hz", "urdf", "frame", "gripper_open")} == {UNKNOWN}


def test_elements_of_the_state_that_nothing_declares_are_named() -> None:
    arm = Embodiment(
        joints=JointColumns(("a", "b"), ColumnSlice(STATE, 1, 3), unit="rad"),
        gripper=GripperColumns(ColumnSlice(STATE, 5, 6), closed=0, open=1),
    )
    steps = batch(clock(2, 10), **{STATE: np.zeros((2, 9))})
    (one,) = found(canonicalise(recording({"steps": steps}), arm), "conventions.state")
    assert one.status == "not_run"
    assert one.detail.startswith("[0:1], [3:5], [6:9] of the 9 elements of observation.state")
    whole = Embodiment(gripper=GripperColumns(ColumnSlice(STATE), closed=0, open=1))
    assert found(canonicalise(recording({"steps": steps}), whole), "conventions.state") == []


def test_a_gripper_beyond_its_range_is_found_and_not_clipped() -> None:
    arm = Embodiment(gripper=GripperColumns(ColumnSlice("g"), closed=0, open=100))
    result = canonicalise(recording({"steps": batch(clock(3, 10), g=np.array([0.0, 125.0, -10.0]))}), arm)
    (finding,) = found(result, "conventions.gripper_range")
    assert (finding.value, finding.frames) == (0.25, (1, 2))
    assert column_matrix(result.streams["steps"], GRIPPER)[:, 0] == pytest.approx([0, 1.25, -0.1])


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (ColumnSlice("absent"), "no column absent; available: q, timestamp_ns"),
        (ColumnSlice("q", 0, 7), r"column q has 2 elements, q[0:7] is declared"),
    ],
)
def test_a_declared_column_that_is_not_there_is_a_finding(part: ColumnSlice, message: str) -> None:
    arm = Embodiment(joints=JointColumns(tuple("abcdefg"), part, unit="rad"))
    result = canonicalise(recording({"steps": batch([0], q=np.zeros((1, 2)))}), arm)
    (finding,) = found(result, "conventions.column_absent")
    assert finding.value == 1.0
    assert message in finding.detail
    assert JOINT_POSITION not in result.streams["steps"].schema.names


def test_quaternions_off_unit_length_are_normalised() -> None:
    raw = np.array([[0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 1.01, 0, 0, 0]], float)
    pose = EndEffectorColumns(ColumnSlice("p", 0, 3), ColumnSlice("p", 3, 7), "quaternion", "wxyz", position_unit="m")
    result = canonicalise(recording({"steps": batch(clock(2, 10), p=raw)}), Embodiment(end_effector=pose))
    assert column_matrix(result.streams["steps"], END_EFFECTOR_POSE)[1] == pytest.approx([0, 0, 0, 0, 0, 0, 1])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["quaternion", "rpy", "rotvec", "rotation_6d"]))
def test_any_rotation_survives_its_representation(seed: int, kind: str) -> None:
    truth = Rotation.from_quat(np.random.default_rng(seed).normal(size=(8, 4)))
    raw = {
        "quaternion": lambda: truth.as_quat()[:, [3, 0, 1, 2]],
        "rpy": lambda: truth.as_euler("xyz"),
        "rotvec": truth.as_rotvec,
        "rotation_6d": lambda: truth.as_matrix()[:, :2, :].reshape(-1, 6),
    }[kind]()
    back = Rotation.from_quat(unit_quaternions(np.asarray(raw), kind, "wxyz", "rad"))
    assert (truth.inv() * back).magnitude().max() < 1e-6


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(0, 1))
def test_the_gripper_map_is_linear_between_its_ends(closed: float, opened: float, opening: float) -> None:
    if abs(opened - closed) < 1e-3:
        return
    raw = np.array([[closed + opening * (opened - closed)]])
    assert gripper_opening(raw, closed, opened)[0, 0] == pytest.approx(opening, abs=1e-6)
