"""Both sides of MCAP in the readers' benchmark: ours to Arrow, mcap-ros2-support to decoded messages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.reader_arms import Arm, costed
from transforms.conventions import Embodiment, Source
from transforms.sources import mcap

WAYS = ("iter_decoded_messages", "iter_decoded_messages(log_time_order=False)", "read_ros2_messages")
"""The usages that mcap and mcap-ros2-support document."""


def mcap_arm(path: Path, passes: int = 1) -> Arm:
    """Plan, then read a file to a Recording; units: messages."""
    source = Source("mcap", str(path), "mcap")

    def once() -> int:
        units = 0
        for ref in mcap.plan(source, path):
            recording = mcap.read(ref, source, Embodiment())
            stamped = [batch for name, batch in recording.streams.items() if not name.startswith("video.")]
            units += sum(2 * batch.num_rows for batch in stamped) + len(recording.cameras)
        return units

    return lambda: costed(lambda: sum(once() for _ in range(passes)))


def decoded(path: Path, way: str) -> Iterator[Any]:
    """Every decoded message of a file, one of WAYS."""
    from mcap.reader import make_reader
    from mcap_ros2.decoder import DecoderFactory
    from mcap_ros2.reader import read_ros2_messages

    if way == "read_ros2_messages":
        for message in read_ros2_messages(str(path)):
            yield message.ros_msg
        return
    with path.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        for item in reader.iter_decoded_messages(log_time_order=way == WAYS[0]):
            yield item.decoded_message


def support_arm(path: Path, way: str, passes: int = 1) -> Arm:
    """mcap-ros2-support's own loop over a file, nothing made of the messages; units: messages."""
    return lambda: costed(lambda: sum(1 for _ in range(passes) for _ in decoded(path, way)))


def fastest_way(path: Path) -> str:
    """The usage that takes least CPU over a file, each tried twice."""
    costs = {way: min(support_arm(path, way)().cpu_s for _ in range(2)) for way in WAYS}
    return min(costs, key=lambda way: costs[way])
