"""MCAP files of ROS messages: one recording a file, or a rosbag2 folder whose metadata.yaml lists several.

Timestamps are header stamps, the sensors' clock; the time of logging is a column beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from transforms.conventions import Embodiment, Source
from transforms.episode import Problem, Recording, RecordingRef
from transforms.sources import mcap_records as records
from transforms.sources.bag_plan import BagFormat, BagPlace, detect_bag, plan_bags
from transforms.sources.mcap_images import image_ref, read_images
from transforms.sources.mcap_read import McapReading, duplicated
from transforms.sources.ros_collect import Collected
from transforms.sources.ros_recording import guessed_of, named_topics, recorded
from transforms.sources.ros_streams import BagStart
from transforms.sources.rosbag2_metadata import lost_of
from transforms.unreadable import Unreadable

__all__ = ["detect", "guess", "plan", "read", "read_images"]

FORMAT = "mcap"
_GUESSED_CHUNKS = 4


def _problem(path: Path) -> Problem | None:
    """Why a file is no MCAP file, from its first bytes; None where it is one."""
    if path.stat().st_size == 0:
        return Problem("empty", f"{path.name} is empty (0 bytes); record it again or leave it out")
    if records.is_mcap(path):
        return None
    with path.open("rb") as file:
        head = file.read(len(records.MAGIC))
    if records.MAGIC.startswith(head):
        return Problem("truncated", f"{path.name} is cut off after {len(head)} bytes, in its magic; copy it again")
    return Problem("wrong_format", f"{path.name} is not MCAP: it begins with {head!r}; copy or record it again")


_BAGS = BagFormat(FORMAT, ".mcap", records.is_mcap, _problem)


def detect(path: Path) -> bool:
    """True for a file with MCAP's magic, or of its name, and for a folder whose metadata.yaml lists such files."""
    return detect_bag(path, _BAGS)


def plan(source: Source, path: Path) -> Iterator[RecordingRef]:
    """One ref per file, or per folder with a metadata.yaml; raises Unreadable as `plan_bags` does."""
    yield from plan_bags(source, path, _BAGS)


def _collect(files: Sequence[Path], bag: Collected, chunks: int | None = None) -> list[McapReading]:
    readings = [McapReading(file, bag) for file in files]
    for reading in readings:
        reading.run(chunks)
        bag.findings += duplicated(reading)
    return readings


def read(ref: RecordingRef, source: Source, embodiment: Embodiment) -> Recording:
    """One bag: a stream for each set of topics that make columns, cameras by reference, what is lost as findings.

    Raises Unreadable: `absent`, `empty`, `truncated`, `required_missing`.
    """
    place = msgspec.json.decode(ref.place, type=BagPlace)
    files = place.files_of(ref)
    bag = Collected(named_topics(source.topics))
    readings = _collect(files, bag)
    whole = sum(reading.messages for reading in readings)
    if not all(reading.ended for reading in readings):
        spans = [edge for reading in readings for edge in reading.span_ns]
        lasts = max(spans) - min(spans) if spans else 0
        bag.findings += lost_of(place.messages, place.duration_ns, whole, lasts)
    if not whole:
        cut = [one.detail for one in bag.findings if one.check in ("integrity.no_summary", "integrity.chunk")]
        rule, why = ("truncated", cut[-1]) if cut else ("empty", f"{files[0].name} is whole and without one")
        raise Unreadable(rule, f"no message can be read: {why}; record it again or leave it out")
    return recorded(ref, source, files, bag, lambda topic, of: image_ref(ref.uri, readings, topic, of))


def guess(path: Path) -> BagStart:
    """The mapping that a bag would be read with where none is declared, and rates, from its first chunks."""
    found = Collected()
    _collect([path], found, _GUESSED_CHUNKS)
    return guessed_of(path, found)
