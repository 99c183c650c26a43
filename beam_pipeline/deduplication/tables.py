"""The tables that a search for duplicates publishes, each in order of its ids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from transforms.deduplication.deciding_duplicates import DUPLICATE_ROWS, DUPLICATES, EARLIER, EDGE_ROWS
from transforms.part_writer import put_in_place, temporary_file

CLUSTER_ROWS = pa.schema(
    [
        pa.field("cluster_id", pa.string(), nullable=False),
        pa.field("documents", pa.int64(), nullable=False),
        pa.field("kept", pa.int64(), nullable=False),
        pa.field("dropped", pa.int64(), nullable=False),
    ]
)
KEPT_ROWS = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("source", pa.string())])


class RepeatedId(ValueError):
    """An id that two documents have."""


@dataclass(frozen=True)
class Tables:
    """What is published: ids that stay, documents that go, clusters of both, and the verified pairs behind them."""

    kept: pa.Table
    duplicates: pa.Table
    clusters: pa.Table
    edges: pa.Table


@dataclass(frozen=True)
class SourceCount:
    """Documents of one source (None where none is named): `input` is `kept` and `dropped` together."""

    source: str | None
    input: int
    kept: int
    dropped: int


class WriteBatches(beam.DoFn):
    """An Arrow batch -> the path of a file with its rows below `staging`, named by its content."""

    def __init__(self, staging: str, table: str) -> None:
        self._staging = staging
        self._table = table

    def process(self, element: pa.RecordBatch) -> Iterator[str]:
        staging = Path(self._staging)
        temporary = temporary_file(staging)
        with pa.ipc.new_file(str(temporary), element.schema) as writer:
            writer.write_batch(element)
        final = staging / self._table / f"{xxhash.xxh3_128_hexdigest(temporary.read_bytes())}.arrow"
        put_in_place(temporary, final)
        yield str(final)


def read_batches(staging: Path, table: str, schema: pa.Schema) -> pa.Table:
    """All rows that `WriteBatches` wrote of a table."""
    files = sorted((staging / table).glob("*.arrow"))
    return pa.concat_tables([schema.empty_table(), *(pa.ipc.open_file(str(f)).read_all() for f in files)])


def documents(staging: Path) -> pa.Table:
    """Id and source of every document that was read, by id. Raises RepeatedId."""
    parts = [KEPT_ROWS.empty_table()]
    for path in sorted((staging / "documents").glob("*.arrow")):
        parts.append(pa.ipc.open_file(pa.memory_map(str(path))).read_all().select(KEPT_ROWS.names))
    ids = pa.concat_tables(parts).cast(KEPT_ROWS)
    ids = ids.take(pc.sort_indices(ids.column("id"))).combine_chunks()
    names = ids.column("id").combine_chunks() if ids.num_rows else pa.array([], pa.string())
    again = pc.equal(names.slice(1), names.slice(0, max(len(names) - 1, 0)))
    if pc.any(again).as_py():
        name = names.slice(1).filter(again)[0].as_py()
        count = 1 + pc.sum(again).as_py()
        raise RepeatedId(
            f"id {name!r} is that of more than one document ({count - 1} ids repeat); "
            "name a column of unique ids, or leave --id out to get ids from places"
        )
    return ids


def tables(staging: Path, read: int) -> Tables:
    """The tables of a finished search of `read` documents. Raises RepeatedId."""
    duplicates, earlier = (read_batches(staging, name, DUPLICATE_ROWS).sort_by("id") for name in (DUPLICATES, EARLIER))
    order = [(name, "ascending") for name in ("cluster_id", "a", "b", "channel")]
    edges = read_batches(staging, "edges", EDGE_ROWS).sort_by(order)
    known = documents(staging)
    if known.num_rows != read:
        # batches of the same ids and texts are one file
        raise RepeatedId(
            f"of {read} documents that were read {read - known.num_rows} have the id and text of another; give each "
            "file once, name a column of unique ids, or leave --id out to get ids from places"
        )
    gone = pc.is_in(known.column("id"), duplicates.column("id").combine_chunks())
    return Tables(
        known.filter(pc.invert(gone)), duplicates, _clusters(edges, pa.concat_tables([duplicates, earlier])), edges
    )


def _clusters(edges: pa.Table, duplicates: pa.Table) -> pa.Table:
    """A row for each cluster; it holds the ends of its edges."""
    names = pa.chunked_array([*edges.column("cluster_id").chunks * 2], pa.string())
    ends = pa.chunked_array([*edges.column("a").chunks, *edges.column("b").chunks], pa.string())
    members = pa.table({"cluster_id": names, "id": ends}).group_by(["cluster_id", "id"]).aggregate([])
    sizes = members.group_by("cluster_id").aggregate([([], "count_all")]).sort_by("cluster_id")
    dropped = duplicates.group_by("cluster_id").aggregate([([], "count_all")]).sort_by("cluster_id")
    place = pc.index_in(sizes.column("cluster_id"), dropped.column("cluster_id").combine_chunks())
    gone = pc.fill_null(dropped.column("count_all").take(place), 0)
    kept = pc.subtract(sizes.column("count_all"), gone)
    return pa.table([sizes.column("cluster_id"), sizes.column("count_all"), kept, gone], schema=CLUSTER_ROWS)


def source_counts(found: Tables) -> tuple[SourceCount, ...]:
    """Documents of each source, in order of names."""
    kept, dropped = (_by_source(table) for table in (found.kept, found.duplicates))
    names = sorted({*kept, *dropped}, key=lambda name: name or "")
    return tuple(
        SourceCount(name, kept.get(name, 0) + dropped.get(name, 0), kept.get(name, 0), dropped.get(name, 0))
        for name in names
    )


def _by_source(table: pa.Table) -> dict[str | None, int]:
    counted = table.group_by("source").aggregate([([], "count_all")])
    return dict(zip(counted.column("source").to_pylist(), counted.column("count_all").to_pylist(), strict=True))
