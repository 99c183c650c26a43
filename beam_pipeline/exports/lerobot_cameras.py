"""Cameras of a LeRobot data set: where each episode's frames lie in the exported files, and whether they can."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from beam_pipeline.curated import CuratedSet
from beam_pipeline.exports.export import ExportError, Videos
from beam_pipeline.exports.lerobot_clock import TOLERANCE_S
from beam_pipeline.exports.lerobot_scan import ScannedEpisode, ShownVideo
from beam_pipeline.exports.video_files import Frame, carry
from transforms.episode import VideoRef
from transforms.media import VideoInfo, shared_decoder
from transforms.stage import Unreadable

_SAME_FRAME_NS = 1_000
"""Stamps are kept as float seconds: to the microsecond."""
REENCODE = "use --videos reencode, which encodes the shown frames anew"


@dataclass(frozen=True)
class VideoFileReport:
    """One exported file: `path` below the data set, how many frames it has, and how many of them no step shows.

    Those are of episodes that were not kept, of other episodes, or of cut parts: whole files hold them too.
    """

    path: str
    source: str
    frames: int
    frames_not_shown: int


def probed(curated: CuratedSet, video: ShownVideo) -> VideoInfo:
    """Packets of a curated video; raises ExportError where it is gone or broken."""
    path = curated.folder / video.path
    try:
        return shared_decoder().probe(str(path))
    except Unreadable as error:
        raise ExportError(f"{path}: {error.problem.detail}; curate again") from error


def check_fits(one: ScannedEpisode, name: str, video: ShownVideo, info: VideoInfo, how: Videos) -> None:
    """Raise ExportError where a loader would not find each step's frame in the whole file.

    LeRobot looks for the frame at from_timestamp + timestamp, and torchcodec for the one of that number at the file's
    mean rate.
    """
    late_s = ((video.pts_ns - video.pts_ns[0]) - (one.times_ns - one.times_ns[0])) / 1e9
    worst = int(np.argmax(np.abs(late_s)))
    if abs(late_s[worst]) > TOLERANCE_S:
        raise ExportError(
            f"{one.place}: step {worst} shows a frame of {name} that is {late_s[worst]:.6g} s off the steps' clock; "
            f"LeRobot allows {TOLERANCE_S:g} s in a file taken whole ({how}); {REENCODE}"
        )
    numbers = np.searchsorted(info.pts_ns, video.pts_ns)
    mean_hz = len(info.pts_ns) / (info.duration_ns / 1e9) if info.duration_ns else 0.0
    expected = np.rint(video.pts_ns / 1e9 * mean_hz).astype(np.int64)
    if (numbers != expected).any():
        step = int(np.flatnonzero(numbers != expected)[0])
        raise ExportError(
            f"{one.place}: step {step} shows frame {numbers[step]} of {video.path} ({name}), where a loader takes "
            f"frame {expected[step]} at the file's mean rate of {mean_hz:.6g} Hz; {REENCODE}"
        )


def check_first(one: ScannedEpisode, name: str, video: ShownVideo, info: VideoInfo, how: Videos) -> None:
    """Raise ExportError where the file's frame t is not step t's, as LeRobot v2.1 and GR00T's loader take it."""
    numbers = np.searchsorted(info.pts_ns, video.pts_ns)
    if (numbers != np.arange(len(numbers))).any():
        step = int(np.flatnonzero(numbers != np.arange(len(numbers)))[0])
        raise ExportError(
            f"{one.place}: step {step} shows frame {numbers[step]} of {video.path} ({name}); this format has a file an "
            f"episode, whose frame {step} it must be, so that the file cannot be taken whole ({how}); {REENCODE}"
        )


def shown_frames(curated: CuratedSet, one: ScannedEpisode, name: str) -> Iterator[Frame]:
    """The frame (H, W, 3) that each of the T steps shows; raises ExportError where the file cannot give it."""
    video = one.videos[name]
    wanted = video.pts_ns
    if (np.diff(wanted) < 0).any():
        step = int(np.flatnonzero(np.diff(wanted) < 0)[0]) + 1
        raise ExportError(
            f"{one.place}: step {step} shows the frame of {name} at {wanted[step] / 1e9:g} s, step {step - 1} that at "
            f"{wanted[step - 1] / 1e9:g} s; frames are encoded in their order: curate again, or --without {name}"
        )
    at = 0
    path = curated.folder / video.path
    ref = VideoRef(str(path), int(wanted[0]), int(wanted[-1]), depth=video.depth)
    try:
        for chunk in shared_decoder().decode_frames(ref):
            for pts_ns, frame in zip(chunk.pts_ns.tolist(), chunk.frames, strict=True):
                while at < len(wanted) and wanted[at] == pts_ns:
                    yield frame if frame.ndim == 3 else frame[..., None]
                    at += 1
    except Unreadable as error:
        raise ExportError(f"{path}: {error.problem.detail}; curate again") from error
    if at < len(wanted):
        raise ExportError(
            f"{path} has no frame at {wanted[at] / 1e9:g} s, which step {at} of {one.place} shows; curate again"
        )


def sampled_frames(curated: CuratedSet, one: ScannedEpisode, name: str, steps: NDArray[np.int64]) -> Iterator[Frame]:
    """The frame (H, W, 3) that each of some steps shows, in the file's order; the others are passed over unconverted.

    PyAV reads them here, as it does in training: a decoding child for each camera of each episode takes far longer.
    Raises ExportError where the file cannot give one.
    """
    video = one.videos[name]
    path = curated.folder / video.path
    wanted = np.sort(video.pts_ns[steps])
    at = 0
    rgb = VideoReformatter()  # one for all frames: a frame's own sets up its conversion anew
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            container.seek(int(wanted[0] / 1e9 / (stream.time_base or 1)), stream=stream)
            for frame in container.decode(stream):
                pts_ns = round((frame.pts or 0) * (stream.time_base or 1) * 1_000_000_000)
                while at < len(wanted) and abs(int(wanted[at]) - pts_ns) <= _SAME_FRAME_NS:
                    yield rgb.reformat(frame, format="rgb24").to_ndarray()
                    at += 1
                if at == len(wanted) or pts_ns > wanted[at]:
                    break
    except (av.FFmpegError, IndexError, OSError) as error:
        raise ExportError(f"{path} cannot be decoded: {error}; curate again") from error
    if at < len(wanted):
        raise ExportError(f"{path} has no frame at {wanted[at] / 1e9:g} s, which {one.place} shows; curate again")


class WholeFiles:
    """The curated files of one camera that become whole exported files, in order of first use.

    Raises ExportError where some episode's frames would not be found in them.
    """

    def __init__(self, curated: CuratedSet, camera: str, episodes: Sequence[ScannedEpisode], how: Videos) -> None:
        self._curated = curated
        self._camera = camera
        self._how = how
        self._info: dict[str, VideoInfo] = {}
        self._shown: dict[str, list[NDArray[np.int64]]] = {}
        for one in episodes:
            video = one.videos[camera]
            if video.path not in self._info:
                self._info[video.path] = probed(curated, video)
            check_fits(one, camera, video, self._info[video.path], how)
            self._shown.setdefault(video.path, []).append(video.pts_ns)
        self._numbers = {path: number for number, path in enumerate(self._info)}

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths below the curated folder; a file's number is its place here."""
        return tuple(self._info)

    def number(self, one: ScannedEpisode) -> int:
        """Number of the file that shows an episode."""
        return self._numbers[one.videos[self._camera].path]

    def first_s(self, one: ScannedEpisode) -> float:
        """Where an episode begins in its file."""
        return int(one.videos[self._camera].pts_ns[0]) / 1e9

    def carry(self, path: str, target: Path) -> None:
        """Bring one of the files into the export."""
        carry(self._curated.folder / path, target, self._how)

    def check_first(self, episodes: Sequence[ScannedEpisode]) -> None:
        """Raise ExportError where an episode's step t is not frame t of its file."""
        for one in episodes:
            video = one.videos[self._camera]
            check_first(one, self._camera, video, self._info[video.path], self._how)

    def report(self, path: str, target: str, one: ScannedEpisode | None = None) -> VideoFileReport:
        """How many frames of a file no step shows, of one episode or of any."""
        shown = self._shown[path] if one is None else [one.videos[self._camera].pts_ns]
        total = len(self._info[path].pts_ns)
        return VideoFileReport(target, path, total, total - len(np.unique(np.concatenate(shown))))
