"""A bag that has been read, as a Recording: streams, cameras of topics and of videos beside it, what is left over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from transforms.arrays import rounded
from transforms.conventions import Source, Topics
from transforms.episode import (
    IMAGES,
    TIMESTAMP,
    VIDEO_STREAM,
    Finding,
    ImageRef,
    Recording,
    RecordingRef,
    VideoRef,
)
from transforms.sources.guess_topics import TRANSFORMS
from transforms.sources.lerobot_videos import probed
from transforms.sources.ros_collect import Collected, TopicCollector
from transforms.sources.ros_images import images_of
from transforms.sources.ros_streams import STAGE, BagStart, build_streams, camera_frames, guessed, some, start_of_bag
from transforms.sources.ros_topics import Topic, field_values, filled_fields
from transforms.stores.paths import located
from transforms.unreadable import Unreadable

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm")
BAG_SUFFIXES = (".mcap", ".db3", ".bag")


@dataclass(frozen=True, eq=False)
class Bag:
    """What a bag holds: its topics, the images of its image topics by topic, texts by `metadata.NAME.KEY`.

    `unread` names topics of which no message was decoded, since nothing is made of them.
    """

    topics: Mapping[str, Topic]
    images: Mapping[str, ImageRef]
    metadata: Mapping[str, str]
    findings: tuple[Finding, ...]
    unread: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Camera:
    ref: VideoRef | ImageRef
    frames: pa.RecordBatch


def recorded(
    ref: RecordingRef,
    source: Source,
    files: Sequence[Path],
    bag: Collected,
    image_ref: Callable[[Topic, TopicCollector], ImageRef],
) -> Recording:
    """The recording that a bag's collected messages are, with the videos beside its files.

    Raises Unreadable `required_missing`.
    """
    topics = {name: collector.topic() for name, collector in bag.topics.items()}
    images, unshown = images_of(topics, lambda name, topic: image_ref(topic, bag.topics[name]))
    bag.findings += unshown
    beside = {name: video for file in reversed(files) for name, video in videos_beside(file).items()}
    held = Bag(topics, images, bag.metadata, bag.all_findings(), frozenset(bag.unread))
    return assemble(ref, source, held, beside)


def guessed_of(path: Path, bag: Collected) -> BagStart:
    """The mapping that a bag would be read with where none is declared, and rates, by what was collected of it."""
    topics = {name: collector.topic() for name, collector in bag.topics.items()}
    return start_of_bag(topics, sorted(videos_beside(path)), sorted(bag.metadata))


def named_topics(topics: Topics | None) -> frozenset[str] | None:
    """Every topic that a mapping names; None without a mapping."""
    if topics is None:
        return None
    fields = (part.topic for parts in topics.columns.values() for part in parts)
    return frozenset((*fields, *topics.cameras.values(), *topics.camera_info.values(), *topics.instruction))


def videos_beside(path: Path) -> dict[str, Path]:
    """Videos that belong to `NAME.mcap` or the like, `NAME/*.mp4` and `NAME.*.mp4`, by their names without `NAME.`."""
    folder = path.with_suffix("")
    inside = sorted(folder.iterdir()) if folder.is_dir() and folder != path else []
    beside = sorted(file for file in path.parent.iterdir() if file.name.startswith(f"{path.stem}."))
    found: dict[str, Path] = {}
    for file in (*inside, *beside):
        if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file():
            found.setdefault(file.name if file in inside else file.name.removeprefix(f"{path.stem}."), file)
    return found


def is_beside_bag(video: Path) -> bool:
    """Whether a video belongs to a bag, as `videos_beside` finds it: it is no recording of its own then."""
    if video.suffix.lower() not in VIDEO_SUFFIXES:
        return False
    words = video.name.split(".")
    stems = [video.parent, *(video.with_name(".".join(words[:n])) for n in range(1, len(words)))]
    return any(located(f"{stem}{suffix}").is_file() for stem in stems for suffix in BAG_SUFFIXES)


def assemble(ref: RecordingRef, source: Source, bag: Bag, videos: Mapping[str, Path]) -> Recording:
    """The recording of a bag, by the source's `topics`, or by what its topics look like; `videos` are by name.

    Raises Unreadable `empty` where nothing that is wanted has a message, `required_missing`.
    """
    metadata = {key: _plain(text) for key, text in bag.metadata.items()}
    wanted = source.topics or guessed(bag.topics, sorted(videos), sorted(metadata))
    built = build_streams(bag.topics, wanted, metadata)
    findings = [*ref.findings, *bag.findings, *built.findings]
    streams = dict(built.batches)
    cameras: dict[str, VideoRef | ImageRef] = {}
    span = _span(bag.topics, streams)
    for camera, place in sorted(wanted.cameras.items()):
        made = None
        if place in bag.images:
            frames, found = camera_frames(bag.topics[place])
            findings += found
            made = _Camera(bag.images[place], frames)
        elif place in videos:
            made = _video(camera, videos[place], span, findings)
        else:
            findings.append(_absent(camera, f"no images of topic and no video {place!r} beside {Path(ref.uri).name}"))
        if made is not None:
            cameras[camera], streams[VIDEO_STREAM + camera] = made.ref, made.frames
    if not any(batch.num_rows for batch in streams.values()):
        counts = [f"{t.name} ({t.kind}, {t.count} messages)" for t in bag.topics.values()]
        held = f"nothing to make steps of; topics: {some(counts)}"
        detail = f"{Path(ref.uri).name}: {held}. Name columns in the source's `topics:`"
        raise Unreadable("empty", detail)
    present = {*(IMAGES + c for c in cameras), *(n for b in built.batches.values() for n in b.schema.names)}
    if missing := [name for name in source.required if name not in present]:
        raise Unreadable("required_missing", f"{Path(ref.uri).name} lacks required {missing}; it has {sorted(present)}")
    unused = sorted((set(bag.topics) | bag.unread) - built.used - set(wanted.cameras.values()))
    if unused:
        detail = f"no column, camera or instruction of topics {some(unused)}"
        findings.append(Finding(STAGE, "metadata.topics_unused", float(len(unused)), "topics", detail=detail))
    return Recording(
        ref.recording_id,
        ref.source,
        source.embodiment,
        ref.uri,
        ref.format,
        streams,
        videos=cameras,
        cameras=built.cameras,
        utterances=built.utterances,
        attributes=_attributes(bag, wanted),
        explicit=False,
        findings=tuple(findings),
        reference=_reference(wanted, streams),
    )


def _plain(text: str) -> str:
    """Some recorders write metadata as JSON: the text of a JSON string, any other text as it is."""
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return value if isinstance(value, str) else text


def _json(text: str) -> str:
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError:
        return msgspec.json.encode(text).decode()
    return text


def _attributes(bag: Bag, wanted: Topics) -> dict[str, str]:
    """Metadata, the mapping that was used, and static transforms as child: [x, y, z, qx, qy, qz, qw]."""
    attributes = {key: _json(text) for key, text in bag.metadata.items()}
    attributes["topics"] = msgspec.json.encode(wanted, order="deterministic").decode()
    static: dict[str, list[float]] = {}
    for topic in bag.topics.values():
        if topic.kind == TRANSFORMS and "static" in topic.name:
            for child in filled_fields(topic):
                values = field_values(topic, child)
                if values is not None:
                    good = values.array[~np.isnan(values.array).any(axis=1)]
                    static[child] = good[-1].tolist() if len(good) else []
    if static:
        attributes["tf_static"] = msgspec.json.encode(static, order="deterministic").decode()
    return dict(sorted(attributes.items()))


def _reference(wanted: Topics, streams: Mapping[str, pa.RecordBatch]) -> str:
    """The stream that holds the clock that was asked for; empty where none was or it is not there."""
    if wanted.clock in streams:
        return wanted.clock
    return next((name for name, batch in streams.items() if wanted.clock in batch.schema.names), "")


def _span(topics: Mapping[str, Topic], streams: Mapping[str, pa.RecordBatch]) -> tuple[int, int] | None:
    """First and last ns of the streams; of the log where there is no stream; None where there is nothing."""
    clocks = [np.asarray(b.column(TIMESTAMP).drop_null().to_numpy()) for b in streams.values()]
    clocks = [clock for clock in clocks if len(clock)] or [t.log_ns for t in topics.values() if t.count]
    return (int(min(c.min() for c in clocks)), int(max(c.max() for c in clocks))) if clocks else None


def _absent(camera: str, text: str) -> Finding:
    return Finding(STAGE, "integrity.camera_absent", 1.0, "cameras", detail=f"{camera}: {text}")


def _video(camera: str, path: Path, span: tuple[int, int] | None, findings: list[Finding]) -> _Camera | None:
    """A video beside the bag; where its own clock is another one, its first frame is at the bag's first stamp."""
    try:
        video = probed(path)
    except Unreadable as error:
        text = f"{camera}: {error.problem.detail}"
        findings.append(Finding(STAGE, "integrity.video_unreadable", 1.0, detail=text))
        return None
    pts = video.info.pts_ns
    if not len(pts):
        findings.append(_absent(camera, f"{path.name} holds no frame"))
        return None
    moved = 0
    if span is not None and (pts[0] > span[1] or pts[-1] < span[0]):
        moved = span[0] - int(pts[0])
        detail = (
            f"{camera}: {path.name} has a clock of its own, from {pts[0] / 1e9:.6g} to {pts[-1] / 1e9:.6g} s; its "
            f"first frame is taken to be at the first stamp of the bag, which lasts {(span[1] - span[0]) / 1e9:.6g} s"
        )
        findings.append(Finding(STAGE, "metadata.clocks_apart", rounded(moved / 1e9), "s", detail=detail))
    if video.info.n_declared > len(pts):
        detail = f"{path.name}: {video.info.n_declared} frames declared, {len(pts)} are in the file"
        lost = float(video.info.n_declared - len(pts))
        findings.append(Finding(STAGE, "metadata.frame_count", lost, "frames", detail=detail))
    shown = VideoRef(str(path), int(pts[0]), int(pts[-1]), int(pts[0]) + moved, video.content_hash)
    return _Camera(shown, pa.RecordBatch.from_arrays([pa.array(pts + moved), pa.array(pts)], [TIMESTAMP, "pts_ns"]))
