"""Deterministic coder for what flows: a JSON head and Arrow IPC bodies, never pickle."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeVar

import apache_beam as beam
import msgspec
import pyarrow as pa

from transforms.episode import Episode, Recording, RecordingRef
from transforms.evidence import Decision, DuplicateCluster, DuplicateEdge, Evidence, Fingerprint, LedgerRow
from transforms.stage import DeadLetter

T = TypeVar("T")
_EMPTY = pa.RecordBatch.from_pylist([], schema=pa.schema([]))


def to_ipc(batch: pa.RecordBatch) -> bytes:
    """A batch as one Arrow IPC stream; a slice is written as its own rows only."""
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(out.getvalue())


def from_ipc(data: bytes | memoryview) -> pa.RecordBatch:
    """The one batch of an Arrow IPC stream."""
    return pa.ipc.open_stream(pa.py_buffer(data)).read_next_batch()


def _skip_batches(value: Any) -> Any:
    """Encode hook: Arrow batches travel in the body, so the head holds null for them."""
    if isinstance(value, pa.RecordBatch):
        return None
    raise TypeError(f"no JSON form for {type(value).__name__}")


def _no_batch(kind: type, value: Any) -> Any:
    if kind is pa.RecordBatch:
        return _EMPTY
    raise TypeError(f"no JSON form for {kind.__name__}")


@cache
def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(kind, dec_hook=_no_batch)


def to_json(value: Any) -> bytes:
    """A dataclass as JSON with sorted keys: equal values give equal bytes."""
    return msgspec.json.encode(value, enc_hook=_skip_batches, order="deterministic")


def from_json(data: bytes | str, kind: type[T]) -> T:
    """The dataclass back from `to_json`; raises msgspec.ValidationError with the path of a wrong value."""
    return _decoder(kind).decode(data)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Bodies:
    names: tuple[str, ...]
    batches: tuple[pa.RecordBatch, ...]


def _bodies(value: Any) -> _Bodies:
    if isinstance(value, Recording):
        names = tuple(sorted(value.streams))
        return _Bodies(names, tuple(value.streams[n] for n in names))
    if isinstance(value, Episode):
        return _Bodies(("steps",), (value.steps,))
    return _Bodies((), ())


def encode(value: Any) -> bytes:
    """Head length, head, then each Arrow body behind its length."""
    bodies = _bodies(value)
    head = to_json([list(bodies.names), value])
    parts = [struct.pack("<I", len(head)), head]
    for batch in bodies.batches:
        body = to_ipc(batch)
        parts += [struct.pack("<Q", len(body)), body]
    return b"".join(parts)


def decode(data: bytes, kind: type[T]) -> T:
    """The value that `encode` wrote."""
    view = memoryview(data)
    (size,) = struct.unpack_from("<I", view)
    raw_names, head = _head_decoder().decode(view[4 : 4 + size])
    value: Any = from_json(bytes(head), kind)
    offset = 4 + size
    batches: dict[str, pa.RecordBatch] = {}
    for name in raw_names:
        (length,) = struct.unpack_from("<Q", view, offset)
        batches[name] = from_ipc(view[offset + 8 : offset + 8 + length])
        offset += 8 + length
    if isinstance(value, Recording):
        return replace(value, streams=batches)  # type: ignore[return-value]
    if isinstance(value, Episode):
        return replace(value, steps=batches["steps"])  # type: ignore[return-value]
    return value


@cache
def _head_decoder() -> msgspec.json.Decoder[tuple[list[str], msgspec.Raw]]:
    return msgspec.json.Decoder(tuple[list[str], msgspec.Raw])


class ArrowCoder(beam.coders.Coder):
    """Deterministic coder of one dataclass: subclass it, set `kind` and register it beside the dataclass."""

    kind: type[Any]

    def encode(self, value: Any) -> bytes:
        return encode(value)

    def decode(self, encoded: bytes) -> Any:
        return decode(encoded, self.kind)

    def is_deterministic(self) -> bool:
        return True

    def to_type_hint(self) -> type[Any]:
        return self.kind


class BatchCoder(beam.coders.Coder):
    """Deterministic coder of Arrow batches: one IPC stream each."""

    def encode(self, value: pa.RecordBatch) -> bytes:
        return to_ipc(value)

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        return from_ipc(encoded)

    def is_deterministic(self) -> bool:
        return True

    def to_type_hint(self) -> type[pa.RecordBatch]:
        return pa.RecordBatch


class RecordingRefCoder(ArrowCoder):
    """Coder of planned inputs."""

    kind = RecordingRef


class RecordingCoder(ArrowCoder):
    """Coder of uncut recordings."""

    kind = Recording


class EpisodeCoder(ArrowCoder):
    """Coder of cut episodes."""

    kind = Episode


class DeadLetterCoder(ArrowCoder):
    """Coder of inputs that left the graph early."""

    kind = DeadLetter


class EvidenceCoder(ArrowCoder):
    """Coder of what was measured of an episode."""

    kind = Evidence


class FingerprintCoder(ArrowCoder):
    """Coder of what deduplication sees."""

    kind = Fingerprint


class DuplicateEdgeCoder(ArrowCoder):
    """Coder of verified pairs."""

    kind = DuplicateEdge


class DuplicateClusterCoder(ArrowCoder):
    """Coder of components of verified pairs."""

    kind = DuplicateCluster


class DecisionCoder(ArrowCoder):
    """Coder of outcomes."""

    kind = Decision


class LedgerRowCoder(ArrowCoder):
    """Coder of the ledger."""

    kind = LedgerRow


for _coder in (
    RecordingRefCoder,
    RecordingCoder,
    EpisodeCoder,
    DeadLetterCoder,
    EvidenceCoder,
    FingerprintCoder,
    DuplicateEdgeCoder,
    DuplicateClusterCoder,
    DecisionCoder,
    LedgerRowCoder,
):
    beam.coders.registry.register_coder(_coder.kind, _coder)
beam.coders.registry.register_coder(pa.RecordBatch, BatchCoder)
