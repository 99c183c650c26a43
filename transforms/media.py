"""The only way to pixels: a reused child process decodes, within limits, so that no file can take a worker with it."""

from __future__ import annotations

import atexit
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from transforms.episode import VideoRef
from transforms.media_worker import Limits, Reply, Request, message
from transforms.stage import Unreadable

_REPLY = msgspec.json.Decoder(Reply)


@dataclass(frozen=True)
class MediaParams:
    """Limits of the decoding child: `timeout_s` is its longest silence, `memory_bytes` its address space."""

    timeout_s: float = 60.0
    memory_bytes: int = 4 << 30
    thread_count: int = 1
    max_pixels: int = 1 << 26

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s <= 3600:
            raise ValueError(f"media timeout_s is {self.timeout_s}; need 0 < timeout_s <= 3600")
        if self.memory_bytes < 1 << 29:
            raise ValueError(f"media memory_bytes is {self.memory_bytes}; a decoder needs at least {1 << 29}")
        if not 1 <= self.thread_count <= 64:
            raise ValueError(f"media thread_count is {self.thread_count}; need 1 to 64")
        if self.max_pixels < 1:
            raise ValueError(f"media max_pixels is {self.max_pixels}; need at least 1")


@dataclass(frozen=True)
class VideoInfo:
    """What a video's packets say: `pts_ns` (N,) int64, sorted, the file's own clock; `n_declared` 0 where unstated."""

    codec: str
    width: int
    height: int
    pts_ns: NDArray[np.int64]
    n_keyframes: int
    duration_ns: int
    n_declared: int = 0


@dataclass(frozen=True)
class FrameStats:
    """Measurements of N frames, each (N,): luma on 0..255, shares of pixels >= 250 and <= 5, change of a 64x64 grey.

    `motion` and `identical` compare with the frame before (0 and False for the first). `pts_ns` of images is the index.
    """

    pts_ns: NDArray[np.int64]
    mean_luma: NDArray[np.float64]
    std_luma: NDArray[np.float64]
    clipped_high: NDArray[np.float64]
    clipped_low: NDArray[np.float64]
    motion: NDArray[np.float64]
    identical: NDArray[np.bool_]


@dataclass(frozen=True)
class FrameChunk:
    """Decoded frames: `pts_ns` (N,), `frames` (N, H, W, 3) uint8 RGB, for depth (N, H, W) uint16."""

    pts_ns: NDArray[np.int64]
    frames: NDArray[np.generic]


class _Child:
    """One running media worker and the pipes to it."""

    def __init__(self, params: MediaParams) -> None:
        self._params = params
        limits = Limits(params.timeout_s, params.memory_bytes, params.thread_count, params.max_pixels)
        root = str(Path(__file__).resolve().parent.parent)
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        # BLAS threads would each reserve address space that the limit counts
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "transforms.media_worker", msgspec.json.encode(limits).decode()]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=environment
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        self._readable, self._writable = selectors.DefaultSelector(), selectors.DefaultSelector()
        self._readable.register(self._out, selectors.EVENT_READ)
        self._writable.register(self._in, selectors.EVENT_WRITE)

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> int:
        """End the child now; its exit status."""
        self._process.kill()
        return self.reap()

    def reap(self) -> int:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._readable.close()
        self._writable.close()
        try:
            return self._process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def send(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Write within the time limit; TimeoutError or BrokenPipeError otherwise."""
        for piece in pieces:
            view = memoryview(piece)
            while view:
                if not self._writable.select(self._params.timeout_s):
                    raise TimeoutError
                view = view[os.write(self._in, view[: 1 << 20]) :]

    def receive(self) -> tuple[Reply, dict[str, NDArray[np.generic]]]:
        """The next message; TimeoutError after the limit of silence, EOFError where the child has died."""
        size = int.from_bytes(self._exactly(8), "little")
        reply = _REPLY.decode(self._exactly(size))
        arrays = {}
        for head in reply.arrays:
            dtype = np.dtype(head.dtype)
            data = self._exactly(int(np.prod(head.shape, dtype=np.int64)) * dtype.itemsize)
            arrays[head.name] = np.frombuffer(data, dtype).reshape(head.shape)
        return reply, arrays

    def _exactly(self, size: int) -> bytearray:
        data = bytearray(size)
        view, deadline = memoryview(data), time.monotonic() + self._params.timeout_s
        while view:
            if not self._readable.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            got = os.readv(self._out, [view])
            if got == 0:
                raise EOFError
            view = view[got:]
        return data


class MediaDecoder:
    """Reads video files and encoded images in a child process, started on first use and again after it died.

    Safe to share between threads. Every method raises Unreadable where the file is broken, the child exceeds its
    limits, or dies.
    """

    def __init__(self, params: MediaParams | None = None) -> None:
        self._params = params or MediaParams()
        self._child: _Child | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> MediaDecoder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def child_pid(self) -> int | None:
        """Process id of the child while one runs."""
        return self._child.pid if self._child is not None else None

    def close(self) -> None:
        """End the child; the next call would start another."""
        with self._lock:
            if self._child is not None:
                self._child.reap()
                self._child = None

    def probe(self, uri: str) -> VideoInfo:
        """Codec, size and the stamps of all frames, from packets alone."""
        reply, arrays = self._one(Request("probe", uri), (), uri)
        return VideoInfo(
            codec=reply.codec,
            width=reply.width,
            height=reply.height,
            pts_ns=arrays["pts_ns"].astype(np.int64, copy=False),
            n_keyframes=reply.n_keyframes,
            duration_ns=reply.duration_ns,
            n_declared=reply.n_declared,
        )

    def video_stats(self, ref: VideoRef) -> FrameStats:
        """Measure the frames with `start_ns <= pts <= end_ns`, decoding from the keyframe before."""
        request = Request("stats", ref.uri, ref.start_ns, ref.end_ns)
        return FrameStats(**self._one(request, (), ref.uri)[1])  # type: ignore[arg-type]

    def image_stats(self, images: Sequence[bytes]) -> FrameStats:
        """Measure encoded JPEG or PNG images in order."""
        request = Request("stats", sizes=tuple(map(len, images)))
        return FrameStats(**self._one(request, images, f"{len(images)} images")[1])  # type: ignore[arg-type]

    def decode_frames(self, ref: VideoRef, limit: int | None = None) -> Iterator[FrameChunk]:
        """The window's frames, at most `limit`, in chunks of about 16 MB, from a child that ends with the iterator."""
        return self._chunks(Request("frames", ref.uri, ref.start_ns, ref.end_ns, limit, ref.depth), (), ref.uri)

    def decode_images(self, images: Sequence[bytes], depth: bool = False) -> Iterator[FrameChunk]:
        """Encoded images as chunks of pixels; `pts_ns` is the index."""
        request = Request("frames", depth=depth, sizes=tuple(map(len, images)))
        return self._chunks(request, images, f"{len(images)} images")

    def _one(
        self, request: Request, bodies: Sequence[bytes], place: str
    ) -> tuple[Reply, dict[str, NDArray[np.generic]]]:
        with self._lock:
            if self._child is None or not self._child.alive():
                if self._child is not None:
                    self._child.kill()
                self._child = _Child(self._params)
            child, answer = self._child, None
            try:
                answer = self._last(child, request, bodies, place)
            finally:
                if answer is None:
                    self._child = None
        reply, arrays = answer
        if reply.kind == "failed":
            raise Unreadable(reply.rule, reply.detail)
        return reply, arrays

    def _last(
        self, child: _Child, request: Request, bodies: Sequence[bytes], place: str
    ) -> tuple[Reply, dict[str, NDArray[np.generic]]]:
        for reply, arrays in self._replies(child, request, bodies, place):
            if reply.kind in ("done", "failed"):
                return reply, arrays
        raise AssertionError("replies end with done or failed")

    def _replies(
        self, child: _Child, request: Request, bodies: Sequence[bytes], place: str
    ) -> Iterator[tuple[Reply, dict[str, NDArray[np.generic]]]]:
        """All messages of one answer; a child that fails to give it, or is not wanted to the end, is killed."""
        ended = False
        try:
            child.send(message(request, bodies))
            while not ended:
                reply, arrays = child.receive()
                ended = reply.kind in ("done", "failed")
                yield reply, arrays
        except TimeoutError as error:
            detail = f"{place}: the decoder was silent for {self._params.timeout_s:g} s, its limit, and was ended"
            raise Unreadable("unreadable", f"{detail}; check the file, or raise timeout_s") from error
        except (EOFError, BrokenPipeError) as error:
            status = child.kill()
            detail = f"{place}: the decoder died with exit status {status} while reading it"
            raise Unreadable("unreadable", f"{detail}; check the file, or raise memory_bytes") from error
        finally:
            if not ended:
                child.kill()

    def _chunks(self, request: Request, bodies: Sequence[bytes], place: str) -> Iterator[FrameChunk]:
        child = _Child(self._params)
        try:
            for reply, arrays in self._replies(child, request, bodies, place):
                if reply.kind == "chunk":
                    yield FrameChunk(arrays["pts_ns"].astype(np.int64, copy=False), arrays["frames"])
                elif reply.kind == "failed":
                    raise Unreadable(reply.rule, reply.detail)
        finally:
            child.kill()


_shared: tuple[int, MediaDecoder] | None = None
_shared_lock = threading.Lock()


def shared_decoder() -> MediaDecoder:
    """This process's decoder with default limits, made on first use and closed at exit; a forked child gets its own."""
    global _shared
    with _shared_lock:
        if _shared is None or _shared[0] != os.getpid():
            _shared = (os.getpid(), MediaDecoder())
        return _shared[1]


@atexit.register
def _close_shared() -> None:
    if _shared is not None and _shared[0] == os.getpid():
        _shared[1].close()
