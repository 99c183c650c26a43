"""Plain videos (mp4, mkv, webm) with sidecar files of the same name for sensors, instructions and marks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.arrays import times_ns
from transforms.conventions import Embodiment, Source
from transforms.episode import IMAGES, TIMESTAMP, VIDEO_STREAM, Finding, Problem, Recording, RecordingRef, VideoRef
from transforms.source_paths import id_prefix
from transforms.sources.lerobot_videos import probed
from transforms.sources.sidecar import FRAME_COLUMNS, SUFFIXES, Sidecar, read_sidecar
from transforms.stores.paths import located
from transforms.unreadable import Unreadable

FORMAT = "video"
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".m4v")
_MATROSKA = b"\x1a\x45\xdf\xa3"
_SENSORS = "sensors"
_MAIN = "main"


class VideoPlace(msgspec.Struct, frozen=True):
    """The camera's name, and each sidecar's file name by the name of the stream that it becomes."""

    camera: str
    sidecars: dict[str, str]


def detect(path: Path) -> bool:
    """True for a file that is, or is named like, a video; a folder of videos is planned entry by entry."""
    if not path.is_file():
        return False
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return True
    with path.open("rb") as file:
        head = file.read(8)
    return head[4:8] == b"ftyp" or head[:4] == _MATROSKA


def find_sidecars(path: Path) -> VideoPlace:
    """Sidecars of `NAME.mp4`: `NAME.csv`, `NAME.sensors.csv`, …; of `NAME.CAMERA.mp4` also those of `NAME` alone."""
    base, dot, camera = path.stem.rpartition(".")
    found = _labelled(path, path.stem)
    if dot and not found:
        found = {label: name for label, name in _labelled(path, base).items() if label != camera}
    return VideoPlace(camera if dot else _MAIN, found)


def _labelled(path: Path, stem: str) -> dict[str, str]:
    """File names by label; one without a label is `sensors`, tables before JSON, or else goes by its suffix."""
    files = [f for f in path.parent.iterdir() if f.suffix in SUFFIXES and f.name.startswith(f"{stem}.")]
    found: dict[str, str] = {}
    for file in sorted(files, key=lambda f: (f.stem == stem, f.suffix.startswith(".json"), f.name)):
        if any(file.with_suffix(s).exists() for s in VIDEO_SUFFIXES if file.stem not in (stem, path.stem)):
            continue  # it belongs to the video of its own, longer name
        label = file.stem.removeprefix(stem).removeprefix(".") or _SENSORS
        found[file.suffix[1:] if label in found else label] = file.name
    return found


def plan(source: Source, path: Path) -> Iterator[RecordingRef]:
    """One ref per video of a file or folder; in a folder, a file that is neither video nor sidecar is a problem.

    Raises Unreadable `wrong_format` for such a file alone, `empty` for a folder without a video.
    """
    path = path.absolute()
    files = (
        sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")) if path.is_dir() else [path]
    )
    videos = [file for file in files if detect(file)]
    if not videos and path.is_dir():
        raise Unreadable("empty", f"{path} holds no video ({', '.join(VIDEO_SUFFIXES)}); correct the source's path")
    if source.splits:
        detail = f"{path}: plain videos have no splits, and {', '.join(source.splits)} is asked for: remove `splits:`"
        raise Unreadable("absent", detail)
    claimed = {video.parent / name for video in videos for name in find_sidecars(video).sidecars.values()}
    for file in files:
        place = id_prefix(source, file.parent)
        if file in videos:
            beside = msgspec.json.encode(find_sidecars(file)).decode()
            yield RecordingRef(f"{place}/{file.stem}", source.name, FORMAT, str(file), beside)
        elif file not in claimed and not _is_sidecar(file):
            problem = Problem("wrong_format", f"{file} is neither a video nor a sidecar of one; move or remove it")
            yield RecordingRef(f"{place}/{file.name}", source.name, FORMAT, str(file), problem=problem)


def _is_sidecar(path: Path) -> bool:
    stems = {p.stem for p in path.parent.iterdir() if detect(p)}
    return path.suffix in SUFFIXES and any(path.name.startswith((f"{s}.", f"{s.rpartition('.')[0]}.")) for s in stems)


@dataclass(frozen=True)
class _Beside:
    """All sidecars of one video by the name of their stream."""

    sidecars: Mapping[str, Sidecar]

    @property
    def tables(self) -> dict[str, pa.RecordBatch]:
        return {name: side.table for name, side in self.sidecars.items() if side.table is not None}


def read(ref: RecordingRef, source: Source, embodiment: Embodiment) -> Recording:
    """One video with its sidecars: streams `video.CAMERA` and one per table, cut by nothing but marks.

    A frame's time is what the sidecar's `timestamps` or frame column states, else the file's own clock.
    Raises Unreadable: `truncated`, `corrupt`, `wrong_format`, `absent`, `empty`, `required_missing`.
    """
    path = located(ref.uri)
    place = msgspec.json.decode(ref.place, type=VideoPlace)
    if not path.is_file():
        raise Unreadable("absent", f"{path} does not exist any more; restore it or correct the source's path")
    video = probed(path)
    pts = video.info.pts_ns
    if not len(pts):
        raise Unreadable("empty", f"{path} holds no frame; record it again or leave it out")
    beside = _Beside({n: read_sidecar(path.parent / f, source, embodiment) for n, f in sorted(place.sidecars.items())})
    times, found = _frame_times(pts, beside)
    streams: dict[str, pa.RecordBatch] = dict(beside.tables)
    frames = pa.RecordBatch.from_arrays([pa.array(times), pa.array(pts)], [TIMESTAMP, "pts_ns"])
    streams[VIDEO_STREAM + place.camera] = frames
    present = {IMAGES + place.camera, *(c for batch in beside.tables.values() for c in batch.schema.names)}
    if missing := [name for name in source.required if name not in present]:
        raise Unreadable("required_missing", f"{path.name} lacks required {missing}; it has {sorted(present)}")
    sides = beside.sidecars.values()
    findings = [*ref.findings, *found, *(f for side in sides for f in side.findings)]
    if not place.sidecars:
        detail = f"{path.name}: no sidecar ({', '.join(SUFFIXES)}); neither sensors nor instruction are known"
        findings.append(Finding("load", "metadata.sidecar", detail=detail, status="not_run"))
    if video.info.n_declared > len(pts):
        detail = f"{path.name}: {video.info.n_declared} frames declared, {len(pts)} are in the file"
        lost = float(video.info.n_declared - len(pts))
        findings.append(Finding("load", "metadata.frame_count", lost, "frames", detail=detail))
    successes = [side.success for side in sides if side.success is not None]
    shown = VideoRef(str(path), int(pts[0]), int(pts[-1]), int(times[0]), video.content_hash)
    return Recording(
        ref.recording_id,
        ref.source,
        source.embodiment,
        ref.uri,
        FORMAT,
        streams,
        videos={place.camera: shown},
        utterances=tuple(u for side in sides for u in side.utterances),
        attributes=_attributes(sides, video.info.codec, (video.info.width, video.info.height)),
        explicit=False,
        success=successes[0] if successes else None,
        findings=tuple(findings),
    )


def _attributes(sides: Iterable[Sidecar], codec: str, size: tuple[int, int]) -> dict[str, str]:
    kept = list(sides)
    attributes = {name: value for side in kept for name, value in side.attributes.items()}
    marks = [span for side in kept for span in side.episodes or ()]
    if any(side.episodes is not None for side in kept):
        attributes["episodes"] = msgspec.json.encode(sorted(marks)).decode()
    attributes |= {"video.codec": f'"{codec}"', "video.size": f"[{size[0]},{size[1]}]"}
    return dict(sorted(attributes.items()))


def _frame_times(pts: NDArray[np.int64], beside: _Beside) -> tuple[NDArray[np.int64], list[Finding]]:
    """(N,) ns of each frame: stated per frame, or by rows that name frames, else the file's own clock."""
    found: list[Finding] = []
    for name, side in beside.sidecars.items():
        if side.frame_times is None:
            continue
        if len(side.frame_times) == len(pts):
            return np.asarray(side.frame_times, np.int64), found
        detail = f"{name}: {len(side.frame_times)} timestamps for {len(pts)} frames; the file's own clock is used"
        count = float(len(side.frame_times) - len(pts))
        found.append(Finding("load", "metadata.frame_times", count, "frames", detail=detail))
    for batch in beside.tables.values():
        stated = _times_by_frame(batch, len(pts))
        if stated is not None:
            return stated, found
    for name, batch in beside.tables.items():
        clock = times_ns(batch)
        if clock is not None and (clock.max() < pts[0] or clock.min() > pts[-1]):
            apart = float(max(clock.min() - pts[-1], pts[0] - clock.max())) / 1e9
            detail = f"{name} and the video share no time; state the frames' times by `timestamps` or `frame_index`"
            found.append(Finding("load", "metadata.clocks_apart", float(f"{apart:.9g}"), "s", detail=detail))
    return pts, found


def _times_by_frame(batch: pa.RecordBatch, count: int) -> NDArray[np.int64] | None:
    """Times of frames 0..count-1 from a table that names each of them once; None where it does not."""
    names = [n for n in FRAME_COLUMNS if n in batch.schema.names and pa.types.is_integer(batch.schema.field(n).type)]
    clock = times_ns(batch)
    if not names or clock is None or batch.column(names[0]).null_count:
        return None
    frames = np.asarray(batch.column(names[0]).to_numpy(), np.int64)
    if len(frames) != count or not np.array_equal(np.sort(frames), np.arange(count)):
        return None
    return clock[np.argsort(frames, kind="stable")]
