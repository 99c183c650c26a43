"""Fingerprints as they are stored: Arrow files read in place, so that a worker loads what it compares and no more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms.evidence import DuplicateEdge, Fingerprint, FrameSample
from transforms.handlers.minhash import DocumentBlock, pack

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Contents:
    """Which fingerprints are the first of their content: `first` (N,) row of the smallest id with the same content."""

    first: Rows

    def distinct(self) -> NDArray[np.bool_]:
        """Whether each row (N,) is the one that stands for its content."""
        return self.first == np.arange(len(self.first))


class ShingleFiles:
    """All fingerprints of some files as one table of N rows, in the order of the files; nothing is copied."""

    def __init__(self, paths: Sequence[str]) -> None:
        tables = [pa.ipc.open_file(pa.memory_map(path)).read_all() for path in sorted(paths)]
        self._starts = np.cumsum([0, *(table.num_rows for table in tables)])
        self._paths = {path: index for index, path in enumerate(sorted(paths))}
        self._table = pa.concat_tables(tables) if tables else None
        self._ids = self._table.column("episode_id").combine_chunks() if self._table else pa.array([], pa.string())

    def are(self, paths: Sequence[str]) -> bool:
        """Whether these are the same files."""
        return sorted(paths) == list(self._paths)

    @cached_property
    def contents(self) -> Contents:
        """Equal contents under their smallest id; raises ValueError where an episode has no content id."""
        if self._table is None or not self._table.num_rows:
            return Contents(np.zeros(0, np.int64))
        bare = pc.equal(self._table.column("content_id"), "").combine_chunks()
        if bare.true_count:
            name = self._ids.filter(bare)[0].as_py()
            raise ValueError(f"episode {name} has no content_id; fill it by content_id() before deduplication")
        keys = self._table.select(["content_id", "episode_id"])
        order = np.asarray(pc.sort_indices(keys, [("content_id", "ascending"), ("episode_id", "ascending")]), np.int64)
        ordered = keys.column("content_id").take(pa.array(order)).combine_chunks()
        new = np.ones(len(order), np.bool_)
        new[1:] = np.asarray(pc.not_equal(ordered.slice(1), ordered.slice(0, len(ordered) - 1)))
        first = np.empty(len(order), np.int64)
        first[order] = order[np.flatnonzero(new)[np.cumsum(new) - 1]]
        return Contents(first)

    def content_edges(self) -> Iterator[DuplicateEdge]:
        """A star from the smallest id of each content: equality is transitive, so it says all."""
        first = self.contents.first
        for row in np.flatnonzero(first != np.arange(len(first))).tolist():
            yield DuplicateEdge(self._ids[int(first[row])].as_py(), self._ids[row].as_py(), "exact", 1.0)

    def blocks(self, path: str, block_bytes: int) -> Iterator[DocumentBlock]:
        """The moving, distinct contents of one file, in blocks of about `block_bytes` of shingles."""
        if self._table is None:
            return
        index = self._paths[path]
        start, stop = int(self._starts[index]), int(self._starts[index + 1])
        sizes = np.asarray(pc.binary_length(self._table.column("trajectory_shingles").slice(start, stop - start)))
        rows = np.flatnonzero(self.contents.distinct()[start:stop] & (sizes > 0))
        filled = np.cumsum(sizes[rows])
        for part in range(int(filled[-1] - 1) // block_bytes + 1 if len(rows) else 0):
            own = rows[(filled - 1) // block_bytes == part] + start
            if len(own):
                yield self._block(own)

    def _block(self, rows: Rows) -> DocumentBlock:
        assert self._table is not None
        own = self._table.select(["episode_id", "trajectory_shingles"]).take(pa.array(rows))
        return pack(zip(*(column.to_pylist() for column in own.columns), strict=True))

    def fingerprints(self, ids: Sequence[str]) -> dict[str, Fingerprint]:
        """The fingerprints of some episodes by id."""
        if self._table is None or not ids:
            return {}
        found = self._table.filter(pc.is_in(self._ids, pa.array(ids, pa.string())))
        return {row["episode_id"]: _fingerprint(row) for row in found.to_pylist()}


def _fingerprint(row: dict[str, Any]) -> Fingerprint:
    samples = tuple(FrameSample(**sample) for sample in row.pop("frames") or ())
    return Fingerprint(**row, frames=samples)
