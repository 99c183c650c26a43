"""What can be told of a robot from names and rates: never a unit, a limit or an end of a gripper."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from beam_pipeline.inspection.code import RATE_UNKNOWN
from beam_pipeline.inspection.report import DatasetReport, Stream
from transforms.conventions import ActionColumns, ColumnSlice, Embodiment, JointColumns
from transforms.schema import ACTION, STATE

_POSE = re.compile(r"(^|.*[._-])([xyz]|r[xyz]|q[xyzw])|roll|pitch|yaw|(.*[._-])?(eef?|tcp|pose|quat)([._-].*)?", re.I)
"""Elements of a pose: an axis, an angle's name alone (`wrist_roll` is a joint), or a word for the tool."""
_GRIPPER = re.compile(r"gripper|jaw", re.IGNORECASE)
_POSITION = (".pos", ".position", "_pos", "_position")
_VELOCITY = (".vel", ".velocity", "_vel", "_velocity")
_JOINT_COLUMNS = (
    "states.articulation.robot.joint_position",
    "observation.joint_pos",
    "observation.joint_positions",
    "observation.robot0_joint_pos",
    "observation.qpos",
    "qpos",
    "q",
)
"""Columns of joint positions by the formats' own names, the absolute ones first."""


@dataclass(frozen=True)
class Guess:
    """An embodiment, and in words what was guessed of it and what stays undeclared, each with its reason."""

    name: str
    embodiment: Embodiment
    guessed: tuple[str, ...]
    undeclared: tuple[str, ...]


def guess_embodiment(report: DatasetReport, source: str) -> Guess:
    """The robot of one data set."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", report.robot).strip("_").lower() or source
    streams = {stream.name: stream for stream in report.streams}
    guess = Guess(name, Embodiment(), (), ())
    for part in (_rate(report), _joints(streams.get(STATE)), _state(report.streams), _action(streams)):
        embodiment = guess.embodiment
        for field in ("rate_hz", "joints", "state", "action"):
            value = getattr(part.embodiment, field)
            if value != getattr(Embodiment(), field):
                embodiment = replace(embodiment, **{field: value})
        guess = Guess(name, embodiment, guess.guessed + part.guessed, guess.undeclared + part.undeclared)
    return guess


def _told(embodiment: Embodiment, *why: str) -> Guess:
    return Guess("", embodiment, why, ())


def _untold(*why: str) -> Guess:
    return Guess("", Embodiment(), (), why)


def _rate(report: DatasetReport) -> Guess:
    if report.rate_hz:
        return _told(Embodiment(rate_hz=report.rate_hz), f"rate_hz: {report.rate_hz:g}, as the metadata states it")
    if any(notice.check == RATE_UNKNOWN for notice in report.notices):
        return _untold("rate_hz: neither a rate nor times are stored; checks that need them say not run")
    return _told(Embodiment())


def _joints(state: Stream | None) -> Guess:
    """Joints by the names of the state's elements: a run of positions, a gripper and poses aside."""
    if state is None or not state.names:
        return _untold("joints: no names of the state's elements are stored")
    names = state.names
    if poses := [name for name in names if _POSE.fullmatch(_base(name))]:
        return _untold(f"joints: elements such as {poses[0]!r} look like a pose, not like joints")
    grippers = [at for at, name in enumerate(names) if _GRIPPER.search(name)]
    rest = [at for at, name in enumerate(names) if at not in grippers and not name.endswith(_VELOCITY)]
    if not rest or rest != list(range(rest[0], rest[-1] + 1)):
        return _untold("joints: their elements do not follow on one another in the state")
    bases = tuple(_base(names[at]) for at in rest)
    if len(set(bases)) < len(bases):
        return _untold("joints: names of the state's elements repeat")
    joints = JointColumns(bases, ColumnSlice(STATE, rest[0], rest[-1] + 1))
    told = _told(Embodiment(joints=joints), f"joints: {len(bases)} names of the elements of {STATE}")
    unit = "joints.unit and urdf: neither is stored; limits and velocities say not run"
    ends = [f"gripper: element {at} ({names[at]!r}) by its name, but not its values closed and open" for at in grippers]
    return replace(told, undeclared=(unit, *ends))


def _base(name: str) -> str:
    """`shoulder_pan` of `shoulder_pan.pos`."""
    return next((name.removesuffix(s) for s in _POSITION if name.endswith(s) and len(name) > len(s)), name)


def _state(streams: Sequence[Stream]) -> Guess:
    """The column of joint positions as `observation.state`, where the format has no such column."""
    names = {stream.name for stream in streams}
    if not names or STATE in names:
        return _told(Embodiment())
    column = next((name for name in _JOINT_COLUMNS if name in names), None)
    if column is None:
        return _untold(f"state: no column is named as joint positions are; there is no {STATE}")
    return _told(Embodiment(state=(ColumnSlice(column),)), f"state: {column}, joint positions by its name")


def _action(streams: dict[str, Stream]) -> Guess:
    """Absolute joints where LeRobot names the action's elements as goal positions of the state's own motors."""
    action, state = streams.get(ACTION), streams.get(STATE)
    if action is None:
        return _untold("action: there is no such column")
    goals = action.names and all(name.endswith(".pos") for name in action.names)
    if state is not None and goals and action.names == state.names:
        kind = ActionColumns("absolute_joint")
        return _told(Embodiment(action=kind), "action.kind: absolute_joint, as its elements are goal positions (.pos)")
    return _untold("action.kind: names do not tell whether actions are absolute, deltas or velocities")
