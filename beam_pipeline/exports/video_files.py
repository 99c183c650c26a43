"""Whole video files from the curated folder to an export: linked, copied, remuxed; and frames encoded anew."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from beam_pipeline.exports.export import ExportError, Videos

CONTAINER = ".mp4"
CODEC = "libx264"
X264 = {"crf": "18", "g": "2", "preset": "veryfast", "x264-params": "threads=1:sliced-threads=0"}
"""Key frames every 2 frames, as LeRobot records: any frame is found quickly. The bytes depend on the frames alone."""
Frame = NDArray[Any]


@dataclass(frozen=True)
class VideoHeader:
    """What info.json says of a camera's files; `codec` by its common name."""

    width: int
    height: int
    codec: str
    pixel_format: str
    has_audio: bool


def header(path: Path) -> VideoHeader:
    """Read a file's header; raises ExportError where it is no video."""
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            context = stream.codec_context
            codec = context.codec.canonical_name
            return VideoHeader(
                context.width, context.height, codec, context.pix_fmt or "", bool(container.streams.audio)
            )
    except (av.FFmpegError, IndexError, OSError) as error:
        raise ExportError(f"{path} is no video that can be read: {error}; curate again") from error


def carry(source: Path, target: Path, how: Videos) -> None:
    """Bring a whole file into an export; raises ExportError where it cannot be one of LeRobot's mp4 files."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if how == "remux":
        remux(source, target)
        return
    if source.suffix.lower() != CONTAINER:
        raise ExportError(
            f"{source} is no mp4, which LeRobot's paths name; --videos remux puts its packets in one, reencode "
            "its frames"
        )
    if how == "reference":
        target.symlink_to(source.resolve())
    else:
        shutil.copyfile(source, target)


def remux(source: Path, target: Path) -> None:
    """The video packets of a file in a new mp4 with its index in front: the same frames at the same times, no sound."""
    codec = "its codec"
    try:
        with (
            av.open(str(source)) as read,
            av.open(str(target), "w", options={"fflags": "+bitexact", "movflags": "+faststart"}) as written,
        ):
            stream = read.streams.video[0]
            codec = stream.codec_context.codec.canonical_name
            copy = written.add_stream_from_template(stream)
            copy.time_base = stream.time_base
            for packet in read.demux(stream):
                if packet.dts is not None:
                    packet.stream = copy
                    written.mux(packet)
    except (av.FFmpegError, ValueError) as error:
        target.unlink(missing_ok=True)
        raise ExportError(
            f"{source} cannot be remuxed into an mp4, which does not hold {codec}: {error}; use --videos reencode"
        ) from error


class Encoder:
    """An h264 mp4 in the making: `add` frames (H, W, 3) uint8 RGB at a constant rate."""

    def __init__(self, target: Path, fps: Fraction, height: int, width: int) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(target), "w", options={"fflags": "+bitexact", "movflags": "+faststart"})
        self._stream: Any = self._container.add_stream(CODEC, rate=fps, options=X264)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p" if width % 2 == 0 and height % 2 == 0 else "yuv444p"
        self._stream.codec_context.thread_count = 1
        self._stream.codec_context.time_base = 1 / fps
        self._frames = 0

    def __enter__(self) -> Encoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._container.mux(self._stream.encode())
        self._container.close()

    def add(self, frame: Frame) -> None:
        shown = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        shown.pts = self._frames
        shown.time_base = self._stream.codec_context.time_base
        self._container.mux(self._stream.encode(shown))
        self._frames += 1
