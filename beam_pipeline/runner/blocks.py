"""Blocks: what one output of a bundle wrote, as arrays that Ray's object store holds without a copy, and slices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import xxhash

from beam_pipeline.runner.beam_internals import data_plane
from beam_pipeline.runner.packing import Bytes, PackedArray, pack, unpack

Payload = tuple[Bytes | PackedArray, ...]

_CHUNK_BYTES = 4 << 20
_MAX_CUTS = 4096
_PIECES = 256


@dataclass(frozen=True)
class BlockInfo:
    """What the driver knows of a block without opening it.

    `cuts` are ascending byte positions at which an element ends; the last one is `nbytes`. `digest` tells blocks with
    other bytes apart.
    """

    nbytes: int
    elements: int
    cuts: tuple[int, ...]
    digest: int = 0


class BlockBuffer(data_plane.ClosableOutputStream):
    """Receives the encoded elements of one output and remembers at most 4,096 places where it can be cut.

    Every element is a cut until there are 4,096; then every second one is forgotten, and so on: few and large elements
    can be handed out one by one, many small ones cost nothing.
    """

    def __init__(self) -> None:
        super().__init__(None)
        self.elements = 0
        self._chunks: list[Bytes | PackedArray] = []
        self._digest = xxhash.xxh3_64()
        self._flushed = 0
        self._cuts: list[int] = []
        self._stride = 1
        self._next_cut = 1

    @property
    def nbytes(self) -> int:
        return self._flushed + int(self.size())

    def maybe_flush(self) -> None:
        """Called by Beam's output operation after each element."""
        self.elements += 1
        if self.elements >= self._next_cut or self.size() > _CHUNK_BYTES:
            self._cut()

    def close(self) -> None:
        """Nothing: the bundle takes the block when it is whole."""

    def finish(self) -> tuple[BlockInfo, Payload]:
        """The block as written so far; the buffer is not to be used again."""
        if self.size():
            self._flush()
        if self._flushed and (not self._cuts or self._cuts[-1] != self._flushed):
            self._cuts.append(self._flushed)
        return BlockInfo(self._flushed, self.elements, tuple(self._cuts), self._digest.intdigest()), tuple(self._chunks)

    def _cut(self) -> None:
        self._cuts.append(self._flushed + self.size())
        if len(self._cuts) >= _MAX_CUTS:
            self._cuts = self._cuts[1::2]
            self._stride *= 2
        self._next_cut = self.elements + self._stride
        if self.size() > _CHUNK_BYTES:
            self._flush()

    def _flush(self) -> None:
        chunk = self.get()
        self._digest.update(chunk)
        self._chunks.append(pack(chunk))
        self._flushed += len(chunk)
        self._clear()


@dataclass(frozen=True)
class Span:
    """The part `[start, stop)` of a block, in bytes; `cuts` lie in `(start, stop]` and end with `stop`."""

    start: int
    stop: int
    cuts: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return self.stop - self.start


def pieces(payload: Sequence[Bytes | PackedArray], span: Span) -> Iterator[tuple[int, bytes]]:
    """The span's elements in about 256 pieces that end at a cut or an array's end: (position after it, bytes)."""
    cuts = iter(span.cuts)
    least = span.nbytes // _PIECES
    cut = next(cuts, span.stop)
    base, position = 0, span.start
    for array in payload:
        end = min(base + len(array), span.stop)
        opened = unpack(array) if position < end else None
        while opened is not None and position < end:
            while cut < position + max(1, least) and cut < span.stop:
                cut = next(cuts, span.stop)
            upto = min(cut, end)
            yield upto, opened[position - base : upto - base].tobytes()
            position = upto
        base += len(array)
        if base >= span.stop:
            return


def take(span: Span, nbytes: int) -> tuple[Span, Span | None]:
    """Cut a span at the first cut at or after `nbytes`: (front, what is left or None)."""
    wanted = span.start + nbytes
    for index, cut in enumerate(span.cuts):
        if cut >= wanted and cut < span.stop:
            return Span(span.start, cut, span.cuts[: index + 1]), Span(cut, span.stop, span.cuts[index + 1 :])
    return span, None


def after(span: Span, position: int) -> Span | None:
    """What is left of a span once everything before `position` is done, None where nothing is."""
    if position >= span.stop:
        return None
    return Span(position, span.stop, tuple(cut for cut in span.cuts if cut > position))
