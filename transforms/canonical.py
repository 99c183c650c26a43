"""Canonical columns beside the originals, of what an embodiment declares: xyzw, rad, m, gripper 0 closed to 1 open."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa

from transforms.arrays import Floats, column_matrix, list_column, rounded, with_column
from transforms.conventions import ColumnSlice, Embodiment, EndEffectorColumns, GripperColumns
from transforms.episode import STEPS, Finding, Recording
from transforms.schema import (
    ACTION_GRIPPER,
    END_EFFECTOR_POSE,
    GRIPPER,
    JOINT_POSITION,
    JOINT_VELOCITY,
    STATE,
    UNKNOWN,
)

STAGE = "load"
GRIPPER_ROUNDING = 1e-6


def unit_quaternions(values: Floats, rotation_type: str, quaternion_order: str, unit: str) -> Floats:
    """Rotations of any declared representation as (T, 4) unit quaternions x y z w; NaN rows where there is none.

    `quaternion` (T, 4) in its order; `rpy` (T, 3) about the fixed axes x, y, z, as in URDF; `rotvec` (T, 3);
    `rotation_6d` (T, 6), the first two rows of the matrix (Zhou et al. 2019, laid out as PyTorch3D does). The sign of
    a declared quaternion is kept. Raises ValueError for a width that the type does not have.
    """
    width = {"quaternion": 4, "rpy": 3, "rotvec": 3, "rotation_6d": 6}[rotation_type]
    if values.shape[1] != width:
        raise ValueError(f"a {rotation_type} rotation has {width} elements, the slice names {values.shape[1]}")
    out = np.full((len(values), 4), np.nan)
    good = np.isfinite(values).all(axis=1)
    if rotation_type == "quaternion":
        xyzw = values[:, [1, 2, 3, 0]] if quaternion_order == "wxyz" else values
        norm = np.linalg.norm(xyzw, axis=1)
        good &= norm > 1e-6
        out[good] = xyzw[good] / norm[good, None]
        return out
    if not good.any():
        return out
    from scipy.spatial.transform import Rotation  # a third of a second, in every process that only imports readers

    picked = values[good]
    if rotation_type == "rpy":
        out[good] = Rotation.from_euler("xyz", picked, degrees=unit == "deg").as_quat()
    elif rotation_type == "rotvec":
        out[good] = Rotation.from_rotvec(picked, degrees=unit == "deg").as_quat()
    else:
        first, second = picked[:, :3], picked[:, 3:]
        norms = np.linalg.norm(first, axis=1) * np.linalg.norm(np.cross(first, second), axis=1)
        usable = norms > 1e-9
        x = first[usable] / np.linalg.norm(first[usable], axis=1, keepdims=True)
        y = second[usable] - (x * second[usable]).sum(axis=1, keepdims=True) * x
        y /= np.linalg.norm(y, axis=1, keepdims=True)
        rows = np.flatnonzero(good)[usable]
        if len(rows):
            out[rows] = Rotation.from_matrix(np.stack([x, y, np.cross(x, y)], axis=1)).as_quat()
    return out


def gripper_opening(raw: Floats, closed: float, opened: float) -> Floats:
    """Raw gripper values mapped linearly to 0 closed, 1 open; not clipped."""
    return (raw - closed) / (opened - closed)


def gripper_excess(opening: Floats) -> float:
    """How far the opening leaves [0, 1] at most; 0 where it never does."""
    finite = opening[np.isfinite(opening)]
    return float(max(0.0, -finite.min(), finite.max() - 1.0)) if finite.size else 0.0


def conventions_of(embodiment: Embodiment) -> dict[str, str]:
    """What is declared, as text; `unknown` elsewhere. Slices read `column[start:end]`."""
    joints, pose, gripper = embodiment.joints, embodiment.end_effector, embodiment.gripper
    return {
        "rate_hz": UNKNOWN if embodiment.rate_hz is None else f"{embodiment.rate_hz:g}",
        "urdf": embodiment.urdf or UNKNOWN,
        "action_kind": embodiment.action.kind,
        "depth_unit": embodiment.depth_unit,
        "joint_unit": joints.unit if joints else UNKNOWN,
        "joint_names": json.dumps(list(joints.names)) if joints else UNKNOWN,
        "position_unit": pose.position_unit if pose else UNKNOWN,
        "rotation_type": pose.rotation_type if pose else UNKNOWN,
        "rotation_column": _text(pose.rotation) if pose and pose.rotation else UNKNOWN,
        "quaternion_order": pose.quaternion_order if pose else UNKNOWN,
        "frame": pose.frame if pose else UNKNOWN,
        "gripper_unit": gripper.unit if gripper else UNKNOWN,
        "gripper_column": _text(gripper.position) if gripper else UNKNOWN,
        "gripper_closed": f"{gripper.closed:g}" if gripper else UNKNOWN,
        "gripper_open": f"{gripper.open:g}" if gripper else UNKNOWN,
    }


def _text(part: ColumnSlice) -> str:
    return f"{part.column}[{part.start}:{'' if part.end is None else part.end}]"


def _not_run(part: str, detail: str) -> Finding:
    return Finding(STAGE, f"conventions.{part.replace('.', '_')}", status="not_run", detail=detail)


class _Canonicaliser:
    """One recording in the making: its streams as they grow, and what was found on the way."""

    def __init__(self, recording: Recording) -> None:
        self.streams = dict(recording.streams)
        self.findings: list[Finding] = []
        self._order = sorted(self.streams, key=lambda name: (name != STEPS, name))

    def take(self, part: str, *slices: ColumnSlice) -> tuple[str, list[Floats]] | None:
        """The stream that holds all slices, and each as (T, D); a finding where a column is absent or too narrow."""
        for stream in self._order:
            names = self.streams[stream].schema.names
            if not all(s.column in names for s in slices):
                continue
            taken = [self._slice(part, stream, s) for s in slices]
            good = [values for values in taken if values is not None]
            return (stream, good) if len(good) == len(slices) else None
        known = {name for stream in self._order for name in self.streams[stream].schema.names}
        absent = sorted({s.column for s in slices} - known)
        what = f"no column {', '.join(absent)}" if absent else "the declared columns lie in different streams"
        self._absent(part, f"{what}; available: {', '.join(sorted(known))}")
        return None

    def _slice(self, part: str, stream: str, wanted: ColumnSlice) -> Floats | None:
        values = column_matrix(self.streams[stream], wanted.column)
        if values is None:
            kind = self.streams[stream].schema.field(wanted.column).type
            self._absent(part, f"column {wanted.column} holds {kind}, not numbers of one length")
            return None
        end = values.shape[1] if wanted.end is None else wanted.end
        if end > values.shape[1] or wanted.start >= end:
            self._absent(part, f"column {wanted.column} has {values.shape[1]} elements, {_text(wanted)} is declared")
            return None
        return values[:, wanted.start : end]

    def _absent(self, part: str, detail: str) -> None:
        self.findings.append(Finding(STAGE, "conventions.column_absent", 1.0, "columns", detail=f"{part}: {detail}"))

    def put(self, stream: str, name: str, values: Floats, like: tuple[ColumnSlice, ...]) -> None:
        """Add a column, as float32 where every original is at most that precise."""
        kinds = [_dtype(self.streams[stream].schema.field(s.column).type) for s in like]
        exact = values.astype(np.result_type(np.float32, *kinds))
        self.streams[stream] = with_column(self.streams[stream], name, list_column(exact))

    def flag(self, check: str, value: float, unit: str, rows: np.ndarray, stream: str, detail: str) -> None:
        """A finding about the rows where evidence speaks against a declaration."""
        frames = (int(rows[0]), int(rows[-1])) if len(rows) and stream == STEPS else None
        self.findings.append(Finding(STAGE, check, rounded(value), unit, frames=frames, detail=detail))


def _dtype(kind: pa.DataType) -> np.dtype:
    inner = kind.value_type if pa.types.is_nested(kind) else kind
    return np.dtype(inner.to_pandas_dtype())


def _joints(work: _Canonicaliser, embodiment: Embodiment) -> None:
    joints = embodiment.joints
    if joints is None or joints.unit == UNKNOWN:
        missing = "joints are" if joints is None else "the joints' unit is"
        work.findings.append(_not_run("joint_position", f"{missing} not declared"))
        return
    to_rad: Callable[[Floats], Floats] = np.deg2rad if joints.unit == "deg" else np.asarray
    taken = work.take("joints.position", joints.position)
    if taken:
        stream, (raw,) = taken
        if raw.shape[1] != len(joints.names):
            detail = (
                f"joints.position: {_text(joints.position)} holds {raw.shape[1]} elements for {len(joints.names)} names"
            )
            work.findings.append(Finding(STAGE, "conventions.column_absent", 1.0, "columns", detail=detail))
        else:
            work.put(stream, JOINT_POSITION, to_rad(raw), (joints.position,))
    if joints.velocity is not None:
        taken = work.take("joints.velocity", joints.velocity)
        if taken:
            work.put(taken[0], JOINT_VELOCITY, to_rad(taken[1][0]), (joints.velocity,))


def _undeclared(pose: EndEffectorColumns) -> list[str]:
    """The parts of a pose that must be declared before it can be converted."""
    needs = {
        "position_unit": pose.position_unit == UNKNOWN,
        "rotation": pose.rotation is None,
        "rotation_type": pose.rotation_type == UNKNOWN,
        "quaternion_order": pose.rotation_type == "quaternion" and pose.quaternion_order == UNKNOWN,
        "rotation_unit": pose.rotation_type in ("rpy", "rotvec") and pose.rotation_unit == UNKNOWN,
    }
    return [name for name, missing in needs.items() if missing]


def _pose(work: _Canonicaliser, embodiment: Embodiment) -> None:
    pose = embodiment.end_effector
    missing = ["end_effector"] if pose is None else _undeclared(pose)
    if pose is None or pose.rotation is None or missing:
        work.findings.append(_not_run("end_effector_pose", f"not declared: {', '.join(missing)}"))
        return
    taken = work.take("end_effector", pose.position, pose.rotation)
    if not taken:
        return
    stream, (position, rotation) = taken
    width = {"quaternion": 4, "rpy": 3, "rotvec": 3, "rotation_6d": 6}[pose.rotation_type]
    if position.shape[1] != 3 or rotation.shape[1] != width:
        detail = (
            f"end_effector: position has {position.shape[1]} elements where 3 are needed, or rotation "
            f"{rotation.shape[1]} where a {pose.rotation_type} has {width}"
        )
        work.findings.append(Finding(STAGE, "conventions.column_absent", 1.0, "columns", detail=detail))
        return
    metres = position / 1000.0 if pose.position_unit == "mm" else position
    quaternions = unit_quaternions(rotation, pose.rotation_type, pose.quaternion_order, pose.rotation_unit)
    work.put(stream, END_EFFECTOR_POSE, np.hstack([metres, quaternions]), (pose.position, pose.rotation))


def _gripper(work: _Canonicaliser, part: str, name: str, gripper: GripperColumns | None) -> None:
    if gripper is None:
        work.findings.append(_not_run(part, f"{part} is not declared"))
        return
    taken = work.take(part, gripper.position)
    if not taken:
        return
    stream, (raw,) = taken
    if raw.shape[1] != 1:
        work.findings.append(
            _not_run(part, f"{_text(gripper.position)} holds {raw.shape[1]} elements; declare start and end of one")
        )
        return
    opening = gripper_opening(raw, gripper.closed, gripper.open)
    work.put(stream, name, opening, (gripper.position,))
    excess = gripper_excess(opening)
    if excess > GRIPPER_ROUNDING:
        rows = np.flatnonzero((opening[:, 0] < -GRIPPER_ROUNDING) | (opening[:, 0] > 1 + GRIPPER_ROUNDING))
        detail = f"{name} leaves 0 to 1 by {excess:.6g}; declared closed {gripper.closed:g}, open {gripper.open:g}"
        work.flag("conventions.gripper_range", excess, "fraction", rows, stream, detail)


def _coverage(work: _Canonicaliser, embodiment: Embodiment) -> None:
    """Names the elements of the format's own state of which nothing is declared: no limit of theirs is checked."""
    pose = embodiment.end_effector
    parts = (embodiment.joints, embodiment.gripper, pose)
    declared = [part.position for part in parts if part is not None]
    declared += [pose.rotation] if pose is not None and pose.rotation is not None else []
    for batch in work.streams.values():
        values = column_matrix(batch, STATE) if STATE in batch.schema.names else None
        if values is None:
            continue
        bare = np.ones(values.shape[1] + 2, np.bool_)
        bare[[0, -1]] = False
        for one in declared:
            if one.column == STATE:
                bare[1 + one.start : 1 + (values.shape[1] if one.end is None else min(one.end, values.shape[1]))] = (
                    False
                )
        edges = np.flatnonzero(np.diff(bare.astype(np.int8))).reshape(-1, 2)
        if len(edges):
            spans = ", ".join(f"[{start}:{end}]" for start, end in edges.tolist())
            detail = f"{spans} of the {values.shape[1]} elements of {STATE} are no declared joint, pose or gripper"
            work.findings.append(_not_run("state", detail))


def canonicalise(recording: Recording, embodiment: Embodiment) -> Recording:
    """Add the canonical columns that the embodiment declares, `observation.state` where absent, and the conventions.

    A declared column that is absent or too narrow is a finding, and an undeclared part a check that was not run. The
    order of a quaternion's elements cannot be told from the quaternions: norms and the angle between two of them are
    the same in any order, so no finding is made of it here. Units and norms are PhysicsValidator's to measure.
    """
    work = _Canonicaliser(recording)
    _coverage(work, embodiment)
    if embodiment.state and not any(STATE in batch.schema.names for batch in recording.streams.values()):
        taken = work.take("state", *embodiment.state)
        if taken:
            work.put(taken[0], STATE, np.hstack(taken[1]), embodiment.state)
    _joints(work, embodiment)
    _pose(work, embodiment)
    _gripper(work, "gripper", GRIPPER, embodiment.gripper)
    _gripper(work, "action.gripper", ACTION_GRIPPER, embodiment.action.gripper)
    return replace(
        recording,
        streams=work.streams,
        conventions={**recording.conventions, **conventions_of(embodiment)},
        findings=recording.findings + tuple(work.findings),
    )
