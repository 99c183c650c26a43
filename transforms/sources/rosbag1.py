"""ROS 1 bags of format 2.0, one recording a file: read from the front, so that one without an index is read too.

Timestamps are header stamps, the sensors' clock; the bag's own time is a column beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from transforms.conventions import Embodiment, Source
from transforms.episode import Problem, Recording, RecordingRef
from transforms.source_paths import id_prefix
from transforms.sources import rosbag1_records as records
from transforms.sources.ros_collect import Collected
from transforms.sources.ros_recording import guessed_of, named_topics, recorded
from transforms.sources.ros_streams import BagStart
from transforms.sources.rosbag1_images import image_ref, read_images
from transforms.sources.rosbag1_read import BagReading
from transforms.stores.paths import located
from transforms.unreadable import Unreadable

__all__ = ["detect", "guess", "plan", "read", "read_images"]

FORMAT = "rosbag1"
_SUFFIXES = (".bag", ".bag.active")
_CHUNKS_TO_GUESS = 4


def detect(path: Path) -> bool:
    """True for a file with the magic of a ROS bag, or named as one; a folder of bags is planned entry by entry."""
    return path.is_file() and (path.name.endswith(_SUFFIXES) or records.has_magic(path))


def plan(source: Source, path: Path) -> Iterator[RecordingRef]:
    """One ref per bag of a file or folder; one of no byte, or of another format, carries its problem.

    Raises Unreadable `absent` where splits are asked for, `empty` for a folder without a bag.
    """
    path = path.absolute()
    files = sorted(p for p in path.rglob("*") if detect(p) and not p.name.startswith(".")) if path.is_dir() else [path]
    if not files:
        raise Unreadable("empty", f"{path.name} holds no ROS 1 bag; correct the source's path")
    if source.splits:
        detail = f"{path.name}: bags have no splits, and {', '.join(source.splits)} is asked for: remove `splits:`"
        raise Unreadable("absent", detail)
    for file in files:
        name = f"{id_prefix(source, file.parent)}/{file.name.removesuffix('.active').removesuffix('.bag')}"
        yield RecordingRef(name, source.name, FORMAT, str(file), problem=_problem(file))


def _problem(file: Path) -> Problem | None:
    with file.open("rb") as handle:
        head = handle.read(len(records.MAGIC))
    if head == records.MAGIC:
        return None
    if not head:
        return Problem("empty", f"{file.name} is empty (0 bytes); record it again or leave it out")
    if records.MAGIC.startswith(head):
        return Problem("truncated", f"{file.name} is cut off in its magic; copy or record it again")
    if head.startswith(records.FAMILY):
        version = head.removeprefix(b"#ROSBAG ").split(b"\n")[0].decode("ascii", "replace")
        return Problem("wrong_format", f"{file.name} is a ROS bag of format {version}; convert it to V2.0 with rosbag")
    return Problem("wrong_format", f"{file.name} is no ROS 1 bag: it begins with {head!r}; correct `format:`")


def read(ref: RecordingRef, source: Source, embodiment: Embodiment) -> Recording:
    """One bag: a stream for each set of topics that make columns, cameras by reference, what is lost as findings.

    Raises Unreadable: `absent`, `empty`, `truncated`, `required_missing`.
    """
    path = located(ref.uri)
    if not path.is_file():
        raise Unreadable("absent", f"{path.name} does not exist any more; restore it or correct the source's path")
    found = Collected(named_topics(source.topics))
    reading = BagReading(path, found)
    reading.run()
    if not any(collector.count for collector in found.topics.values()) and not found.skipped:
        cut = [one.detail for one in found.findings if one.check == "integrity.no_summary"]
        rule, why = ("truncated", cut[0]) if cut else ("empty", "no message of a topic that is read")
        raise Unreadable(rule, f"{path.name} holds nothing to read: {why}; record it again or leave it out")
    return recorded(ref, source, [path], found, lambda topic, of: image_ref(ref.uri, reading, topic, of))


def guess(path: Path) -> BagStart:
    """The mapping that a bag would be read with where none is declared, and rates, from its first chunks."""
    found = Collected()
    BagReading(path, found).run(_CHUNKS_TO_GUESS)
    return guessed_of(path, found)
