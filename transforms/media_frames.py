"""Pixels of one file or one image at a time, and what is measured of them; runs inside the media child process only."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
CODECS = {"libdav1d": "av1", "libaom-av1": "av1", "libvpx": "vp8", "libvpx-vp9": "vp9", "libopenjpeg": "jpeg2000"}
DEMUXERS = "mov,matroska,webm"
GRID = 64
MAX_PIXELS_MEASURED = 1 << 17
_BLOCK = 256  # 256 * 255^2 < 2^24: block sums of squares are exact in float32, so no CPU's order of adding shows


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


@dataclass
class Measures:
    """Per-frame measurements as they are appended; `stats` turns them into columns."""

    pts_ns: list[int] = field(default_factory=list)
    rows: list[tuple[float, float, float, float, float]] = field(default_factory=list)
    identical: list[bool] = field(default_factory=list)
    _grid: NDArray[np.int16] | None = None
    _frame: av.VideoFrame | None = None

    def add(self, pts_ns: int, frame: av.VideoFrame) -> None:
        """Measure one frame against the one before it."""
        mean, std, high, low = luma_moments(*luma_plane(frame))
        grid = _grey_grid(frame)
        motion, same = 0.0, False
        if self._grid is not None and self._frame is not None:
            motion = float(np.abs(grid - self._grid).mean())
            same = motion == 0.0 and _same_pixels(frame, self._frame)
        self._grid, self._frame = grid, frame
        self.pts_ns.append(pts_ns)
        self.rows.append((mean, std, high, low, motion))
        self.identical.append(same)

    def stats(self) -> dict[str, NDArray[np.generic]]:
        """Columns by name, each (N,)."""
        table = np.asarray(self.rows, np.float64).reshape(-1, 5)
        names = ("mean_luma", "std_luma", "clipped_high", "clipped_low", "motion")
        columns: dict[str, NDArray[np.generic]] = {n: np.ascontiguousarray(table[:, i]) for i, n in enumerate(names)}
        return {"pts_ns": np.asarray(self.pts_ns, np.int64), **columns, "identical": np.asarray(self.identical, bool)}


def luma_plane(frame: av.VideoFrame) -> tuple[Bytes, bool]:
    """The (H, W) luma of a frame without a copy where its format has one, and whether it spans 0..255."""
    name = frame.format.name
    if not (name.startswith(("yuv4", "yuvj4", "gray", "nv12")) and frame.format.components[0].bits == 8):
        return frame.to_ndarray(format="gray"), True
    plane = frame.planes[0]
    luma = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
    return luma, name == "gray" or name.startswith("yuvj") or int(frame.color_range) == 2


def luma_moments(luma: Bytes, full_range: bool) -> tuple[float, float, float, float]:
    """Mean, standard deviation (0..255), share of pixels >= 250 and <= 5, over evenly spaced rows of at most 2^17 px.

    Video range (16..235) is stretched to 0..255 first (ITU-R BT.601), so that black reads 0.
    """
    height, width = luma.shape
    luma = luma[:: max(1, -(-height * width // MAX_PIXELS_MEASURED))]
    flat = luma.astype(np.float32).reshape(-1)
    whole = flat.size // _BLOCK * _BLOCK
    blocks, rest = flat[:whole].reshape(-1, _BLOCK), flat[whole:]
    total = float(blocks.sum(axis=1).sum(dtype=np.float64)) + float(rest.sum(dtype=np.float64))
    squares = float(np.einsum("ij,ij->i", blocks, blocks).sum(dtype=np.float64)) + float(rest.astype(np.float64) @ rest)
    mean = total / flat.size
    std = max(0.0, squares / flat.size - mean * mean) ** 0.5
    gain, black = (1.0, 0.0) if full_range else (255.0 / 219.0, 16.0)
    high = np.count_nonzero(luma >= int(np.ceil(250.0 / gain + black))) / flat.size
    low = np.count_nonzero(luma <= int(np.floor(5.0 / gain + black))) / flat.size
    return min(255.0, max(0.0, (mean - black) * gain)), std * gain, high, low


def _grey_grid(frame: av.VideoFrame) -> NDArray[np.int16]:
    small = frame.reformat(GRID, GRID, "gray", interpolation="AREA")
    plane = small.planes[0]
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:GRID, :GRID].astype(np.int16)


def _same_pixels(a: av.VideoFrame, b: av.VideoFrame) -> bool:
    if (a.width, a.height, a.format.name) != (b.width, b.height, b.format.name):
        return False
    shown = "gray16le" if a.format.components[0].bits > 8 else "rgb24"
    return bool(np.array_equal(a.to_ndarray(format=shown), b.to_ndarray(format=shown)))


def to_ns(ticks: int, stream: av.VideoStream) -> int:
    """A stamp of the stream's time base in ns, rounded to nearest, in whole numbers."""
    base = stream.time_base
    return int((2 * ticks * base.numerator * 1_000_000_000 + base.denominator) // (2 * base.denominator))


def _open(uri: str) -> av.container.InputContainer:
    path = Path(uri)
    if not path.exists():
        raise MediaError("absent", f"{uri} does not exist; restore the file or correct the source's path")
    try:
        return av.open(uri, options={"format_whitelist": DEMUXERS, "protocol_whitelist": "file"})
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
    with _open(uri) as container:
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
    base = stream.time_base
    target = start_ns * base.denominator // (1_000_000_000 * base.numerator)
    first = stream.start_time or 0
    if target > first:
        container.seek(target, stream=stream, backward=True)
    early: bool = target <= first
    for frame in container.decode(stream):
        if frame.pts is None:
            continue
        pts = to_ns(frame.pts, stream)
        if not early and pts > start_ns:
            break  # the container's index led past the start: read from the front instead
        early = True
        yield pts, frame
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
    return not reached and Path(uri).suffix.lower() in (".mp4", ".mov", ".m4v") and mp4_reach(Path(uri)) is not None


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
