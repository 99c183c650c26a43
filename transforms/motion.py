"""How fast the robot moves at each step, from the best-declared columns that the episode has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transforms.arrays import Floats, column_matrix, times_ns
from transforms.episode import Episode
from transforms.kinematics import backward_velocity
from transforms.measure import Flags
from transforms.schema import END_EFFECTOR_POSE, GRIPPER, JOINT_POSITION, STATE


@dataclass(frozen=True)
class MotionParams:
    """Where standing ends and moving begins; between the two neither is claimed.

    Where no unit is declared, a step is still when no element of the state changes by more than `still_share` of its
    range in the episode, and moving when one changes by more than `moving_share`.
    """

    still_rad_s: float = 0.005
    still_m_s: float = 0.001
    moving_rad_s: float = 0.05
    moving_m_s: float = 0.01
    still_share: float = 1e-4
    moving_share: float = 5e-3
    still_gripper: float = 1e-3

    def __post_init__(self) -> None:
        for still, moving in (
            ("still_rad_s", "moving_rad_s"),
            ("still_m_s", "moving_m_s"),
            ("still_share", "moving_share"),
        ):
            if not 0 <= getattr(self, still) <= getattr(self, moving):
                found = f"motion.{still} is {getattr(self, still)} and {moving} {getattr(self, moving)}"
                raise ValueError(f"{found}; need 0 <= {still} <= {moving}")
        if not self.still_gripper >= 0:
            raise ValueError(f"motion.still_gripper is {self.still_gripper}; need 0 or more")


@dataclass(frozen=True)
class Motion:
    """Of T steps: `known` where a change could be computed (never at step 0), `still`, `moving`.

    `speed` (T,) in `unit` is the norm of the joints' velocity, else the end effector's; None where no unit or time is
    known. `basis` names the column.
    """

    basis: str
    known: Flags
    still: Flags
    moving: Flags
    speed: Floats | None
    unit: str = ""


def measure_motion(episode: Episode, params: MotionParams) -> Motion | str:
    """Motion by joints, else by end effector, else by the raw state; where there is none of them, the reason."""
    times = times_ns(episode.steps)
    q = column_matrix(episode.steps, JOINT_POSITION)
    pose = column_matrix(episode.steps, END_EFFECTOR_POSE)
    grip = column_matrix(episode.steps, GRIPPER)
    if times is not None and q is not None and np.isfinite(q).any():
        speed = backward_velocity(q, times)
        peak = np.abs(speed).max(axis=1)
        norm = np.linalg.norm(speed, axis=1)
        still, moving = _compare(peak, params.still_rad_s, params.moving_rad_s)
        return _with_gripper(Motion(JOINT_POSITION, np.isfinite(peak), still, moving, norm, "rad/s"), grip, params)
    if times is not None and pose is not None and np.isfinite(pose).any():
        linear = np.linalg.norm(backward_velocity(pose[:, :3], times), axis=1)
        angular = _angular_speed(pose[:, 3:], linear, times)
        still, moving = _compare(linear, params.still_m_s, params.moving_m_s)
        turns_not, turning = _compare(angular, params.still_rad_s, params.moving_rad_s)
        motion = Motion(END_EFFECTOR_POSE, np.isfinite(linear), still & turns_not, moving | turning, linear, "m/s")
        return _with_gripper(motion, grip, params)
    raw = q if q is not None else column_matrix(episode.steps, STATE)
    if raw is None or not np.isfinite(raw).any() or len(raw) < 2:
        return f"neither joints, end effector nor {STATE!r} give two finite steps"
    share = _change_share(raw)
    still, moving = _compare(share, params.still_share, params.moving_share)
    return Motion(STATE if q is None else JOINT_POSITION, np.isfinite(share), still, moving, None)


def _compare(speed: Floats, still: float, moving: float) -> tuple[Flags, Flags]:
    value = np.nan_to_num(speed, nan=-1.0)
    return (value >= 0) & (value <= still), value > moving


def _with_gripper(motion: Motion, grip: Floats | None, params: MotionParams) -> Motion:
    if grip is None:
        return motion
    change = np.abs(np.diff(grip[:, 0], prepend=grip[:1, 0]))
    still = motion.still & ~(np.nan_to_num(change, nan=0.0) > params.still_gripper)
    return Motion(motion.basis, motion.known, still, motion.moving, motion.speed, motion.unit)


def _angular_speed(quaternion: Floats, linear: Floats, times: np.ndarray) -> Floats:
    """(T,) rad/s between successive quaternions (T, 4), whatever their sign."""
    dot = np.abs((quaternion[1:] * quaternion[:-1]).sum(axis=1))
    norm = np.linalg.norm(quaternion[1:], axis=1) * np.linalg.norm(quaternion[:-1], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        angle = 2 * np.arccos(np.clip(dot / norm, 0, 1))
        angle[angle < 1e-6] = 0.0  # arccos near 1 turns rounding into 1e-8 rad
        speed = np.full(linear.shape, np.nan)
        speed[1:] = angle / (np.diff(times) / 1e9)
    return np.where(np.isfinite(linear), speed, np.nan)


def _change_share(raw: Floats) -> Floats:
    """(T,) largest change of any element into each step, as a share of that element's range; NaN at step 0."""
    finite = np.isfinite(raw)
    low = np.where(finite, raw, np.inf).min(axis=0)
    high = np.where(finite, raw, -np.inf).max(axis=0)
    raw = np.where(finite, raw, np.nan)
    moving = high > low
    share = np.full(len(raw), np.nan)
    share[1:] = 0.0
    if moving.any():
        share[1:] = (np.abs(np.diff(raw[:, moving], axis=0)) / (high - low)[moving]).max(axis=1)
    return share
