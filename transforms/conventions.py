"""What a user declares of sources and robots. Nothing here is guessed: what is absent reads `unknown`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote

RotationType = Literal["quaternion", "rpy", "rotvec", "rotation_6d", "unknown"]
QuaternionOrder = Literal["wxyz", "xyzw", "unknown"]
Unit = Literal["rad", "deg", "m", "mm", "fraction", "percent", "unknown"]
ActionKind = Literal[
    "absolute_joint",
    "delta_joint",
    "joint_velocity",
    "absolute_end_effector",
    "delta_end_effector",
    "unknown",
]


@dataclass(frozen=True)
class ColumnSlice:
    """Elements `[start, end)` of a step column; the whole column where `end` is None."""

    column: str
    start: int = 0
    end: int | None = None

    def __post_init__(self) -> None:
        if self.start < 0 or (self.end is not None and self.end <= self.start):
            raise ValueError(f"column slice [{self.start}, {self.end}) of {self.column!r} is empty; need start < end")


@dataclass(frozen=True)
class JointColumns:
    """Joint `names` as the URDF has them, in the order of the columns that hold them."""

    names: tuple[str, ...]
    position: ColumnSlice
    velocity: ColumnSlice | None = None
    unit: Literal["rad", "deg", "unknown"] = "unknown"

    def __post_init__(self) -> None:
        for what, part in (("position", self.position), ("velocity", self.velocity)):
            if part is not None and part.end is not None and part.end - part.start != len(self.names):
                span = f"{part.column}[{part.start}:{part.end}]"
                width = part.end - part.start
                raise ValueError(f"{what} {span} holds {width} elements for {len(self.names)} joint names; match them")


@dataclass(frozen=True)
class EndEffectorColumns:
    """The end effector's pose: position (T, 3) and rotation in its declared representation."""

    position: ColumnSlice
    rotation: ColumnSlice | None = None
    rotation_type: RotationType = "unknown"
    quaternion_order: QuaternionOrder = "unknown"
    position_unit: Literal["m", "mm", "unknown"] = "unknown"
    rotation_unit: Literal["rad", "deg", "unknown"] = "unknown"
    frame: str = "unknown"


@dataclass(frozen=True)
class GripperColumns:
    """The gripper's opening: `closed` and `open` are the raw values at its two ends, so sign and range are stated."""

    position: ColumnSlice
    closed: float
    open: float
    unit: Unit = "unknown"

    def __post_init__(self) -> None:
        if self.closed == self.open:
            raise ValueError(f"gripper closed and open are both {self.open}; state the raw value at each end")


@dataclass(frozen=True)
class ActionColumns:
    """What the action means. `gripper` names the element that commands the gripper, with its own two ends."""

    kind: ActionKind = "unknown"
    gripper: GripperColumns | None = None


@dataclass(frozen=True)
class Embodiment:
    """One robot as its recordings write it.

    `state` lists the columns that, side by side, make `observation.state` where the format has no such column.
    `rate_hz` is used where the format stores no time.
    """

    urdf: str | None = None
    rate_hz: float | None = None
    joints: JointColumns | None = None
    end_effector: EndEffectorColumns | None = None
    gripper: GripperColumns | None = None
    action: ActionColumns = field(default_factory=ActionColumns)
    state: tuple[ColumnSlice, ...] = ()
    depth_unit: Literal["m", "mm", "unknown"] = "unknown"

    def __post_init__(self) -> None:
        if self.rate_hz is not None and not 0 < self.rate_hz <= 10_000:
            raise ValueError(f"rate_hz is {self.rate_hz}; need 0 < rate_hz <= 10000")


@dataclass(frozen=True)
class TopicField:
    """One field of a topic's messages, such as `position` of a JointState; only `joints`, in that order, if given."""

    topic: str
    field: str
    joints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Topics:
    """Which ROS topics become what. `columns`: the fields that, side by side, make a step column.

    Columns of the same topics are one stream, named by its first column, with the stamps of its first topic. `cameras`
    and `camera_info` name topics, or a video beside the bag by its file name; `instruction` names String topics or
    `metadata.NAME.KEY`. `clock` is the stream whose stamps the steps take; alignment chooses where it is empty.
    """

    columns: Mapping[str, tuple[TopicField, ...]] = field(default_factory=dict)
    cameras: Mapping[str, str] = field(default_factory=dict)
    camera_info: Mapping[str, str] = field(default_factory=dict)
    instruction: tuple[str, ...] = ()
    clock: str = ""

    def __post_init__(self) -> None:
        if empty := sorted(name for name, parts in self.columns.items() if not parts):
            raise ValueError(f"column {empty[0]!r} of `topics` names no field; give it a topic and a field")
        if self.clock and self.clock not in (*self.columns, *(f"video.{camera}" for camera in self.cameras)):
            known = ", ".join((*self.columns, *(f"video.{camera}" for camera in self.cameras))) or "none"
            raise ValueError(f"clock {self.clock!r} of `topics` is no column or video.CAMERA of it; known: {known}")


@dataclass(frozen=True)
class Source:
    """One `sources:` entry. `path` is a file, a folder or a glob; `time_unit` is for sidecars' time column.

    `topics` is for bags of ROS messages; without it, it is guessed. `reader: tensorflow` reads RLDS by tf.data where
    the extra [tensorflow] is installed; the recordings are the same.
    """

    name: str
    path: str
    format: Literal["auto", "rlds", "isaac_hdf5", "aloha_hdf5", "lerobot", "mcap", "rosbag1", "rosbag2", "video"] = (
        "auto"
    )
    splits: tuple[str, ...] = ()
    embodiment: str = ""
    required: tuple[str, ...] = ()
    time_column: str = "timestamp"
    time_unit: Literal["s", "ms", "us", "ns"] = "s"
    topics: Topics | None = None
    reader: Literal["native", "tensorflow"] = "native"

    def __post_init__(self) -> None:
        if self.reader == "tensorflow" and self.format != "rlds":
            raise ValueError(
                f"source {self.name!r}: `reader: tensorflow` reads RLDS alone and the format is {self.format!r}; "
                "set `format: rlds`, or leave the reader out"
            )
        if not self.name or any(c in self.name for c in "/\\=\0") or self.name.startswith("."):
            raise ValueError(f"source name {self.name!r}: use a non-empty name without '/', '\\' or '='")
        folder = f"source={quote(self.name, safe='')}"
        if len(folder) > 255:
            raise ValueError(
                f"source name {self.name!r} makes a folder's name of {len(folder)} bytes; need at most 255"
            )
