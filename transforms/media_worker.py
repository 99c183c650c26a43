"""The child process that decodes: answers length-prefixed requests on stdin, one after another, until stdin closes."""

from __future__ import annotations

import resource
import signal
import struct
import sys
import time
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Literal, TypeVar

import av
import msgspec
import numpy as np
from numpy.typing import NDArray

from transforms.media_frames import (
    Decoding,
    MediaError,
    image_frames,
    packet_index,
    pixels,
    video_header,
    window,
)
from transforms.media_light import Measures
from transforms.media_samples import image_squares, video_squares
from transforms.media_thumbnails import image_thumbnails, video_thumbnails

CHUNK_BYTES = 1 << 24
PROGRESS_S = 0.5
_LENGTH = struct.Struct("<Q")
Picture = TypeVar("Picture")


class Limits(msgspec.Struct, frozen=True):
    """What the child may use; given as JSON in its first argument."""

    timeout_s: float
    memory_bytes: int
    thread_count: int
    max_pixels: int


class Request(msgspec.Struct, frozen=True):
    """One piece of work; images follow the head as raw bytes of the given `sizes`.

    `at_ns` are the stamps of thumbnails and squares, `size` the edge of a square in pixels.
    """

    work: Literal["header", "probe", "stats", "frames", "thumbnails", "squares"]
    uri: str = ""
    start_ns: int = 0
    end_ns: int = 0
    limit: int | None = None
    depth: bool = False
    sizes: tuple[int, ...] = ()
    at_ns: tuple[int, ...] = ()
    size: int = 0


class ArrayHead(msgspec.Struct, frozen=True):
    """Name, NumPy dtype and shape of an array whose bytes follow the head."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Reply(msgspec.Struct, frozen=True):
    """One message from the child: `progress` and `chunk` are followed by more, `done` and `failed` end the work."""

    kind: Literal["progress", "chunk", "done", "failed"]
    arrays: tuple[ArrayHead, ...] = ()
    codec: str = ""
    width: int = 0
    height: int = 0
    n_keyframes: int = 0
    duration_ns: int = 0
    n_declared: int = 0
    rate_hz: float = 0.0
    rule: str = ""
    detail: str = ""


def read_exactly(stream: BinaryIO, size: int) -> bytes:
    """`size` bytes of a stream; EOFError where it ends first."""
    data = stream.read(size)
    if len(data) != size:
        raise EOFError(f"stream ended {size - len(data)} bytes early")
    return data


def message(head: Request | Reply, bodies: Iterable[bytes | memoryview] = ()) -> list[bytes | memoryview]:
    """A head and its bodies as pieces to write."""
    encoded = msgspec.json.encode(head)
    return [_LENGTH.pack(len(encoded)), encoded, *bodies]


class _Channel:
    def __init__(self, out: BinaryIO, limits: Limits) -> None:
        self._out = out
        self._alarm_s = int(limits.timeout_s) + 5
        self._last = 0.0

    def send(self, reply: Reply, bodies: Iterable[bytes | memoryview] = ()) -> None:
        for piece in message(reply, bodies):
            self._out.write(piece)
        self._out.flush()
        self._last = time.monotonic()
        signal.alarm(self._alarm_s)  # an orphan that hangs ends itself: SIGALRM kills by default

    def alive(self) -> None:
        if time.monotonic() - self._last >= PROGRESS_S:
            self.send(Reply("progress"))

    def send_arrays(self, kind: Literal["chunk", "done"], arrays: dict[str, NDArray[np.generic]]) -> None:
        flat = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
        heads = tuple(ArrayHead(name, a.dtype.str, a.shape) for name, a in flat.items())
        self.send(Reply(kind, heads), [a.reshape(-1).view(np.uint8).data for a in flat.values()])


def _frames(request: Request, images: list[bytes], how: Decoding) -> Iterator[tuple[int, av.VideoFrame]]:
    if request.uri:
        return window(request.uri, request.start_ns, request.end_ns, how)
    return image_frames(images, how)


def _send_chunks(frames: Iterator[tuple[int, av.VideoFrame]], request: Request, channel: _Channel) -> None:
    stamps: list[int] = []
    chunk: list[NDArray[np.generic]] = []
    sent = 0
    for pts, frame in frames:
        if request.limit is not None and sent + len(chunk) >= request.limit:
            break
        image = pixels(frame, request.depth)
        full = (len(chunk) + 1) * image.nbytes > CHUNK_BYTES
        if chunk and (full or image.shape != chunk[0].shape):
            channel.send_arrays("chunk", {"pts_ns": np.asarray(stamps, np.int64), "frames": np.stack(chunk)})
            sent, stamps, chunk = sent + len(chunk), [], []
        stamps.append(pts)
        chunk.append(image)
        channel.alive()
    if chunk:
        channel.send_arrays("chunk", {"pts_ns": np.asarray(stamps, np.int64), "frames": np.stack(chunk)})
    channel.send(Reply("done"))


def _collected(found: Iterable[tuple[int, Picture]], channel: _Channel) -> tuple[NDArray[np.int64], list[Picture]]:
    """Stamps and pictures of what is decoded one at a time, with a sign of life after each."""
    stamps, pictures = [], []
    for stamp, picture in found:
        stamps.append(stamp)
        pictures.append(picture)
        channel.alive()
    return np.asarray(stamps, np.int64), pictures


def _send_thumbnails(request: Request, images: list[bytes], how: Decoding, channel: _Channel) -> None:
    if request.uri:
        found = video_thumbnails(request.uri, request.at_ns, request.depth, how)
    else:
        found = image_thumbnails(images, request.depth, how)
    stamps, pictures = _collected(found, channel)
    sizes = np.asarray([len(picture) for picture in pictures], np.int64)
    data = np.frombuffer(b"".join(pictures), np.uint8)
    channel.send_arrays("done", {"pts_ns": stamps, "sizes": sizes, "data": data})


def _send_squares(request: Request, images: list[bytes], how: Decoding, channel: _Channel) -> None:
    if request.uri:
        found = video_squares(request.uri, request.at_ns, request.size, how)
    else:
        found = image_squares(images, request.size, how)
    stamps, squares = _collected(found, channel)
    frames = np.stack(squares) if squares else np.zeros((0, request.size, request.size, 3), np.uint8)
    channel.send_arrays("done", {"pts_ns": stamps, "frames": frames})


def _answer(request: Request, images: list[bytes], how: Decoding, channel: _Channel) -> None:
    if request.work == "probe":
        index = packet_index(request.uri, how, channel.alive)
        head = ArrayHead("pts_ns", index.pts_ns.dtype.str, index.pts_ns.shape)
        reply = Reply(
            "done",
            (head,),
            index.codec,
            index.width,
            index.height,
            index.n_keyframes,
            index.duration_ns,
            index.n_declared,
        )
        channel.send(reply, [index.pts_ns.tobytes()])
    elif request.work == "header":
        read = video_header(request.uri, how)
        channel.send(
            Reply(
                "done",
                codec=read.codec,
                width=read.width,
                height=read.height,
                duration_ns=read.duration_ns,
                n_declared=read.n_declared,
                rate_hz=read.rate_hz,
            )
        )
    elif request.work == "frames":
        _send_chunks(_frames(request, images, how), request, channel)
    elif request.work == "squares":
        _send_squares(request, images, how, channel)
    elif request.work == "thumbnails":
        _send_thumbnails(request, images, how, channel)
    else:
        measures = Measures()
        for pts, frame in _frames(request, images, how):
            measures.add(pts, frame)
            channel.alive()
        channel.send_arrays("done", measures.stats())


def serve(requests: BinaryIO, replies: BinaryIO, limits: Limits) -> None:
    """Answer requests until the stream ends."""
    how = Decoding(limits.thread_count, limits.max_pixels)
    channel = _Channel(replies, limits)
    decoder = msgspec.json.Decoder(Request)
    while head := requests.read(_LENGTH.size):
        request = decoder.decode(read_exactly(requests, _LENGTH.unpack(head)[0]))
        images = [read_exactly(requests, size) for size in request.sizes]
        place = request.uri or f"{len(images)} images"
        signal.alarm(int(limits.timeout_s) + 5)
        try:
            _answer(request, images, how, channel)
        except MediaError as error:
            channel.send(Reply("failed", rule=error.rule, detail=str(error)))
        except MemoryError:
            detail = f"{place}: decoding needs more than the limit of {limits.memory_bytes} bytes; raise memory_bytes"
            channel.send(Reply("failed", rule="absurd_size", detail=detail))
        except (av.FFmpegError, OSError, ValueError) as error:
            detail = f"{place}: decoding failed ({type(error).__name__}: {error}); copy or encode it again"
            channel.send(Reply("failed", rule="unreadable", detail=detail))
        signal.alarm(0)


def main() -> None:
    """Take the limits, then serve stdin to stdout."""
    limits = msgspec.json.decode(sys.argv[1].encode(), type=Limits)
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(sys.stdin.buffer, sys.stdout.buffer, limits)


if __name__ == "__main__":
    main()
