"""What the topics of a bag are for, guessed from their types and names where the configuration does not say."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from transforms.conventions import TopicField, Topics
from transforms.schema import ACTION, STATE

IMAGE_KINDS = ("sensor_msgs/CompressedImage", "sensor_msgs/Image")
CAMERA_INFO = "sensor_msgs/CameraInfo"
JOINTS = "sensor_msgs/JointState"
TEXT_KIND = "std_msgs/String"
TRANSFORMS = "tf2_msgs/TFMessage"
_MEASURED: Mapping[str, tuple[tuple[str, str], ...]] = {
    "geometry_msgs/PoseStamped": (("pose", "pose"),),
    "geometry_msgs/TwistStamped": (("twist", "twist"),),
    "geometry_msgs/WrenchStamped": (("wrench", "wrench"),),
    "sensor_msgs/Imu": (
        ("imu_orientation", "orientation"),
        ("imu_angular_velocity", "angular_velocity"),
        ("imu_linear_acceleration", "linear_acceleration"),
    ),
}
"""The word in the column's name, and the field, of each measurement of a type."""
_COMMANDS = (JOINTS, "geometry_msgs/PoseStamped", "geometry_msgs/TwistStamped")
"""Types that can be an action; the first that a bag has as one is called `action`."""
_LEADING = frozenset(
    [
        "action",
        "actions",
        "cmd",
        "command",
        "commands",
        "commanded",
        "desired",
        "goal",
        "lead",
        "leader",
        "master",
        "target",
        "teleop",
    ]
)
_SPOKEN = frozenset(
    ["annotation", "caption", "command", "instruction", "instructions", "language", "prompt", "task", "utterance"]
)
_DULL = frozenset(("color", "colour", "compressed", "compresseddepth", "data", "data_raw", "raw", "rgb", "robot", "tf"))
_DULL |= {
    "camera_info",
    "image",
    "image_color",
    "image_raw",
    "image_rect",
    "image_rect_raw",
    "joint_state",
    "joint_states",
}
_DESCRIPTIONS = ("language_instruction", "instruction", "task_description", "task")


@dataclass(frozen=True)
class TopicInfo:
    """A topic as a guess needs it: its type, and which fields of its messages hold anything (empty where not known)."""

    name: str
    kind: str
    fields: tuple[str, ...] = ()


def words(topic: str) -> set[str]:
    """The words of a topic's name, in lower case."""
    return {word for word in re.split(r"[^a-z]+", topic.lower()) if word}


def short_name(topic: str) -> str:
    """What tells a topic apart: `left_camera` of `/robot/left_camera/color/image_raw`; else all of it."""
    parts = [part for part in re.split(r"[/.]", topic) if part]
    telling = [part for part in parts if part.lower() not in _DULL]
    return ".".join(telling or parts)


def _named(topics: Sequence[str], name: Callable[[str], str] = short_name) -> dict[str, str]:
    """Topics by their short names; by their whole names where two have the same one."""
    short = [name(topic) for topic in topics]
    whole = [".".join(part for part in re.split(r"[/.]", topic) if part) for topic in topics]
    return {s if short.count(s) == 1 else w: t for s, w, t in zip(short, whole, topics, strict=True)}


def _cameras(topics: Sequence[TopicInfo], videos: Sequence[str]) -> dict[str, str]:
    """Compressed before raw images of one camera, and both before a video beside the bag."""
    chosen: dict[str, str] = {}
    for kind in IMAGE_KINDS:
        for name, topic in _named([one.name for one in topics if one.kind == kind]).items():
            chosen.setdefault(name, topic)
    for name, video in _named(videos, lambda file: short_name(file.rpartition(".")[0])).items():
        chosen.setdefault(name, video)
    return dict(sorted(chosen.items()))


def _first_field(topic: TopicInfo) -> str:
    known = [name for name in ("position", "velocity", "effort") if name in topic.fields]
    return known[0] if known else "position"


def _joint_columns(topics: Sequence[TopicInfo]) -> dict[str, tuple[TopicField, ...]]:
    leading = [one for one in topics if words(one.name) & _LEADING]
    measured = [one for one in topics if one not in leading]
    columns: dict[str, tuple[TopicField, ...]] = {}
    if measured:
        columns[STATE] = tuple(TopicField(one.name, _first_field(one)) for one in measured)
    for name in ("velocity", "effort"):
        having = [one for one in measured if name in one.fields and _first_field(one) != name]
        if having:
            columns[f"observation.{name}"] = tuple(TopicField(one.name, name) for one in having)
    if leading:
        columns[ACTION] = tuple(TopicField(one.name, _first_field(one)) for one in leading)
    return columns


def guess_topics(topics: Sequence[TopicInfo], videos: Sequence[str] = (), metadata: Sequence[str] = ()) -> Topics:
    """A mapping for a bag's topics, the file names of videos beside it and its `metadata.NAME.KEY` names.

    JointStates are `observation.state`, and `action` where a word of the name says that they lead; other measurements
    are columns named by their topic. A String is the instruction where its name says so; else a task in the metadata.
    What fits nothing is left out.
    """
    ordered = sorted(topics, key=lambda one: one.name)
    columns = _joint_columns([one for one in ordered if one.kind == JOINTS])
    for kind, measured in _MEASURED.items():
        of_kind = [one.name for one in ordered if one.kind == kind]
        leading = [name for name in of_kind if kind in _COMMANDS and words(name) & _LEADING]
        if leading and ACTION not in columns:
            columns[ACTION] = tuple(TopicField(name, measured[0][1]) for name in leading)
            of_kind = [name for name in of_kind if name not in leading]
        for short, name in _named(of_kind).items():
            for word, part in measured:
                column = f"{'action' if name in leading else 'observation'}.{word}.{short}"
                columns[column] = (TopicField(name, part),)
    for one in ordered:
        if one.kind == TRANSFORMS and "static" not in words(one.name):
            columns |= {f"observation.tf.{child}": (TopicField(one.name, child),) for child in one.fields}
    infos = _named([one.name for one in ordered if one.kind == CAMERA_INFO])
    spoken = [one.name for one in ordered if one.kind == TEXT_KIND and words(one.name) & _SPOKEN]
    if not spoken:
        stated = {key: [m for m in metadata if m.rpartition(".")[2] == key] for key in _DESCRIPTIONS}
        spoken = next((found[:1] for found in stated.values() if found), [])
    return Topics(columns, _cameras(ordered, videos), infos, tuple(spoken))
