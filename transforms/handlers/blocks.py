"""What embedding models take and give: blocks of frames or texts in, quantised vectors and typed failures out."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
GRID = 127
"""Largest magnitude of a stored element."""


@dataclass(frozen=True, eq=False)
class FrameBlock:
    """N frames of one origin: their ids and (H, W, 3) uint8 RGB pixels, of any sizes. `key` says whose they are.

    A block is what a model sees at once, so its content alone decides its vectors, whatever else flows beside it.
    """

    ids: tuple[str, ...]
    frames: tuple[Pixels, ...]
    key: str = ""

    @property
    def rows(self) -> Sequence[Pixels]:
        """What a model takes, one a vector."""
        return self.frames

    @property
    def nbytes(self) -> int:
        """Bytes of pixels."""
        return sum(frame.nbytes for frame in self.frames)

    def take(self, places: Sequence[int]) -> FrameBlock:
        """Some of the frames, in that order."""
        return FrameBlock(tuple(self.ids[i] for i in places), tuple(self.frames[i] for i in places), self.key)


@dataclass(frozen=True)
class TextBlock:
    """N texts and their ids. `key` says whose they are."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    key: str = ""

    @property
    def rows(self) -> Sequence[str]:
        """What a model takes, one a vector."""
        return self.texts

    @property
    def nbytes(self) -> int:
        """Bytes of text, as if it were all ASCII."""
        return sum(map(len, self.texts))

    def take(self, places: Sequence[int]) -> TextBlock:
        """Some of the texts, in that order."""
        return TextBlock(tuple(self.ids[i] for i in places), tuple(self.texts[i] for i in places), self.key)


@dataclass(frozen=True)
class EmbeddingFailure:
    """An element that has no vector: which one, the kind of error, and its words."""

    id: str
    error: str
    detail: str


@dataclass(frozen=True, eq=False)
class Embedded:
    """Vectors of a block's ids: element i is `codes[i] * scales[i]`.

    `codes` (N, D) int8, `scales` (N,) float32, powers of two; `devices` (N) where each was computed. `model` and
    `revision` (hash of the weights, version of the preprocessing) say by what. `notes` tell what went otherwise than
    asked. What has no vector is among the `failures` instead.
    """

    ids: tuple[str, ...]
    codes: NDArray[np.int8]
    scales: Floats
    devices: tuple[str, ...]
    model: str
    revision: str
    failures: tuple[EmbeddingFailure, ...] = ()
    notes: tuple[str, ...] = ()
    key: str = ""

    def vectors(self) -> Floats:
        """(N, D) float32, each of length 1 but for the rounding."""
        return self.codes.astype(np.float32) * self.scales[:, None]


def nothing(model: str, revision: str, failures: tuple[EmbeddingFailure, ...], key: str) -> Embedded:
    """What stands for a block of which no row has a vector."""
    return Embedded((), np.zeros((0, 0), np.int8), np.zeros(0, np.float32), (), model, revision, failures, key=key)


def quantised(vectors: Floats) -> tuple[NDArray[np.int8], Floats]:
    """(N, D) codes and (N,) scales: a row's scale is the least power of two that keeps its elements within GRID.

    A power of two is exact in float32, and cosines do not depend on it. The error of an element is at most half of it.
    """
    largest = np.abs(vectors).max(axis=1, initial=0.0).astype(np.float64)
    exponents = np.ceil(np.log2(np.where(largest > 0, largest, 1.0) / GRID))
    scales = np.ldexp(1.0, exponents.astype(np.int64))
    return np.rint(vectors / scales[:, None]).astype(np.int8), scales.astype(np.float32)


def joined(parts: Sequence[Embedded], key: str) -> Embedded:
    """The parts of one block as one, by id; raises ValueError where there is none."""
    if not parts:
        raise ValueError(f"block {key!r} has no part to join")
    some = [part.codes for part in parts if part.ids]
    codes = np.concatenate(some) if some else parts[0].codes
    scales = np.concatenate([part.scales for part in parts])
    ids = [name for part in parts for name in part.ids]
    devices = [device for part in parts for device in part.devices]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return Embedded(
        ids=tuple(ids[i] for i in order),
        codes=codes[order],
        scales=scales[order],
        devices=tuple(devices[i] for i in order),
        model=parts[0].model,
        revision=parts[0].revision,
        failures=tuple(sorted((f for part in parts for f in part.failures), key=lambda f: f.id)),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        key=key,
    )


@dataclass(frozen=True)
class _Head:
    value: dict[str, Any]
    arrays: list[tuple[str, tuple[int, ...]]]


_HEADS = msgspec.json.Decoder(_Head)


def _pack(value: dict[str, Any], arrays: Sequence[NDArray[Any]]) -> bytes:
    flat = [np.ascontiguousarray(array) for array in arrays]
    head = msgspec.json.encode(_Head(value, [(array.dtype.str, array.shape) for array in flat]), order="deterministic")
    return b"".join([struct.pack("<I", len(head)), head, *(array.tobytes() for array in flat)])


def _unpack(data: bytes) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    (size,) = struct.unpack_from("<I", data)
    head = _HEADS.decode(data[4 : 4 + size])
    arrays, offset = [], 4 + size
    for kind, shape in head.arrays:
        array = np.frombuffer(data, np.dtype(kind), int(np.prod(shape, dtype=np.int64)), offset).reshape(shape)
        offset += array.nbytes
        arrays.append(array)
    return head.value, arrays


class FrameBlockCoder(beam.coders.Coder):
    """A JSON head and raw pixels: never pickle."""

    def encode(self, value: FrameBlock) -> bytes:
        return _pack({"ids": value.ids, "key": value.key}, value.frames)

    def decode(self, encoded: bytes) -> FrameBlock:
        head, arrays = _unpack(encoded)
        return FrameBlock(tuple(head["ids"]), tuple(arrays), head["key"])

    def is_deterministic(self) -> bool:
        return True

    def to_type_hint(self) -> type[Any]:
        return FrameBlock


class EmbeddedCoder(beam.coders.Coder):
    """A JSON head, codes and scales."""

    def encode(self, value: Embedded) -> bytes:
        head = msgspec.to_builtins(replace(value, codes=None, scales=None))  # type: ignore[arg-type]
        return _pack(head, [value.codes, value.scales])

    def decode(self, encoded: bytes) -> Embedded:
        head, (codes, scales) = _unpack(encoded)
        return Embedded(
            ids=tuple(head["ids"]),
            codes=codes,
            scales=scales,
            devices=tuple(head["devices"]),
            model=head["model"],
            revision=head["revision"],
            failures=tuple(msgspec.convert(head["failures"], list[EmbeddingFailure])),
            notes=tuple(head["notes"]),
            key=head["key"],
        )

    def is_deterministic(self) -> bool:
        return True

    def to_type_hint(self) -> type[Any]:
        return Embedded


beam.coders.registry.register_coder(FrameBlock, FrameBlockCoder)
beam.coders.registry.register_coder(Embedded, EmbeddedCoder)
