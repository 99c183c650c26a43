"""Frames of one file, or of encoded images, one at a time; runs inside the media child process only."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from transforms.stores.hollow import HollowMp4, hollow_of
from transforms.stores.paths import located, opened
from transforms.video_header import VideoHeader

CODECS = {"libdav1d": "av1", "libaom-av1": "av1", "libvpx": "vp8", "libvpx-vp9": "vp9", "libopenjpeg": "jpeg2000"}
DEMUXERS = "mov,matroska,webm"
NEAR_NS = 2_000_000
"""A stamp that went through seconds in float64, or a frame beside the wanted one by rounding, is still the frame."""
WITHIN_NS = 1_000_000_000
"""A wanted frame that the file lacks is the next one, if that comes within a second."""


class MediaError(Exception):
    """A file or image that cannot be read; `rule` is the code it is quarantined under."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(detail)
        self.rule = rule


@dataclass(frozen=True)
class Decoding:
    """How to decode: threads of the codec and the largest picture (px) it may claim."""

    thread_count: int = 1
    max_pixels: int = 1 << 26


@dataclass(frozen=True)
class PacketIndex:
    """What the packets of a video say, without decoding: `pts_ns` (N,) sorted, on the file's own clock."""

    codec: str
    width: int
    height: int
    n_keyframes: int
    duration_ns: int
    n_declared: int
    pts_ns: NDArray[np.int64]


def to_ns(ticks: int, stream: av.VideoStream) -> int:
    """A stamp of the stream's time base in ns, rounded to nearest, in whole numbers."""
    base = stream.time_base
    return int((2 * ticks * base.numerator * 1_000_000_000 + base.denominator) // (2 * base.denominator))


def _first_tick(at_ns: int, stream: av.VideoStream) -> int:
    """The earliest stamp of the stream's time base that is at or after `at_ns` by `to_ns`.

    Rounded down instead, a stamp that is a keyframe's own would lie before it, and decoding begin a keyframe earlier.
    """
    base = stream.time_base
    return -((1 - 2 * at_ns) * base.denominator // (2 * base.numerator * 1_000_000_000))


def _open(uri: str, hollow: HollowMp4 | None = None) -> av.container.InputContainer:
    path = located(uri)
    if not path.exists():
        raise MediaError("absent", f"{uri} does not exist; restore the file or correct the source's path")
    source = hollow if hollow is not None else opened(path)
    try:
        return av.open(source, options={"format_whitelist": DEMUXERS, "protocol_whitelist": "file"})
    except av.FFmpegError as error:
        rule, what = _container_fault(path)
        raise MediaError(rule, f"{uri} {what} ({error.strerror}); export or copy the file again") from error


def _container_fault(path: Path) -> tuple[str, str]:
    """Why a file does not open, from its own bytes: the rule and the words."""
    size = path.stat().st_size
    if size == 0:
        return "empty", "is empty (0 bytes)"
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp":
        reach = mp4_reach(path)
        if reach is not None:
            return "truncated", f"is cut off: its boxes need at least {reach} bytes, the file has {size}"
        return "corrupt", "is an mp4 whose index cannot be read"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "corrupt", "is Matroska or WebM whose header cannot be read"
    return "wrong_format", f"is neither mp4, mkv nor webm: it begins with {head!r}"


def mp4_reach(path: Path) -> int | None:
    """Bytes an mp4 needs where it has fewer (a box runs past the end, or the `moov` index is absent); else None."""
    size, at, has_index = path.stat().st_size, 0, False
    with path.open("rb") as file:
        while at + 8 <= size:
            file.seek(at)
            length, kind = struct.unpack(">I4s", file.read(8))
            if length == 1:
                wide = file.read(8)
                length = struct.unpack(">Q", wide)[0] if len(wide) == 8 else 16
            if length == 0:
                break
            has_index |= kind == b"moov"
            at += max(8, length)
    return at if at > size else size + 8 if not has_index else None


def _video_stream(container: av.container.InputContainer, uri: str, how: Decoding) -> av.VideoStream:
    if not container.streams.video:
        raise MediaError("empty", f"{uri} holds no video stream; point the camera at a video file")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise MediaError("corrupt", f"{uri}: the codec of its video stream is unknown; encode it again")
    if stream.width * stream.height > how.max_pixels:
        claim = f"{stream.width}x{stream.height}"
        raise MediaError("absurd_size", f"{uri} claims {claim} px a frame, more than the limit of {how.max_pixels} px")
    stream.thread_count = how.thread_count
    stream.thread_type = "AUTO"
    stream.codec_context.options = {"err_detect": "explode", "max_pixels": str(how.max_pixels)}
    return stream


def packet_index(uri: str, how: Decoding, alive: Callable[[], None]) -> PacketIndex:
    """Stamps of every shown frame from the packets; a cut-off file gives those it still holds."""
    hollow = hollow_of(uri)
    with _open(uri, hollow) as container:
        stream = _video_stream(container, uri, how)
        stamps, keyframes, end = [], 0, 0
        try:
            for packet in container.demux(stream):
                if packet.pts is None or packet.is_discard or packet.size == 0:
                    continue
                stamps.append(to_ns(packet.pts, stream))
                keyframes += bool(packet.is_keyframe)
                end = max(end, to_ns(packet.pts + (packet.duration or 0), stream))
                if len(stamps) % 256 == 0:
                    alive()
        except av.FFmpegError as error:
            if not stamps:
                raise MediaError(
                    "corrupt", f"{uri}: no packet can be read ({error.strerror}); copy it again"
                ) from error
        if not stamps and stream.frames:
            raise MediaError("corrupt", f"{uri} declares {stream.frames} frames and none can be found; copy it again")
        if hollow is not None and hollow.is_hollow:
            keyframes = sum(entry.is_keyframe for entry in stream.index_entries)
        name = stream.codec_context.name
        pts = np.sort(np.asarray(stamps, np.int64))
        return PacketIndex(
            codec=CODECS.get(name, name),
            width=stream.width,
            height=stream.height,
            n_keyframes=keyframes,
            duration_ns=end - int(pts[0]) if len(pts) else 0,
            n_declared=stream.frames,
            pts_ns=pts,
        )


def video_header(uri: str, how: Decoding) -> VideoHeader:
    """The header alone, no packet read. Raises MediaError, `truncated` where an mp4 is shorter than its boxes say."""
    with _open(uri, hollow_of(uri)) as container:
        stream = _video_stream(container, uri, how)
        reach = mp4_reach(located(uri)) if "mp4" in container.format.name else None
        if reach is not None:
            size = located(uri).stat().st_size
            detail = f"{uri} is cut off: its boxes need at least {reach} bytes, the file has {size}; copy it again"
            raise MediaError("truncated", detail)
        name = stream.codec_context.name
        duration = container.duration * 1000 if container.duration else 0
        return VideoHeader(
            codec=CODECS.get(name, name),
            width=stream.width,
            height=stream.height,
            n_declared=stream.frames,
            duration_ns=to_ns(stream.duration, stream) if stream.duration else duration,
            rate_hz=float(stream.average_rate or 0),
        )


def keys_before(uri: str, at_ns: Sequence[int], how: Decoding) -> list[int]:
    """Stamp, in ns, of the last keyframe at or before each wanted one, as the container's index has it.

    The index holds decoding stamps, which are never later than those a frame is shown at. 0 where it names none.
    """
    with _open(uri, hollow_of(uri)) as container:
        stream = _video_stream(container, uri, how)
        base, entries = stream.time_base, stream.index_entries
        found = []
        for wanted in at_ns:
            ticks = wanted * base.denominator // (1_000_000_000 * base.numerator)
            place = entries.search_timestamp(ticks, backward=True)
            found.append(to_ns(entries[place].timestamp, stream) if place >= 0 else 0)
    return found


def window(uri: str, start_ns: int, end_ns: int, how: Decoding) -> Iterator[tuple[int, av.VideoFrame]]:
    """Frames with `start_ns <= pts <= end_ns` in order of presentation, decoded from the keyframe before.

    Raises MediaError: `corrupt` where the decoder reports damage inside the window, `truncated` where the file
    ends before it.
    """
    with _open(uri) as container:
        stream = _video_stream(container, uri, how)
        last: int | None = None
        try:
            for pts, frame in _frames_from(container, stream, start_ns):
                if pts > end_ns:
                    return
                if pts >= start_ns:
                    if frame.is_corrupt:
                        raise MediaError("corrupt", f"{uri}: the frame at {pts} ns is damaged; copy or encode it again")
                    last = pts
                    yield pts, frame
        except av.FFmpegError as error:
            if _ends_early(uri, last, end_ns, stream):
                raise MediaError("truncated", _cut_off(uri, last, end_ns)) from error
            place = f"after {last} ns" if last is not None else f"before its first frame of [{start_ns}, {end_ns}] ns"
            raise MediaError("corrupt", f"{uri}: decoding failed {place} ({error.strerror}); copy it again") from error
        if _ends_early(uri, last, end_ns, stream):
            raise MediaError("truncated", _cut_off(uri, last, end_ns))


def _frames_from(
    container: av.container.InputContainer, stream: av.VideoStream, start_ns: int
) -> Iterator[tuple[int, av.VideoFrame]]:
    target = _first_tick(start_ns, stream)
    first = stream.start_time or 0
    if target > first:
        container.seek(target, stream=stream, backward=True)
    early: bool = target <= first
    for frame in container.decode(stream):
        if frame.pts is None:
            continue
        if not early and frame.pts > target:
            break  # the container's index led past the start: read from the front instead
        early = True
        yield to_ns(frame.pts, stream), frame
    else:
        return
    container.seek(first, stream=stream, backward=True)
    for frame in container.decode(stream):
        if frame.pts is not None:
            yield to_ns(frame.pts, stream), frame


def _ends_early(uri: str, last: int | None, end_ns: int, stream: av.VideoStream) -> bool:
    rate = stream.average_rate
    period = int(1_000_000_000 / rate) if rate else 0
    reached = last is not None and last >= end_ns - period
    return not reached and Path(uri).suffix.lower() in (".mp4", ".mov", ".m4v") and mp4_reach(located(uri)) is not None


def _cut_off(uri: str, last: int | None, end_ns: int) -> str:
    seen = "holds no frame of it" if last is None else f"ends at {last} ns"
    return f"{uri} is cut off: the window needs frames up to {end_ns} ns, the file {seen}; copy it again"


def image_frame(data: bytes, place: str, how: Decoding) -> av.VideoFrame:
    """One encoded JPEG or PNG as a frame."""
    if data[:2] == b"\xff\xd8":
        name = "mjpeg"
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        name = "png"
    else:
        rule = "wrong_format" if data else "empty"
        raise MediaError(rule, f"{place} is neither JPEG nor PNG: its {len(data)} bytes begin with {data[:8]!r}")
    codec = av.CodecContext.create(name, "r")
    codec.options = {"max_pixels": str(how.max_pixels), "err_detect": "explode"}
    try:
        frames = [*codec.decode(av.Packet(data)), *codec.decode(None)]
    except av.FFmpegError as error:
        raise MediaError(
            "corrupt", f"{place} cannot be decoded as {name} ({error.strerror}); write it again"
        ) from error
    if not frames or frames[0].is_corrupt:
        raise MediaError("corrupt", f"{place} is a damaged {name}; write it again")
    return frames[0]


def image_frames(images: Sequence[bytes], how: Decoding) -> Iterator[tuple[int, av.VideoFrame]]:
    """Encoded images by index; the index stands where a video has a stamp."""
    for index, data in enumerate(images):
        yield index, image_frame(data, f"image {index} of {len(images)}", how)


def pixels(frame: av.VideoFrame, depth: bool) -> NDArray[np.generic]:
    """(H, W, 3) uint8 RGB; for depth (H, W) uint16."""
    shown: NDArray[np.generic] = frame.to_ndarray(format="gray16le" if depth else "rgb24")
    return shown
