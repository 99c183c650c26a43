"""Small bags of ROS messages written by mcap, mcap-ros2-support and sqlite3, without any code of the project."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mcap.writer import CompressionType
from mcap_ros2._dynamic import generate_dynamic, serialize_dynamic
from mcap_ros2.writer import Writer
from PIL import Image

START_NS = 1_700_000_000_000_000_000
STEP_NS = 20_000_000
LATE_NS = 5_000_000
JOINTS = ("shoulder", "elbow", "wrist")
_TIME = "\n===\nMSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n"
_HEADER = "\n===\nMSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n" + _TIME
_XYZ = "\n===\nMSG: geometry_msgs/Vector3\nfloat64 x\nfloat64 y\nfloat64 z\n"
_POINT = "\n===\nMSG: geometry_msgs/Point\nfloat64 x\nfloat64 y\nfloat64 z\n"
_QUATERNION = "\n===\nMSG: geometry_msgs/Quaternion\nfloat64 x 0\nfloat64 y 0\nfloat64 z 0\nfloat64 w 1\n"
DEFINITIONS: Mapping[str, str] = {
    "sensor_msgs/msg/JointState": "# joints\nstd_msgs/Header header\nstring[] name\nfloat64[] position\n"
    "float64[] velocity\nfloat64[] effort" + _HEADER,
    "sensor_msgs/msg/Imu": "std_msgs/Header header\ngeometry_msgs/Quaternion orientation\n"
    "float64[9] orientation_covariance # row major\ngeometry_msgs/Vector3 angular_velocity\n"
    "float64[9] angular_velocity_covariance\ngeometry_msgs/Vector3 linear_acceleration\n"
    "float64[9] linear_acceleration_covariance" + _HEADER + _XYZ + _QUATERNION,
    "geometry_msgs/msg/WrenchStamped": "std_msgs/Header header\nWrench wrench\n===\nMSG: geometry_msgs/Wrench\n"
    "Vector3 force\nVector3 torque" + _HEADER + _XYZ,
    "geometry_msgs/msg/PoseStamped": "std_msgs/Header header\nPose pose\n===\nMSG: geometry_msgs/Pose\n"
    "Point position\nQuaternion orientation" + _HEADER + _POINT + _QUATERNION,
    "geometry_msgs/msg/TwistStamped": "std_msgs/Header header\nTwist twist\n===\nMSG: geometry_msgs/Twist\n"
    "Vector3 linear\nVector3 angular" + _HEADER + _XYZ,
    "tf2_msgs/msg/TFMessage": "geometry_msgs/TransformStamped[] transforms\n===\nMSG: geometry_msgs/TransformStamped\n"
    "std_msgs/Header header\nstring child_frame_id\nTransform transform\n===\nMSG: geometry_msgs/Transform\n"
    "Vector3 translation\nQuaternion rotation" + _HEADER + _XYZ + _QUATERNION,
    "sensor_msgs/msg/Image": "std_msgs/Header header\nuint32 height\nuint32 width\nstring encoding\n"
    "uint8 is_bigendian\nuint32 step\nuint8[] data" + _HEADER,
    "sensor_msgs/msg/CompressedImage": "std_msgs/Header header\nstring format\nuint8[] data" + _HEADER,
    "sensor_msgs/msg/CameraInfo": "std_msgs/Header header\nuint32 height\nuint32 width\nstring distortion_model\n"
    "float64[] d\nfloat64[9] k\nfloat64[9] r\nfloat64[12] p\nuint32 binning_x\nuint32 binning_y\n"
    "sensor_msgs/RegionOfInterest roi\n===\nMSG: sensor_msgs/RegionOfInterest\nuint32 x_offset\nuint32 y_offset\n"
    "uint32 height\nuint32 width\nbool do_rectify" + _HEADER,
    "std_msgs/msg/String": "uint8 OTHER=1\nstring data\n",
    "std_msgs/msg/Float64MultiArray": "MultiArrayLayout layout\nfloat64[] data\n===\nMSG: std_msgs/MultiArrayLayout\n"
    "MultiArrayDimension[] dim\nuint32 data_offset\n===\nMSG: std_msgs/MultiArrayDimension\nstring label\n"
    "uint32 size\nuint32 stride\n",
}


@dataclass(frozen=True)
class Message:
    """One message: `late_ns` after `stamp_ns` it was logged."""

    topic: str
    kind: str
    stamp_ns: int
    content: Mapping[str, Any]
    late_ns: int = LATE_NS

    @property
    def log_ns(self) -> int:
        return self.stamp_ns + self.late_ns


def header(stamp_ns: int) -> dict[str, Any]:
    return {"stamp": {"sec": stamp_ns // 10**9, "nanosec": stamp_ns % 10**9}, "frame_id": "base"}


def joints(
    topic: str,
    positions: np.ndarray,
    names: Sequence[str] = JOINTS,
    start_ns: int = START_NS,
    step_ns: int = STEP_NS,
    full: bool = False,
    late_ns: int = LATE_NS,
) -> list[Message]:
    """JointStates of (T, J) positions; `full` ones have velocities and efforts, ten and a hundred times as large."""
    out = []
    for index, row in enumerate(positions):
        stamp = start_ns + index * step_ns
        content = {"header": header(stamp), "name": list(names), "position": row.tolist()}
        content |= {"velocity": (row * 10).tolist() if full else [], "effort": (row * 100).tolist() if full else []}
        out.append(Message(topic, "sensor_msgs/msg/JointState", stamp, content, late_ns))
    return out


def xyz(values: Sequence[float]) -> dict[str, float]:
    return dict(zip("xyzw", map(float, values), strict=False))


def jpeg(shade: int, size: tuple[int, int] = (16, 12)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (shade, 10, 20)).save(out, "JPEG")
    return out.getvalue()


def write_mcap(
    path: Path,
    messages: Sequence[Message],
    compression: CompressionType = CompressionType.ZSTD,
    chunk_size: int = 8192,
    metadata: Mapping[str, Mapping[str, str]] | None = None,
) -> Path:
    """A file of messages in the order given, chunked by mcap's own writer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=chunk_size, compression=compression)
        known = {
            kind: writer.register_msgdef(kind, DEFINITIONS[kind]) for kind in dict.fromkeys(m.kind for m in messages)
        }
        for sequence, m in enumerate(messages):
            writer.write_message(m.topic, known[m.kind], m.content, m.log_ns, m.stamp_ns, sequence)
        for name, texts in (metadata or {}).items():
            writer.add_metadata(name, dict(texts))
        writer.finish()
    return path


@dataclass
class Serializer:
    """CDR of messages by mcap-ros2-support."""

    encoders: dict[str, Callable[[Any], bytes]] = field(default_factory=dict)

    def __call__(self, message: Message) -> bytes:
        if message.kind not in self.encoders:
            self.encoders[message.kind] = serialize_dynamic(message.kind, DEFINITIONS[message.kind])[message.kind]
        return self.encoders[message.kind](message.content)


def decoded(kind: str, data: bytes) -> Any:
    """A message's content as mcap-ros2-support reads it."""
    return generate_dynamic(kind, DEFINITIONS[kind])[kind](data)


def write_db3(path: Path, messages: Sequence[Message], definitions: bool = True) -> Path:
    """A rosbag2 SQLite file; of Humble and before where it has no definitions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    serialize = Serializer()
    topics = {name: number for number, name in enumerate(dict.fromkeys(m.topic for m in messages), 1)}
    kinds = {m.topic: m.kind for m in messages}
    with sqlite3.connect(path) as database:
        database.execute(
            "create table topics(id integer primary key, name text, type text, "
            "serialization_format text, offered_qos_profiles text)"
        )
        database.execute(
            "create table messages(id integer primary key, topic_id integer, timestamp integer, data blob)"
        )
        database.executemany(
            "insert into topics values (?, ?, ?, 'cdr', '')", [(n, t, kinds[t]) for t, n in topics.items()]
        )
        rows = [(topics[m.topic], m.log_ns, serialize(m)) for m in messages]
        database.executemany("insert into messages(topic_id, timestamp, data) values (?, ?, ?)", rows)
        if definitions:
            database.execute(
                "create table message_definitions(id integer primary key, topic_type text, encoding text, "
                "encoded_message_definition text, type_description_hash text)"
            )
            rows = [(kind, "ros2msg", DEFINITIONS[kind]) for kind in sorted(set(kinds.values()))]
            database.executemany(
                "insert into message_definitions(topic_type, encoding, encoded_message_definition, "
                "type_description_hash) values (?, ?, ?, '')",
                rows,
            )
    database.close()
    return path
