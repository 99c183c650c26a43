"""Bags of ROS messages: topics with their types, counts and rates by the summary at the end of each file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import msgspec

from beam_pipeline.inspection.planned import counts, plan_all
from beam_pipeline.inspection.report import Camera, DatasetReport, Notices, Stream
from beam_pipeline.inspection.video_headers import read_headers
from transforms.conventions import Source
from transforms.sources import mcap, mcap_declared, mcap_records, rosbag1, rosbag1_records, rosbag2
from transforms.sources.bag_plan import BagPlace
from transforms.sources.guess_topics import IMAGE_KINDS
from transforms.sources.ros_definition import type_name
from transforms.sources.ros_recording import videos_beside

_FOOTER_BYTES = mcap_records.RECORD_HEAD + 20


@dataclass
class Summary:
    """What summaries say: type by topic, messages by topic where they are counted, seconds in all."""

    kinds: dict[str, str] = field(default_factory=dict)
    messages: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def inspect_mcap(source: Source, paths: Sequence[Path], notices: Notices) -> DatasetReport:
    """MCAP files."""
    return _inspect(source, mcap.FORMAT, paths, _mcap, notices)


def inspect_rosbag1(source: Source, paths: Sequence[Path], notices: Notices) -> DatasetReport:
    """ROS 1 bags."""
    return _inspect(source, rosbag1.FORMAT, paths, _rosbag1, notices)


def inspect_rosbag2(source: Source, paths: Sequence[Path], notices: Notices) -> DatasetReport:
    """ROS 2 bags in SQLite, whose messages no header counts: metadata.yaml alone says how long they last."""
    return _inspect(source, rosbag2.FORMAT, paths, _rosbag2, notices)


def _inspect(
    source: Source,
    name: str,
    paths: Sequence[Path],
    summarise: Callable[[Path, Summary], str],
    notices: Notices,
) -> DatasetReport:
    refs = plan_all(source, name, paths, notices)
    total, beside = Summary(), list[Path]()
    for ref in refs:
        if ref.problem is not None:
            continue
        place = msgspec.json.decode(ref.place, type=BagPlace) if ref.place else BagPlace((Path(ref.uri).name,))
        before = total.seconds
        for file in (Path(ref.uri).with_name(member) for member in place.files):
            if why := summarise(file, total):
                notices.add("integrity.no_summary", f"{file.name}: {why}")
            beside += videos_beside(file).values()
        if total.seconds == before and place.duration_ns is not None:
            total.seconds += place.duration_ns / 1e9
    return replace(
        counts(name, paths, refs),
        duration_s=total.seconds or None,
        streams=tuple(
            Stream(topic, kind, (), _rate(total, topic))
            for topic, kind in sorted(total.kinds.items())
            if kind not in IMAGE_KINDS
        ),
        cameras=(
            *(Camera(t, k, None, None, _rate(total, t)) for t, k in sorted(total.kinds.items()) if k in IMAGE_KINDS),
            *_videos(beside, notices),
        ),
    )


def _rate(total: Summary, topic: str) -> float | None:
    count = total.messages[topic]
    return round(count / total.seconds, 3) if count and total.seconds else None


def _videos(beside: Sequence[Path], notices: Notices) -> Iterable[Camera]:
    """Videos beside bags, each file a camera by its name."""
    for file, header in read_headers(Path("/"), [str(path) for path in beside], notices).items():
        yield Camera(Path(file).stem, header.codec, header.width, header.height, header.rate_hz or None, 1, 0, 1)


def _mcap(path: Path, total: Summary) -> str:
    """Read the summary section; why there is none, else nothing."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - len(mcap_records.MAGIC) - _FOOTER_BYTES))
        tail = file.read()
        if not tail.endswith(mcap_records.MAGIC) or tail[0] != mcap_records.FOOTER:
            return f"it ends without a footer after {size} bytes: it was cut off or never closed"
        start = int.from_bytes(tail[mcap_records.RECORD_HEAD : mcap_records.RECORD_HEAD + 8], "little")
        if not start:
            return "its footer names no summary"
        try:
            _mcap_summary(file, start, size, total)
        except mcap_declared.DamagedRecord as error:
            return f"its summary is damaged: {error}"
    return ""


def _mcap_summary(file: BinaryIO, start: int, size: int, total: Summary) -> None:
    kinds: dict[int, str] = {}
    topics: dict[int, str] = {}
    stated: mcap_declared.Statistics | None = None
    for extent in mcap_records.walk(file, size, start):
        if extent.op == mcap_records.SCHEMA:
            schema = mcap_declared.read_schema(mcap_records.content(file, extent))
            kinds[schema.schema_id] = type_name(schema.name)
        elif extent.op == mcap_records.CHANNEL:
            channel = mcap_declared.read_channel(mcap_records.content(file, extent))
            topics[channel.channel_id] = channel.topic
            total.kinds[channel.topic] = kinds.get(channel.schema_id, "unknown")
        elif extent.op == mcap_records.STATISTICS:
            stated = mcap_declared.read_statistics(mcap_records.content(file, extent))
    if stated is not None:
        _count(total, {topics[number]: count for number, count in stated.counts.items() if number in topics})
        total.seconds += (stated.end_ns - stated.start_ns) / 1e9


def _count(total: Summary, messages: Mapping[str, int]) -> None:
    for topic, count in messages.items():
        total.messages[topic] += count


def _rosbag1(path: Path, total: Summary) -> str:
    """Read the index at the end; why there is none, else nothing."""
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            head = rosbag1_records.record_at(file, len(rosbag1_records.MAGIC), size)
            at = head.number("index_pos")
            if not 0 < at <= size:
                return f"its index would begin at byte {at} of {size}: it was cut off or never closed"
            connections, infos = rosbag1_records.read_summary(file, at, size)
        except rosbag1_records.DamagedRecord as error:
            return f"its index is damaged: {error}"
    for one in connections:
        total.kinds[one.topic] = type_name(one.kind)
    if len({one.topic for one in connections}) == 1:  # chunks are counted, their topics are not
        total.messages[connections[0].topic] += sum(info.count for info in infos.values())
    if infos:
        total.seconds += (max(i.end_ns for i in infos.values()) - min(i.start_ns for i in infos.values())) / 1e9
    return ""


def _rosbag2(path: Path, total: Summary) -> str:
    """Read the table of topics."""
    with closing(rosbag2.open_database(path)) as database:
        for topic, kind in database.execute("select name, type from topics"):
            total.kinds[topic] = type_name(kind)
    return ""
