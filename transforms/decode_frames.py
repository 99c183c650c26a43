"""DecodeFrames: pixels of chosen frames, two requests ahead of whoever looks at them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from transforms.coders import ArrowCoder
from transforms.episode import ImageRef, VideoRef
from transforms.frames import ReadImages
from transforms.handlers.blocks import Embedded, EmbeddingFailure, FrameBlock, nothing
from transforms.media import MediaParams, limit_shared_decoder, shared_decoder
from transforms.unreadable import Unreadable

UNREADABLE = "unreadable"
_AHEAD = 2
"""Requests that are decoded, or waiting to be, while a model looks at another: what bounds memory."""


@dataclass(frozen=True)
class FrameRequest:
    """Frames of one camera of one episode: the `steps` that show them, and their stamps (ns) or indices, growing."""

    key: str
    ref: VideoRef | ImageRef
    steps: tuple[int, ...]
    at: tuple[int, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """An id for each frame, which sort as the steps do."""
        return tuple(f"{step:08d}" for step in self.steps)


class FrameRequestCoder(ArrowCoder):
    """Coder of what is to be decoded."""

    kind = FrameRequest


beam.coders.registry.register_coder(FrameRequest, FrameRequestCoder)


def read_frames(request: FrameRequest, pixels: int, read_images: ReadImages) -> FrameBlock:
    """A request's frames as squares of `pixels`. Raises Unreadable."""
    if isinstance(request.ref, VideoRef):
        frames = shared_decoder().video_squares(request.ref, request.at, pixels)
    else:
        try:
            images = read_images(request.ref, request.at)
        except OSError as error:
            raise Unreadable("unreadable", f"{request.ref.uri}: {error}; check that it is readable") from error
        frames = shared_decoder().image_squares(images, pixels)
    return FrameBlock(request.ids, tuple(frames), request.key)


def unreadable(request: FrameRequest, error: Unreadable) -> Embedded:
    """What stands for a request whose frames cannot be decoded."""
    failures = tuple(EmbeddingFailure(name, error.problem.rule, error.problem.detail) for name in request.ids)
    return nothing("", "", failures, request.key)


class DecodeFrames(beam.DoFn):
    """FrameRequest -> FrameBlock in order, or an Embedded that says why not, tagged UNREADABLE.

    The next requests of a bundle are decoded, in the media child, while what is downstream works on this one.
    """

    def __init__(self, read_images: ReadImages, media: MediaParams, pixels: int) -> None:
        self._read_images, self._media, self._pixels = read_images, media, pixels

    def setup(self) -> None:
        limit_shared_decoder(self._media)
        self._thread = ThreadPoolExecutor(1, "decode")

    def start_bundle(self) -> None:
        self._waiting: deque[tuple[FrameRequest, Future[FrameBlock]]] = deque()

    def process(self, element: FrameRequest) -> Iterator[FrameBlock | beam.pvalue.TaggedOutput]:
        self._waiting.append((element, self._thread.submit(read_frames, element, self._pixels, self._read_images)))
        if len(self._waiting) > _AHEAD:
            yield self._next()

    def finish_bundle(self) -> Iterator[WindowedValue | beam.pvalue.TaggedOutput]:
        while self._waiting:
            found = self._next()
            if isinstance(found, FrameBlock):
                yield GlobalWindows.windowed_value(found)
            else:
                yield beam.pvalue.TaggedOutput(found.tag, GlobalWindows.windowed_value(found.value))

    def teardown(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    def _next(self) -> FrameBlock | beam.pvalue.TaggedOutput:
        request, decoding = self._waiting.popleft()
        try:
            return decoding.result()
        except Unreadable as error:
            return beam.pvalue.TaggedOutput(UNREADABLE, unreadable(request, error))
