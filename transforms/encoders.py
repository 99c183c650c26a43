"""What sensors get wrong whatever the robot's limits: quaternions off the unit sphere, encoders that stand still."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from transforms.arrays import Floats, column_matrix, times_ns
from transforms.conventions import ColumnSlice, Embodiment
from transforms.episode import Episode, Finding
from transforms.measure import Flags, Times, measured, not_run, runs
from transforms.schema import ACTION
from transforms.urdf import UrdfLimits

NAME = "physics"
MOVED_RAD = 1e-4
"""A step's change that counts as movement of another joint: the tolerance of positions."""


def declared_quaternion(embodiment: Embodiment) -> ColumnSlice | str:
    """The raw column of the end effector's quaternion; where there is none, the reason."""
    effector = embodiment.end_effector
    if effector is None or effector.rotation is None:
        return "no end-effector rotation is declared"
    if effector.rotation_type != "quaternion":
        return f"the end effector's rotation is declared as {effector.rotation_type}, not quaternion"
    return effector.rotation


def quaternion_findings(episode: Episode, place: ColumnSlice | str) -> list[Finding]:
    """`physics.quaternion_norm`, largest |norm - 1|, and `physics.quaternion_flips`, sign changes, of raw values."""
    checks = ("physics.quaternion_norm", "physics.quaternion_flips")
    if isinstance(place, str):
        return [not_run(NAME, check, place) for check in checks]
    values = column_matrix(episode.steps, place.column)
    raw = None if values is None else values[:, place.start : place.end]
    if raw is None or raw.shape[1] != 4 or not np.isfinite(raw).all(axis=1).any():
        return [not_run(NAME, check, f"{place.column!r} holds no finite quaternion") for check in checks]
    times = times_ns(episode.steps)
    off = np.nan_to_num(np.abs(np.linalg.norm(raw, axis=1) - 1), nan=0.0)
    worst = int(np.argmax(off))
    flips = sign_flips(raw)
    at = None if not len(flips) else (int(flips[0]), int(flips[-1]))
    return [
        measured(NAME, checks[0], float(off[worst]), "1", (worst, worst), times, f"of {place.column!r}"),
        measured(NAME, checks[1], len(flips), "count", at, times, f"of {place.column!r}"),
    ]


def sign_flips(quaternions: Floats) -> NDArray[np.int64]:
    """Steps t at which (T, 4) quaternions jump to the other sign of nearly the same rotation: q[t] . q[t-1] < 0."""
    return np.flatnonzero((quaternions[1:] * quaternions[:-1]).sum(axis=1) < 0) + 1


def commanded(episode: Episode, n_joints: int) -> Flags | None:
    """(T, J) where the action asks a joint to move; None where the action is not known to be one value per joint."""
    action = column_matrix(episode.steps, ACTION)
    kind = episode.conventions.get("action_kind", "unknown")
    if action is None or action.shape[1] != n_joints:
        return None
    if kind == "absolute_joint":
        return np.diff(action, axis=0, prepend=action[:1]) != 0
    if kind in ("delta_joint", "joint_velocity"):
        return action != 0
    return None


def frozen(q: Floats, moving: Flags) -> Flags:
    """(T, J) where a joint repeats its last value bit by bit while it should move."""
    same = np.zeros(q.shape, bool)
    same[1:] = q[1:] == q[:-1]
    return same & moving


def others_move(q: Floats) -> Flags:
    """(T, J) where some joint other than J moved to reach step T."""
    moved = np.zeros(q.shape, bool)
    moved[1:] = np.abs(np.diff(q, axis=0)) > MOVED_RAD
    return moved.sum(axis=1, keepdims=True) - moved > 0


def at_limit(q: Floats, limits: UrdfLimits | None) -> Flags:
    """(T, J) where a joint rests against a position limit: there it repeats itself without fault."""
    if limits is None:
        return np.zeros(q.shape, bool)
    return np.fmin(np.abs(q - limits.lower), np.abs(q - limits.upper)) < MOVED_RAD


def encoder_findings(
    episode: Episode, names: tuple[str, ...], q: Floats, times: Times | None, limits: UrdfLimits | None
) -> list[Finding]:
    """`physics.frozen_encoder`: the longest time a joint repeats itself bit by bit while it is asked to move.

    Where the action is one value per joint, that joint's command must move; elsewhere another joint must, and
    joints that are constant throughout are only counted (`physics.constant_joints`): no command tells whether they
    are broken or unused.
    """
    constant = np.all((q == q[0]) | np.isnan(q), axis=0)
    detail = ", ".join(name for name, still in zip(names, constant, strict=True) if still)
    counted = measured(NAME, "physics.constant_joints", int(constant.sum()), "count", detail=detail)
    if times is None:
        return [counted, not_run(NAME, "physics.frozen_encoder", "no timestamps: declare `rate_hz`", "s")]
    asked = commanded(episode, q.shape[1])
    flags = frozen(q, others_move(q) & ~constant if asked is None else asked) & ~at_limit(q, limits)
    longest = (0.0, 0, 0, 0)
    for joint in map(int, np.flatnonzero(flags.any(axis=0))):
        found = runs(flags[:, joint])
        spans = (times[found[:, 1]] - times[found[:, 0] - 1]) / 1e9
        best = int(np.argmax(spans))
        if spans[best] > longest[0]:
            longest = (float(spans[best]), joint, int(found[best, 0]), int(found[best, 1]))
    seconds, joint, first, last = longest
    if seconds == 0.0:
        return [counted, measured(NAME, "physics.frozen_encoder", 0.0, "s")]
    reason = "another joint moves" if asked is None else "its command moves"
    detail = f"{names[joint]} repeats {q[first, joint]:.6g} rad while {reason}"
    return [counted, measured(NAME, "physics.frozen_encoder", seconds, "s", (first, last), times, detail)]
