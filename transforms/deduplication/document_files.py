"""Documents as deduplication holds them: Arrow files read in place, so that a worker loads what it compares.

A row of all files is one int64, `file << 32 | row in it`, with files in the order of their sorted paths. It says where
a document lies and nothing else: what is chosen by order is chosen by `rank`, which comes from the id.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from transforms.deduplication.byte_columns import as_shingles, bounds_at, row_column, rows_of, shingles_at
from transforms.deduplication.jaccard import Rows
from transforms.deduplication.shingles import Hashes, Shingles, blocks, joined
from transforms.part_writer import put_in_place, temporary_file

DOCUMENTS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("content", pa.binary(16)),
        pa.field("shingles", pa.large_binary(), nullable=False),
        pa.field("source", pa.string()),
        pa.field("quality", pa.float64()),
        pa.field("published", pa.bool_()),
    ]
)
"""`content` is a hash of what makes two documents exactly the same, null where nothing does; `shingles` are sorted
unique uint64, little-endian, empty where a document has nothing to compare."""

NIGHT = b"night"
"""Key of a file's metadata: in which night its documents came, 0 where absent."""
MOST_NIGHTS = 1 << 16
PLACE, FIRST_ROW = b"place", b"first_row"
"""Keys of a batch's metadata: the file that it was read from, and the number of its first row there."""

_FILE_BITS = 32
_RANK_BITS = 48
_OPEN_FILES = 256


@dataclass(frozen=True)
class Layout:
    """Names of the columns that hold id, content and shingles. `every_content`: a row without content is an error."""

    id: str = "id"
    content: str = "content"
    shingles: str = "shingles"
    every_content: bool = False


@dataclass(frozen=True)
class Batch:
    """N documents of one file: `rows` (N,), `ranks` (N,) and shingles."""

    rows: Rows
    ranks: Hashes
    shingles: Shingles


def id_hashes(ids: pa.Array) -> Hashes:
    """(N,) xxh3-64 of ids."""
    return np.array([xxhash.xxh3_64_intdigest(name or b"") for name in bytes_of(ids)], np.uint64)


def ranks_of(ids: pa.Array, night: int = 0) -> Hashes:
    """(N,) night, then 48 bits of a hash of the id: an order that no partitioning changes, earlier nights first."""
    return np.uint64(night << _RANK_BITS) | (id_hashes(ids) >> np.uint64(64 - _RANK_BITS))


def content_hashes(bodies: pa.Array) -> pa.Array:
    """(N,) xxh3-128 of strings or binaries, null where those are null."""
    hashes = [None if body is None else xxhash.xxh3_128_digest(body) for body in bytes_of(bodies)]
    return pa.array(hashes, pa.binary(16))


def bytes_of(bodies: pa.Array) -> list[bytes | None]:
    """Strings or binaries as Python bytes, null as None."""
    if pa.types.is_fixed_size_binary(bodies.type):
        fixed: list[bytes | None] = bodies.to_pylist()
        return fixed
    large = pa.types.is_large_string(bodies.type) or pa.types.is_large_binary(bodies.type)
    found: list[bytes | None] = bodies.cast(pa.large_binary() if large else pa.binary()).to_pylist()
    return found


def name_of(documents: pa.RecordBatch) -> str:
    """A name for a file of documents, of their ids and contents: a retry writes the same file again, and batches that
    differ in an id or a content never share one.
    """
    hashed = xxhash.xxh3_128(documents.num_rows.to_bytes(8, "little"))
    for name in ("id", "content"):
        column = documents.column(name)
        hashed.update(np.asarray(pc.fill_null(pc.binary_length(column), 0)).astype("<i8").tobytes())
        hashed.update(b"".join(part or b"" for part in bytes_of(column)))
    return hashed.hexdigest()


def write_documents(
    staging: Path, name: str, batches: Iterable[pa.RecordBatch], night: int = 0, schema: pa.Schema = DOCUMENTS
) -> str:
    """Write batches of a schema as one file of that name below `staging`, in place at once; returns its path."""
    temporary = temporary_file(staging)
    metadata = {**(schema.metadata or {}), NIGHT: str(night).encode()}
    with pa.ipc.new_file(str(temporary), schema.with_metadata(metadata)) as writer:
        for batch in batches:
            writer.write_batch(batch)
    final = staging / "documents" / f"{name}.arrow"
    put_in_place(temporary, final)
    return str(final)


class DocumentFiles:
    """All documents of some files; each is mapped when a row of it is asked for, and at most 256 at a time.

    What is read of a mapping counts as the worker's memory until it is told that it can do without.
    """

    def __init__(self, paths: Sequence[str], layout: Layout) -> None:
        self._paths = sorted(paths)
        self._places = {path: index for index, path in enumerate(self._paths)}
        self._layout = layout
        self._open = lru_cache(_OPEN_FILES)(_mapped)

    def are(self, paths: Sequence[str]) -> bool:
        """Whether these are the same files."""
        return len(paths) == len(self._paths) and sorted(paths) == self._paths

    def contents(self, path: str) -> Iterator[tuple[Rows, pa.Array, pa.Array, int]]:
        """(rows, ids, contents, night) of a file's documents that have a content, a batch at a time.

        Raises ValueError where every document needs one and one has none.
        """
        for start, batch in self._batches(path):
            content = batch.column(self._layout.content)
            if not pa.types.is_fixed_size_binary(content.type):
                bare = pc.fill_null(pc.equal(content, ""), True)
                if self._layout.every_content and bare.true_count:
                    name = batch.column(self._layout.id).filter(bare)[0].as_py()
                    raise ValueError(f"episode {name} has no content_id; fill it by content_id() before deduplication")
                content = content_hashes(content)
            held = content.is_valid()
            rows = start + np.flatnonzero(np.asarray(held))
            yield rows, batch.column(self._layout.id).filter(held), content.filter(held), _night(batch)

    def held(self, path: str) -> Iterator[tuple[Rows, pa.RecordBatch]]:
        """A file's batches as they are, each with its rows."""
        for start, batch in self._batches(path):
            yield start + np.arange(batch.num_rows), batch

    def batches(self, path: str, left_out: Rows, block_bytes: int) -> Iterator[Batch]:
        """A file's documents with shingles, but for the rows `left_out` (sorted), in blocks of about `block_bytes`."""
        for start, batch in self._batches(path):
            column = batch.column(self._layout.shingles)
            sizes = np.asarray(pc.binary_length(column).cast(pa.int64()))
            rows = start + np.arange(len(sizes))
            own = np.flatnonzero((sizes > 0) & ~in_sorted(rows, left_out))
            taken = pa.array(own)
            ranks = ranks_of(batch.column(self._layout.id).take(taken), _night(batch))
            found = as_shingles(column.take(taken))
            for low, high in blocks(found.offsets, max(block_bytes // 8, 1)):
                offsets = found.offsets[low : high + 1]
                part = Shingles(found.hashes[offsets[0] : offsets[-1]], offsets - offsets[0])
                yield Batch(rows[own[low:high]], ranks[low:high], part)

    def shingles(self, rows: Rows) -> Shingles:
        """The shingles of some rows, sorted and unique, in that order."""
        return joined([shingles_at(b.column(self._layout.shingles), own) for b, own in self._places_of(rows)])

    def sizes(self, rows: Rows) -> Rows:
        """(N,) bytes of shingles of some rows, sorted and unique."""
        found = [bounds_at(b.column(self._layout.shingles), own)[1] for b, own in self._places_of(rows)]
        return np.concatenate([np.zeros(0, np.int64), *found])

    def ids(self, rows: Rows) -> pa.Array:
        """(N,) ids of some rows, sorted and unique, in that order."""
        return self.column(self._layout.id, pa.string(), rows)

    def every_id(self) -> tuple[pa.Array, Rows]:
        """The ids of all documents and their rows."""
        ids, rows = [pa.array([], pa.string())], [np.zeros(0, np.int64)]
        for path in self._paths:
            for start, batch in self._batches(path):
                ids.append(batch.column(self._layout.id).cast(pa.string()))
                rows.append(start + np.arange(batch.num_rows))
        return pa.concat_arrays(ids), np.concatenate(rows)

    def records(self, rows: Rows, schema: pa.Schema | None = None) -> pa.Table:
        """The columns of a schema, or all columns, of some rows, sorted and unique, in that order."""
        if schema is None:
            return pa.Table.from_batches(list(self._taken(None, rows)), self._open(self._paths[0]).batches[0].schema)
        found = [pa.Table.from_batches([batch]).cast(schema) for batch in self._taken(schema.names, rows)]
        return pa.concat_tables([schema.empty_table(), *found]).combine_chunks()

    def vectors(self, rows: Rows) -> pa.Array:
        """(N,) vectors, each of D bytes, of some rows, of which there are some, sorted and unique, in that order."""
        return row_column(np.concatenate([rows_of(b.column("vector"))[own] for b, own in self._places_of(rows)]))

    def column(self, name: str, kind: pa.DataType, rows: Rows) -> pa.Array:
        """(N,) values of a column of some rows, sorted and unique, in that order."""
        return pa.concat_arrays([pa.array([], kind), *(column.cast(kind) for column in self._columns(name, rows))])

    def _batches(self, path: str) -> Iterator[tuple[int, pa.RecordBatch]]:
        start = self._places[path] << _FILE_BITS
        for batch in _mapped(path).batches:
            yield start, batch
            start += batch.num_rows

    def _columns(self, name: str, rows: Rows) -> Iterator[pa.Array]:
        for batch in self._taken([name], rows):
            yield batch.column(0)

    def _taken(self, names: list[str] | None, rows: Rows) -> Iterator[pa.RecordBatch]:
        for batch, places in self._places_of(rows):
            yield (batch if names is None else batch.select(names)).take(pa.array(places))

    def _places_of(self, rows: Rows) -> Iterator[tuple[pa.RecordBatch, Rows]]:
        """The batches that hold some rows (sorted, unique), and which of each."""
        bounds = np.searchsorted(rows, np.arange(len(self._paths) + 1) << _FILE_BITS)
        for index in np.flatnonzero(np.diff(bounds)):
            own = rows[bounds[index] : bounds[index + 1]] & ((1 << _FILE_BITS) - 1)
            start = 0
            mapped = self._open(self._paths[index])
            for batch in mapped.batches:
                low, high = np.searchsorted(own, [start, start + batch.num_rows])
                if high > low:
                    yield batch, own[low:high] - start
                start += batch.num_rows
            mapped.memory.madvise(mmap.MADV_DONTNEED)


def _night(batch: pa.RecordBatch) -> int:
    return int((batch.schema.metadata or {}).get(NIGHT, b"0"))


@dataclass(frozen=True)
class _Mapped:
    """A file's batches and the memory that they lie in."""

    memory: mmap.mmap
    batches: list[pa.RecordBatch]


def _mapped(path: str) -> _Mapped:
    with Path(path).open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    reader = pa.ipc.open_file(pa.py_buffer(memory))
    return _Mapped(memory, [reader.get_batch(index) for index in range(reader.num_record_batches)])


def in_sorted(values: NDArray[np.int64], among: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each value is among sorted ones."""
    if not len(among):
        return np.zeros(len(values), np.bool_)
    return np.asarray(among[np.minimum(np.searchsorted(among, values), len(among) - 1)] == values)
