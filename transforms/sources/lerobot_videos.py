"""Video cameras of a LeRobot episode: the window of the file that shows it, and the file against its metadata."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.episode import TIMESTAMP, Finding, VideoRef
from transforms.file_hash import file_hash
from transforms.media import VideoHeader, VideoInfo, shared_decoder
from transforms.sources.lerobot_episodes import Listed, Window
from transforms.sources.lerobot_meta import Feature, Info
from transforms.sources.lerobot_plan import finding
from transforms.stores.paths import ObjectPath
from transforms.unreadable import Unreadable

PREFIX = "observation.images."
CODEC_NAMES = {"libdav1d": "av1", "libaom-av1": "av1", "libsvtav1": "av1", "h265": "hevc", "libx264": "h264"}
PROBED_FILES = 16
RATE_TOLERANCE = 0.01
Key = tuple[str, int, int]


class Prober(Protocol):
    """What is asked of a decoder: the packets of a file, without decoding."""

    def probe(self, uri: str) -> VideoInfo: ...


@dataclass(frozen=True)
class ProbedVideo:
    """A file's packets and the xxh3-128 of its bytes."""

    info: VideoInfo
    content_hash: str


@dataclass(frozen=True)
class Camera:
    """One camera of one episode: no `ref` where its video is absent or unreadable. `frames` is its stream."""

    name: str
    ref: VideoRef | None
    frames: pa.RecordBatch | None
    findings: tuple[Finding, ...]


_probed: OrderedDict[Key, ProbedVideo | Unreadable] = OrderedDict()
_lock = threading.Lock()


def camera_name(feature: str) -> str:
    """`ego_view` of `observation.images.ego_view`."""
    return feature.removeprefix(PREFIX).removeprefix("observation.image.")


def content_hash(path: Path) -> str:
    """xxh3-128 of a file's bytes, as 32 hex digits; on a store, of the checksum that it keeps, and nothing is read."""
    return path.checksum() if isinstance(path, ObjectPath) else file_hash(path)


def probed(path: Path, decoder: Prober | None = None) -> ProbedVideo:
    """Packets and hash of a file, kept for the last few files of this worker; raises Unreadable."""
    try:
        stat = path.stat()
    except OSError as error:
        raise Unreadable("unreadable", f"{path}: {error.strerror}; check the file's permissions") from error
    key = (str(path), stat.st_mtime_ns, stat.st_size)
    with _lock:
        known = _probed.get(key)
    if known is None:
        try:
            known = ProbedVideo((decoder or shared_decoder()).probe(str(path)), content_hash(path))
        except OSError as error:
            raise Unreadable("unreadable", f"{path}: {error}; check the file's permissions") from error
        except Unreadable as error:
            if error.problem.rule == "unreadable":
                raise  # a time or memory limit: another attempt may succeed
            known = error
        with _lock:
            _probed[key] = known
            while len(_probed) > PROBED_FILES:
                _probed.popitem(last=False)
    if isinstance(known, Unreadable):
        raise Unreadable(known.problem.rule, known.problem.detail)
    return known


def locate(root: Path, info: Info, feature: str, listed: Listed) -> tuple[Window | None, tuple[Finding, ...]]:
    """The file that should show a camera's episode; v2.0 sets with `video/` in place of `videos/` are a finding."""
    if info.version == 3:
        return listed.windows.get(feature), ()
    chunk = info.chunk(listed.episode)
    name = info.video_file(video_key=feature, episode_chunk=chunk, episode_index=listed.episode)
    if not (root / name).is_file():
        other = "video/" + name.removeprefix("videos/")
        if (root / other).is_file():
            return Window(other), (finding("metadata.video_folder", 1, f"expected {name}, found {other}"),)
    return Window(name), ()


def period_ns(pts_ns: NDArray[np.int64]) -> int:
    """Median distance of frames; 0 for a single one."""
    return int(np.median(np.diff(pts_ns))) if len(pts_ns) > 1 else 0


def frames_in(pts_ns: NDArray[np.int64], window: Window) -> NDArray[np.int64]:
    """The frames of `pts_ns` (N,) ns that a window shows, its ends taken half a frame early: seconds are rounded."""
    half = period_ns(pts_ns) // 2
    low = 0 if window.start_s is None else np.searchsorted(pts_ns, round(window.start_s * 1e9) - half)
    high = len(pts_ns) if window.end_s is None else np.searchsorted(pts_ns, round(window.end_s * 1e9) - half)
    return pts_ns[low:high]


def declared_findings(name: str, feature: Feature, file: VideoInfo | VideoHeader, period: int) -> list[Finding]:
    """Codec, resolution and rate of the file where info.json says otherwise; `period` (ns) of its frames."""
    found = []
    video = feature.video
    codec, said = CODEC_NAMES.get(file.codec, file.codec), video.codec and video.codec.lower()
    if said and CODEC_NAMES.get(said, said) != codec:
        found.append(finding("metadata.codec", 1, f"{name}: declared {said}, the file is {codec}"))
    if feature.size is not None and feature.size != (file.width, file.height):
        text = f"{name}: declared {feature.size[0]}x{feature.size[1]}, the file is {file.width}x{file.height}"
        found.append(finding("metadata.resolution", 1, text))
    if video.fps and period and abs(period * 1e-9 * video.fps - 1) > RATE_TOLERANCE:
        text = f"{name}: declared {video.fps:g} Hz, the file has {1e9 / period:.6g} Hz"
        found.append(finding("metadata.fps", 1e9 / period, text, "Hz"))
    return found


def window_findings(name: str, window: Window, n_frames: int, n_rows: int, period: int) -> list[Finding]:
    """Frames against rows, and a to_timestamp that ends before the rows do (value: s that are missing)."""
    found = []
    if n_frames != n_rows:
        text = f"{name}: {n_frames} frames for {n_rows} rows"
        found.append(finding("metadata.frame_count", n_frames - n_rows, text, "frames"))
    if window.start_s is not None and window.end_s is not None and period:
        short = n_rows * period * 1e-9 - (window.end_s - window.start_s)
        if short > period * 0.5e-9:
            text = f"{name}: from_timestamp {window.start_s:g} to to_timestamp {window.end_s:g} s for {n_rows} rows"
            found.append(finding("metadata.to_timestamp", short, text, "s"))
    return found


def camera_of(
    root: Path, info: Info, feature: str, listed: Listed, n_rows: int, origin_ns: int, decoder: Prober | None = None
) -> Camera:
    """One declared camera of an episode; `origin_ns` is the time of the first row, which the first frame shows."""
    name = camera_name(feature)
    window, found = locate(root, info, feature, listed)
    if window is None:
        text = f"{name}: the metadata lists no file for episode {listed.episode}"
        return Camera(name, None, None, (finding("integrity.camera_absent", 1, text, "cameras"),))
    path = root / window.file
    if not path.is_file():
        return Camera(
            name, None, None, (finding("integrity.camera_absent", 1, f"{name}: {window.file} is absent", "cameras"),)
        )
    try:
        video = probed(path, decoder)
    except Unreadable as error:
        text = f"{name}: {error.problem.detail}"
        return Camera(name, None, None, (*found, finding("integrity.video_unreadable", 1, text)))
    declared = info.features[feature]
    pts = frames_in(video.info.pts_ns, window)
    period = period_ns(video.info.pts_ns)
    notes = [
        *found,
        *declared_findings(name, declared, video.info, period),
        *window_findings(name, window, len(pts), n_rows, period),
    ]
    if not len(pts):
        text = f"{name}: {window.file} shows no frame from {window.start_s} to {window.end_s} s"
        return Camera(name, None, None, (*notes, finding("integrity.camera_absent", 1, text, "cameras")))
    first, last = int(pts[0]), int(pts[-1])
    depth = bool(declared.video.is_depth_map)
    ref = VideoRef(str(path), first, last, origin_ns, video.content_hash, depth)
    frames = pa.RecordBatch.from_pydict({TIMESTAMP: pa.array(pts - first + origin_ns), "pts_ns": pa.array(pts)})
    return Camera(name, ref, frames, tuple(notes))
