"""ROS message definitions (`.msg` text, ROS 1 and ROS 2) as fields, and those of the types that bags may leave out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

PRIMITIVES: Mapping[str, str] = {
    "bool": "u1",
    "byte": "u1",
    "char": "u1",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "int64": "i8",
    "uint64": "u8",
    "float32": "f4",
    "float64": "f8",
}
TEXT = "string"
ROS1_TIMES = ("time", "duration")
SEQUENCE = -1
_TYPE = re.compile(r"(?P<kind>[A-Za-z][A-Za-z0-9_/]*)(?:<=\d+)?(?P<array>\[(?P<size>(?:<=)?\d*)\])?")


class UnknownDefinition(ValueError):
    """A message definition that cannot be read; the message names the type and what is wrong."""


@dataclass(frozen=True)
class Field:
    """One field: `kind` a primitive, `string`, `time`, `duration` or `package/Name`.

    `count` is None for a single value, SEQUENCE for a list that states its length, else the length of a fixed array.
    """

    name: str
    kind: str
    count: int | None = None


@dataclass(frozen=True)
class Definition:
    """A message type with every type that it is made of, by `package/Name`."""

    name: str
    types: Mapping[str, tuple[Field, ...]]

    @property
    def fields(self) -> tuple[Field, ...]:
        return self.types[self.name]


def type_name(name: str) -> str:
    """`sensor_msgs/JointState` of `sensor_msgs/msg/JointState`."""
    return name.replace("/msg/", "/")


def parse_definition(name: str, text: str) -> Definition:
    """The definition of a type from its text, with dependencies after `MSG: package/Name` lines.

    An empty text is that of a known standard type. Raises UnknownDefinition where a type is undefined or a line
    cannot be read.
    """
    root = type_name(name)
    if not text.strip():
        return known_definition(root)
    blocks: dict[str, list[str]] = {root: []}
    current = root
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("MSG:"):
            current = type_name(line.removeprefix("MSG:").strip())
            blocks.setdefault(current, [])
        elif line and not line.startswith(("#", "===")):
            blocks[current].append(line)
    types = {one: _fields(one, lines, blocks) for one, lines in blocks.items()}
    _check(root, types, ())
    return Definition(root, types)


def _fields(owner: str, lines: list[str], blocks: Mapping[str, list[str]]) -> tuple[Field, ...]:
    fields = []
    for line in lines:
        match = _TYPE.match(line)
        rest = line[match.end() :].split("#")[0].strip() if match else ""
        if match is None or not rest:
            raise UnknownDefinition(f"{owner}: the line {line!r} is no field")
        name, constant = re.match(r"(\w*)\s*(=)?", rest).groups()  # type: ignore[union-attr]
        if not name:
            raise UnknownDefinition(f"{owner}: the line {line!r} is no field")
        if constant:
            continue
        size = match["size"]
        count = None if match["array"] is None else int(size) if size.isdigit() else SEQUENCE
        fields.append(Field(name, _resolved(match["kind"], owner, blocks), count))
    return tuple(fields)


def _resolved(kind: str, owner: str, blocks: Mapping[str, list[str]]) -> str:
    if kind in PRIMITIVES or kind == TEXT or kind in ROS1_TIMES:
        return kind
    if kind == "Header":
        return "std_msgs/Header"
    if "/" in kind:
        return type_name(kind)
    beside = f"{owner.partition('/')[0]}/{kind}"
    named = [one for one in blocks if one.endswith(f"/{kind}")]
    return beside if beside in blocks or not named else named[0]


def _check(name: str, types: Mapping[str, tuple[Field, ...]], above: tuple[str, ...]) -> None:
    if name not in types:
        raise UnknownDefinition(f"{above[0]}: its type {name} is not defined")
    if name in above:
        raise UnknownDefinition(f"{above[0]}: its type {name} holds itself")
    for field in types[name]:
        if "/" in field.kind:
            _check(field.kind, types, (*above, name))


_VECTOR = "float64 x\nfloat64 y\nfloat64 z\n"
_STANDARD: Mapping[str, str] = {
    "builtin_interfaces/Time": "int32 sec\nuint32 nanosec\n",
    "std_msgs/Header": "builtin_interfaces/Time stamp\nstring frame_id\n",
    "std_msgs/String": "string data\n",
    "geometry_msgs/Vector3": _VECTOR,
    "geometry_msgs/Point": _VECTOR,
    "geometry_msgs/Quaternion": _VECTOR + "float64 w\n",
    "geometry_msgs/Pose": "geometry_msgs/Point position\ngeometry_msgs/Quaternion orientation\n",
    "geometry_msgs/Transform": "geometry_msgs/Vector3 translation\ngeometry_msgs/Quaternion rotation\n",
    "geometry_msgs/Twist": "geometry_msgs/Vector3 linear\ngeometry_msgs/Vector3 angular\n",
    "geometry_msgs/Wrench": "geometry_msgs/Vector3 force\ngeometry_msgs/Vector3 torque\n",
    "geometry_msgs/PoseStamped": "Header header\ngeometry_msgs/Pose pose\n",
    "geometry_msgs/TwistStamped": "Header header\ngeometry_msgs/Twist twist\n",
    "geometry_msgs/WrenchStamped": "Header header\ngeometry_msgs/Wrench wrench\n",
    "geometry_msgs/TransformStamped": "Header header\nstring child_frame_id\ngeometry_msgs/Transform transform\n",
    "tf2_msgs/TFMessage": "geometry_msgs/TransformStamped[] transforms\n",
    "sensor_msgs/JointState": "Header header\nstring[] name\nfloat64[] position\nfloat64[] velocity\n"
    "float64[] effort\n",
    "sensor_msgs/CompressedImage": "Header header\nstring format\nuint8[] data\n",
    "sensor_msgs/Image": "Header header\nuint32 height\nuint32 width\nstring encoding\nuint8 is_bigendian\n"
    "uint32 step\nuint8[] data\n",
    "sensor_msgs/RegionOfInterest": "uint32 x_offset\nuint32 y_offset\nuint32 height\nuint32 width\nbool do_rectify\n",
    "sensor_msgs/CameraInfo": "Header header\nuint32 height\nuint32 width\nstring distortion_model\nfloat64[] d\n"
    "float64[9] k\nfloat64[9] r\nfloat64[12] p\nuint32 binning_x\nuint32 binning_y\nsensor_msgs/RegionOfInterest roi\n",
    "sensor_msgs/Imu": "Header header\ngeometry_msgs/Quaternion orientation\nfloat64[9] orientation_covariance\n"
    "geometry_msgs/Vector3 angular_velocity\nfloat64[9] angular_velocity_covariance\n"
    "geometry_msgs/Vector3 linear_acceleration\nfloat64[9] linear_acceleration_covariance\n",
}
"""ROS 2's common_interfaces, for bags that store no definitions (db3 of Humble and before)."""


@cache
def known_definition(name: str) -> Definition:
    """The definition of a standard ROS 2 type. Raises UnknownDefinition for others."""
    if name not in _STANDARD:
        raise UnknownDefinition(f"{name}: the file holds no definition of it and it is no standard type")
    blocks = {one: text.splitlines() for one, text in _STANDARD.items()}
    types = {one: _fields(one, lines, blocks) for one, lines in blocks.items()}
    return Definition(name, types)


def is_known(definition: Definition) -> bool:
    """Whether a definition is that of the standard type of its name."""
    known = known_definition(definition.name) if definition.name in _STANDARD else None
    return known is not None and all(known.types.get(name) == fields for name, fields in definition.types.items())
