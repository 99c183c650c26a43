"""ROS 1 bags written by the `rosbags` library, and single records by hand where it writes none such."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag1 import Reader, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from tests.factories import motion

STORE = get_typestore(Stores.ROS1_NOETIC)
for _name in ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage"):
    STORE.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", _name))
TYPES = STORE.types
JOINTS = tuple(f"joint_{i}" for i in range(7))
START_NS = 1_700_000_000_250_000_000
PERIOD_NS = 10_000_000
DELAY_NS = 3_000_000


def ros_time(ns: int) -> Any:
    return TYPES["builtin_interfaces/msg/Time"](sec=ns // 10**9, nanosec=ns % 10**9)


def header(ns: int, seq: int = 0, frame: str = "base") -> Any:
    return TYPES["std_msgs/msg/Header"](seq=seq, stamp=ros_time(ns), frame_id=frame)


def joint_state(ns: int, q: NDArray[np.float64], names: tuple[str, ...] = JOINTS, seq: int = 0) -> Any:
    zeros = np.zeros(len(q))
    kind = TYPES["sensor_msgs/msg/JointState"]
    return kind(header=header(ns, seq), name=list(names), position=q, velocity=q * 2, effort=zeros + 0.5)


class Bag:
    """An open bag: topics are added as they are first written to."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self._connections: dict[str, Any] = {}

    def write(self, topic: str, log_ns: int, message: Any) -> None:
        kind = message.__msgtype__
        if topic not in self._connections:
            self._connections[topic] = self.writer.add_connection(topic, kind, typestore=STORE)
        self.writer.write(self._connections[topic], log_ns, bytes(STORE.serialize_ros1(message, kind)))


@contextmanager
def new_bag(path: Path, compression: str = "none", chunk_bytes: int = 1 << 20) -> Iterator[Bag]:
    """A bag whose chunks end once they pass `chunk_bytes`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = Writer(path)
    writer.chunk_threshold = chunk_bytes
    if compression != "none":
        writer.set_compression(Writer.CompressionFormat[compression.upper()])
    with writer:
        yield Bag(writer)


def write_joints(path: Path, count: int = 300, compression: str = "none", chunk_bytes: int = 20_000) -> None:
    """`count` JointStates at 100 Hz, logged 3 ms after their header stamps."""
    q = motion(0, count).astype(np.float64)
    with new_bag(path, compression, chunk_bytes) as bag:
        for i in range(count):
            ns = START_NS + i * PERIOD_NS
            bag.write("/joint_states", ns + DELAY_NS, joint_state(ns, q[i], seq=i))


def by_rosbags(path: Path, topic: str = "/joint_states") -> list[tuple[int, Any]]:
    """Log time and message of a topic, as rosbags reads them."""
    with Reader(path) as reader:
        chosen = [one for one in reader.connections if one.topic == topic]
        return [(ns, STORE.deserialize_ros1(raw, one.msgtype)) for one, ns, raw in reader.messages(chosen)]


def record(fields: Mapping[str, bytes], data: bytes) -> bytes:
    """One record of the format, its fields in the given order."""
    parts = [name.encode() + b"=" + value for name, value in fields.items()]
    head = b"".join(struct.pack("<I", len(part)) + part for part in parts)
    return struct.pack("<I", len(head)) + head + struct.pack("<I", len(data)) + data


def chunks_of(path: Path) -> list[tuple[int, int]]:
    """First byte and end of every chunk record, by walking the file."""
    data, at, found = path.read_bytes(), 13, []
    while at < len(data):
        (head,) = struct.unpack_from("<I", data, at)
        (size,) = struct.unpack_from("<I", data, at + 4 + head)
        end = at + 8 + head + size
        if b"op=\x05" in data[at : at + 4 + head]:
            found.append((at, end))
        at = end
    return found
