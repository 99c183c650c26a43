"""The only way to pixels: a reused child process decodes, within limits, so that no file can take a worker with it."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from transforms.episode import VideoRef
from transforms.media_child import MediaChild, MediaParams
from transforms.media_worker import Reply, Request, message
from transforms.unreadable import Unreadable
from transforms.video_header import VideoHeader

__all__ = [
    "FrameChunk",
    "FrameStats",
    "MediaDecoder",
    "MediaParams",
    "VideoHeader",
    "VideoInfo",
    "limit_shared_decoder",
    "shared_decoder",
]


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
    `hash` (N, 32) is perceptual (transforms/frame_hashes.py).
    """

    pts_ns: NDArray[np.int64]
    mean_luma: NDArray[np.float64]
    std_luma: NDArray[np.float64]
    clipped_high: NDArray[np.float64]
    clipped_low: NDArray[np.float64]
    motion: NDArray[np.float64]
    identical: NDArray[np.bool_]
    hash: NDArray[np.uint8]


@dataclass(frozen=True)
class FrameChunk:
    """Decoded frames: `pts_ns` (N,), `frames` (N, H, W, 3) uint8 RGB, for depth (N, H, W) uint16."""

    pts_ns: NDArray[np.int64]
    frames: NDArray[np.generic]


class MediaDecoder:
    """Reads video files and encoded images in a child process, started on first use and again after it died.

    Safe to share between threads. Every method raises Unreadable where the file is broken, the child exceeds its
    limits, or dies.
    """

    def __init__(self, params: MediaParams | None = None) -> None:
        self._params = params or MediaParams()
        self._child: MediaChild | None = None
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

    def header(self, uri: str) -> VideoHeader:
        """Codec, size, frames, duration and rate as the file's header states them; no packet is read."""
        reply, _ = self._one(Request("header", uri), (), uri)
        return VideoHeader(reply.codec, reply.width, reply.height, reply.n_declared, reply.duration_ns, reply.rate_hz)

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

    def video_thumbnails(self, ref: VideoRef, at_ns: Sequence[int]) -> list[bytes]:
        """The frame at each stamp of the file's clock (or the next within a second) as a small JPEG."""
        return _pictures(self._one(Request("thumbnails", ref.uri, depth=ref.depth, at_ns=tuple(at_ns)), (), ref.uri)[1])

    def image_thumbnails(self, images: Sequence[bytes], depth: bool = False) -> list[bytes]:
        """Encoded JPEG or PNG images as small JPEGs."""
        request = Request("thumbnails", depth=depth, sizes=tuple(map(len, images)))
        return _pictures(self._one(request, images, f"{len(images)} images")[1])

    def video_squares(self, ref: VideoRef, at_ns: Sequence[int], size: int) -> NDArray[np.uint8]:
        """(N, size, size, 3) RGB: the whole frame at each of the growing stamps (or the next within a second)."""
        request = Request("squares", ref.uri, at_ns=tuple(at_ns), size=size)
        return self._one(request, (), ref.uri)[1]["frames"].astype(np.uint8, copy=False)

    def image_squares(self, images: Sequence[bytes], size: int) -> NDArray[np.uint8]:
        """(N, size, size, 3) RGB of encoded JPEG or PNG images."""
        request = Request("squares", sizes=tuple(map(len, images)), size=size)
        return self._one(request, images, f"{len(images)} images")[1]["frames"].astype(np.uint8, copy=False)

    def _one(
        self, request: Request, bodies: Sequence[bytes], place: str
    ) -> tuple[Reply, dict[str, NDArray[np.generic]]]:
        with self._lock:
            if self._child is None or not self._child.alive():
                if self._child is not None:
                    self._child.kill()
                self._child = MediaChild(self._params)
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
        self, child: MediaChild, request: Request, bodies: Sequence[bytes], place: str
    ) -> tuple[Reply, dict[str, NDArray[np.generic]]]:
        for reply, arrays in self._replies(child, request, bodies, place):
            if reply.kind in ("done", "failed"):
                return reply, arrays
        raise AssertionError("replies end with done or failed")

    def _replies(
        self, child: MediaChild, request: Request, bodies: Sequence[bytes], place: str
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
        child = MediaChild(self._params)
        try:
            for reply, arrays in self._replies(child, request, bodies, place):
                if reply.kind == "chunk":
                    yield FrameChunk(arrays["pts_ns"].astype(np.int64, copy=False), arrays["frames"])
                elif reply.kind == "failed":
                    raise Unreadable(reply.rule, reply.detail)
        finally:
            child.kill()


def _pictures(arrays: dict[str, NDArray[np.generic]]) -> list[bytes]:
    ends = np.cumsum(arrays["sizes"].astype(np.int64)).tolist()
    data = arrays["data"].tobytes()
    return [data[start:end] for start, end in pairwise([0, *ends])]


_shared: tuple[int, MediaDecoder] | None = None
_limits = MediaParams()
_shared_lock = threading.Lock()


def limit_shared_decoder(params: MediaParams) -> None:
    """Set the limits of this process's decoder; one that already runs with other limits is replaced."""
    global _limits, _shared
    with _shared_lock:
        if params != _limits and _shared is not None and _shared[0] == os.getpid():
            _shared[1].close()
            _shared = None
        _limits = params


def shared_decoder() -> MediaDecoder:
    """This process's decoder, made on first use and closed at exit; a forked child gets its own."""
    global _shared
    with _shared_lock:
        if _shared is None or _shared[0] != os.getpid():
            _shared = (os.getpid(), MediaDecoder(_limits))
        return _shared[1]


@atexit.register
def _close_shared() -> None:
    if _shared is not None and _shared[0] == os.getpid():
        _shared[1].close()
