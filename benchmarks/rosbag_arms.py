"""Both sides of ROS 1 bags in the readers' benchmark: ours to Arrow, rosbags to decoded messages."""

from __future__ import annotations

from pathlib import Path

import msgspec

from benchmarks.reader_arms import Arm, costed
from transforms.conventions import Embodiment, Source, Topics
from transforms.episode import Recording
from transforms.sources import rosbag1

WAYS = ("Reader, typestore of ROS 1", "AnyReader")
"""The usages that rosbags documents."""


def rosbag_arm(path: Path, passes: int = 1) -> Arm:
    """Plan, then read a file to a Recording; units: messages, as many a row as the stream has topics."""
    source = Source("rosbag", str(path), "rosbag1")

    def once() -> int:
        recordings = [rosbag1.read(ref, source, Embodiment()) for ref in rosbag1.plan(source, path)]
        return sum(_messages_of(recording) for recording in recordings)

    return lambda: costed(lambda: sum(once() for _ in range(passes)))


def _messages_of(recording: Recording) -> int:
    columns = msgspec.json.decode(recording.attributes["topics"], type=Topics).columns
    each = {name: len({part.topic for part in columns[name]}) for name in recording.streams}
    return sum(each[name] * batch.num_rows for name, batch in recording.streams.items())


def _messages(path: Path, way: str) -> int:
    """Decode every message of a file, one of WAYS, and make nothing of it."""
    from rosbags.highlevel import AnyReader
    from rosbags.rosbag1 import Reader
    from rosbags.typesys import Stores, get_typestore

    count = 0
    if way == WAYS[1]:
        with AnyReader([path]) as several:
            for connection, _, raw in several.messages():
                several.deserialize(raw, connection.msgtype)
                count += 1
        return count
    store = get_typestore(Stores.ROS1_NOETIC)
    with Reader(path) as reader:
        for connection, _, raw in reader.messages():
            store.deserialize_ros1(raw, connection.msgtype)
            count += 1
    return count


def rosbags_arm(path: Path, way: str, passes: int = 1) -> Arm:
    """rosbags' own loop over a file; units: messages."""
    return lambda: costed(lambda: sum(_messages(path, way) for _ in range(passes)))


def fastest_way(path: Path) -> str:
    """The usage that takes least CPU over a file, each tried twice."""
    costs = {way: min(rosbags_arm(path, way)().cpu_s for _ in range(2)) for way in WAYS}
    return min(costs, key=lambda way: costs[way])
