"""Centroids of vectors: k-means whose bytes depend on the vectors alone, not on their order, parts, threads or device.

The sample is chosen by content (the smallest hashes of distinct rows), assignment is exact on int8 rows, and the new
centroids come from sums of integers; the few float operations are on single values and round as IEEE 754 says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isqrt
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from transforms.deduplication.quantised import Rows, quantise, squared_norms
from transforms.deduplication.vector_products import Arrays, nearest
from transforms.part_writer import put_in_place, temporary_file

_AT_ONCE = 8192


@dataclass(frozen=True)
class Centroids:
    """K centroids as int8 rows (K, D). Kept as a file, they give later vectors the same clusters."""

    rows: Rows

    @cached_property
    def weights(self) -> NDArray[np.float32]:
        """(K,) reciprocals of their lengths."""
        return (1 / np.sqrt(squared_norms(self.rows).astype(np.float64))).astype(np.float32)

    @property
    def revision(self) -> str:
        """xxh3-128 of shape and values: equal centroids have equal revisions."""
        shape = ",".join(map(str, self.rows.shape)).encode()
        return xxhash.xxh3_128_hexdigest(shape + b":" + self.rows.tobytes())

    def to_bytes(self) -> bytes:
        """As one Arrow IPC file."""
        width = self.rows.shape[1]
        column = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(width), len(self.rows), [None, pa.py_buffer(np.ascontiguousarray(self.rows))]
        )
        schema = pa.schema([pa.field("centroid", column.type, nullable=False)], {"revision": self.revision})
        out = pa.BufferOutputStream()
        with pa.ipc.new_file(out, schema) as writer:
            writer.write_batch(pa.record_batch([column], schema=schema))
        return bytes(out.getvalue())

    @staticmethod
    def from_bytes(data: bytes, place: str = "centroids") -> Centroids:
        """Back from `to_bytes`; raises ValueError where the bytes are none or were changed, naming `place`."""
        try:
            table = pa.ipc.open_file(pa.py_buffer(data)).read_all()
            column = table.column("centroid").combine_chunks()
            told = (table.schema.metadata or {})[b"revision"].decode()
        except (pa.ArrowInvalid, KeyError) as error:
            raise ValueError(f"{place} holds no centroids ({error}); give the file that `save` wrote") from error
        rows = np.frombuffer(column.buffers()[1], np.int8).reshape(-1, column.type.byte_width)
        found = Centroids(rows[column.offset : column.offset + len(column)])
        if found.revision != told:
            raise ValueError(f"{place} has revision {found.revision} and says {told}: it was changed; restore the file")
        return found

    def save(self, path: Path) -> None:
        """Write them as a file, in place at once."""
        temporary = temporary_file(path.parent)
        temporary.write_bytes(self.to_bytes())
        put_in_place(temporary, path)

    @staticmethod
    def load(path: Path) -> Centroids:
        """Read a file that `save` wrote; raises ValueError as `from_bytes` does."""
        return Centroids.from_bytes(path.read_bytes(), str(path))


@dataclass(frozen=True)
class Sample:
    """How many vectors there are, and those distinct rows (S, D) with the smallest hashes (S,), in their order.

    `widths` are the lengths of vectors that were met, each with a place where.
    """

    count: int
    hashes: NDArray[np.uint64]
    rows: Rows
    widths: tuple[tuple[int, str], ...] = ()


NO_SAMPLE = Sample(0, np.zeros(0, np.uint64), np.zeros((0, 0), np.int8))


def merged(samples: Sequence[Sample], most: int) -> Sample:
    """The sample of all that some samples were drawn from, of at most `most` rows.

    Raises ValueError where vectors have different lengths, naming a place of each.
    """
    held = [sample for sample in samples if sample.count]
    if not held:
        return NO_SAMPLE
    widths: dict[int, str] = {}
    for width, place in (known for sample in held for known in sample.widths):
        widths[width] = min(place, widths.get(width, place))
    if len(widths) > 1:
        told = "; ".join(f"{width} in {place}" for width, place in sorted(widths.items())[:4])
        raise ValueError(f"vectors have different lengths: {told}. Deduplicate vectors of one model at a time")
    hashes = np.concatenate([sample.hashes for sample in held])
    distinct, first = np.unique(hashes, return_index=True)
    chosen = first[:most]
    rows = np.concatenate([sample.rows for sample in held])[chosen]
    return Sample(sum(sample.count for sample in held), distinct[:most], rows, tuple(sorted(widths.items())))


def cluster_count(vectors: int) -> int:
    """How many clusters suit N vectors: sqrt(N) / 3, of at least 1024 vectors each on average.

    Fewer and larger clusters than for search: pairs are sifted cheaply, and fewer borders part fewer of them.
    """
    return max(1, min(isqrt(vectors) // 3, vectors // 1024))


def train(sample: Sample, clusters: int, iterations: int, arrays: Arrays) -> Centroids:
    """Spherical k-means (Lloyd's rounds) on a sample, from its first rows; at most as many clusters as it has rows."""
    rows = sample.rows
    centroids = Centroids(rows[:clusters])
    for _ in range(iterations if len(centroids.rows) > 1 else 0):
        own = np.concatenate(
            [
                nearest(rows[start : start + _AT_ONCE], centroids.rows, centroids.weights, 1, arrays)[:, 0]
                for start in range(0, len(rows), _AT_ONCE)
            ]
        )
        order = np.argsort(own, kind="stable")
        filled, starts = np.unique(own[order], return_index=True)
        sums = np.zeros(centroids.rows.shape, np.int64)
        bounds = [*starts.tolist(), len(rows)]
        for cluster, low, high in zip(filled.tolist(), bounds[:-1], bounds[1:], strict=True):
            sums[cluster] = rows[order[low:high]].sum(axis=0, dtype=np.int64)
        moved = sums.any(axis=1)  # an empty cluster stays where it is
        after = centroids.rows.copy()
        after[moved] = quantise(sums[moved].astype(np.float64))
        if np.array_equal(after, centroids.rows):
            break
        centroids = Centroids(after)
    return centroids
