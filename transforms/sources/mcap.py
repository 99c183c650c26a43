"""MCAP files of ROS messages: one recording a file, or a rosbag2 folder whose metadata.yaml lists several.

Timestamps are header stamps, the sensors' clock; the time of logging is a column beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from transforms.conventions import Embodiment, Source, Topics
from transforms.episode import Finding, ImageRef, Problem, Recording, RecordingRef
from transforms.source_paths import id_prefix
from transforms.sources import mcap_records as records
from transforms.sources.guess_topics import IMAGE_KINDS
from transforms.sources.mcap_images import image_ref, read_images
from transforms.sources.mcap_read import McapReading, duplicated
from transforms.sources.ros_collect import STAGE, Collected
from transforms.sources.ros_images import image_problem
from transforms.sources.ros_recording import Bag, assemble, videos_beside
from transforms.sources.ros_streams import guessed
from transforms.sources.rosbag2_metadata import METADATA, Declared, declared_files
from transforms.stage import Unreadable

__all__ = ["detect", "guess", "plan", "read", "read_images"]

FORMAT = "mcap"
SUFFIX = ".mcap"


class McapPlace(msgspec.Struct, frozen=True):
    """The files of one recording, in order, in the folder of its uri."""

    files: tuple[str, ...]


def _is_bag(file: Path) -> bool:
    return file.is_file() and (file.suffix == SUFFIX or records.is_mcap(file))


def _files(folder: Path) -> list[Path]:
    """The MCAP files of a folder, those of its subfolders too."""
    return sorted(file for file in folder.rglob("*") if not file.name.startswith(".") and _is_bag(file))


def detect(path: Path) -> bool:
    """True for a file with MCAP's magic, or of its name, and for a folder whose metadata.yaml lists such files."""
    if path.is_dir():
        said = declared_files(path)
        return said is not None and any(name.endswith(SUFFIX) for name in said.files)
    return path.is_file() and _is_bag(path)


def plan(source: Source, path: Path) -> Iterator[RecordingRef]:
    """One ref per file, or per folder with a metadata.yaml.

    A file of no byte, or without the magic, carries its problem. Raises Unreadable `absent` where splits are asked for,
    `empty` for a folder without a file.
    """
    path = path.absolute()
    files = _files(path) if path.is_dir() else [path]
    if not files:
        raise Unreadable("empty", f"{path.name} holds no MCAP file; correct the source's path")
    if source.splits:
        detail = f"{path.name}: bags have no splits, and {', '.join(source.splits)} is asked for: remove `splits:`"
        raise Unreadable("absent", detail)
    for folder in sorted({file.parent for file in files}):
        inside = [file for file in files if file.parent == folder]
        said = declared_files(folder) if path.is_dir() else None
        if said is not None:
            yield _planned(source, folder, inside, said)
        else:
            yield from (_planned(source, file.with_suffix(""), [file], None) for file in inside)


def _planned(source: Source, named: Path, files: Sequence[Path], said: Declared | None) -> RecordingRef:
    recording_id = f"{id_prefix(source, named.parent)}/{named.name}"
    listed = [name for name in said.files if (named / name) in files] if said is not None else []
    names = tuple(listed) or tuple(file.name for file in files)
    uri = str(files[0].parent / names[0])
    for name in names:
        if problem := _problem(files[0].parent / name):
            return RecordingRef(recording_id, source.name, FORMAT, uri, problem=problem)
    place = msgspec.json.encode(McapPlace(names)).decode()
    return RecordingRef(recording_id, source.name, FORMAT, uri, place, findings=_file_findings(names, said))


def _file_findings(names: Sequence[str], said: Declared | None) -> tuple[Finding, ...]:
    absent = sorted(set(said.files) - set(names)) if said is not None else []
    if not absent:
        return ()
    detail = f"{METADATA} lists {', '.join(absent)}, which is not there"
    return (Finding(STAGE, "integrity.file_absent", float(len(absent)), "files", detail=detail),)


def _problem(file: Path) -> Problem | None:
    if file.stat().st_size == 0:
        return Problem("empty", f"{file.name} is empty (0 bytes); record it again or leave it out")
    if not records.is_mcap(file):
        with file.open("rb") as handle:
            head = handle.read(8)
        cut = records.MAGIC.startswith(head)
        what = "is cut off in its magic" if cut else f"is not MCAP: it begins with {head!r}"
        return Problem("truncated" if cut else "wrong_format", f"{file.name} {what}; copy or record it again")
    return None


def _collect(files: Sequence[Path], bag: Collected, chunks: int | None = None) -> list[McapReading]:
    readings = [McapReading(file, bag) for file in files]
    for reading in readings:
        reading.run(chunks)
        bag.findings += duplicated(reading)
    return readings


def _named(topics: Topics | None) -> frozenset[str] | None:
    if topics is None:
        return None
    fields = (part.topic for parts in topics.columns.values() for part in parts)
    return frozenset((*fields, *topics.cameras.values(), *topics.camera_info.values(), *topics.instruction))


def read(ref: RecordingRef, source: Source, embodiment: Embodiment) -> Recording:
    """One bag: a stream for each set of topics that make columns, cameras by reference, what is lost as findings.

    Raises Unreadable: `absent`, `empty`, `truncated`, `required_missing`.
    """
    place = msgspec.json.decode(ref.place, type=McapPlace)
    folder = Path(ref.uri).parent
    if gone := [name for name in place.files if not (folder / name).is_file()]:
        raise Unreadable("absent", f"{gone[0]} does not exist any more; restore it or correct the source's path")
    bag = Collected(_named(source.topics))
    readings = _collect([folder / name for name in place.files], bag)
    if not any(collector.count for collector in bag.topics.values()) and not bag.skipped:
        cut = [one.detail for one in bag.findings if one.check == "integrity.no_summary"]
        rule, why = ("truncated", cut[0]) if cut else ("empty", "no message of a topic that is read")
        raise Unreadable(rule, f"{Path(ref.uri).name} holds nothing to read: {why}; record it again or leave it out")
    topics = {name: collector.topic() for name, collector in bag.topics.items()}
    images: dict[str, ImageRef] = {}
    findings: list[Finding] = []
    for name, topic in topics.items():
        if topic.kind in IMAGE_KINDS and topic.count:
            if problem := image_problem(topic):
                detail = f"{name}: {topic.count} images are left out: {problem}"
                findings.append(Finding(STAGE, "metadata.unsupported", 1.0, "cameras", detail=detail))
            else:
                images[name] = image_ref(ref.uri, readings, topic, bag.topics[name])
    found = (*bag.all_findings(), *findings)
    unread = frozenset(bag.unread)
    beside = [video for name in place.files for video in videos_beside(folder / name)]
    return assemble(ref, source, Bag(topics, images, bag.metadata, found, unread), beside)


def guess(path: Path) -> Topics:
    """The mapping that a bag would be read with where none is declared, from its first chunks."""
    found = Collected()
    _collect([path], found, chunks=4)
    topics = {name: collector.topic() for name, collector in found.topics.items()}
    return guessed(topics, [video.name for video in videos_beside(path)], sorted(found.metadata))
