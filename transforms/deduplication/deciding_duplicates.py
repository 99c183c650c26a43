"""From verified edges to who stays: components, a representative in each, and the documents that give way to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.deduplication.components import minimum_roots
from transforms.deduplication.document_files import DocumentFiles, Layout
from transforms.deduplication.edge_columns import EdgeColumns, edge_columns, touched
from transforms.deduplication.in_place import WithFiles, with_earlier
from transforms.deduplication.night_index import IndexView, read_arrow
from transforms.deduplication.star_components import ROUNDS
from transforms.deduplication.survivors import Edges, owners, standing_order
from transforms.deduplication.whole_components import LABELLED, WholeComponents

EXACT = "exact"
DUPLICATES, EARLIER, EDGES = "duplicates", "earlier", "edges"
TABLES = (DUPLICATES, EARLIER, EDGES)
DUPLICATE_ROWS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("duplicate_of", pa.string(), nullable=False),
        pa.field("channel", pa.string(), nullable=False),
        pa.field("similarity", pa.float64(), nullable=False),
        pa.field("cluster_id", pa.string(), nullable=False),
        pa.field("source", pa.string()),
    ]
)
"""A row for each document that goes: which one it repeats, and the verified similarity of the two.

`earlier` has those of clusters with new documents that went in earlier nights."""
EDGE_ROWS = pa.schema(
    [
        pa.field("cluster_id", pa.string(), nullable=False),
        pa.field("a", pa.string(), nullable=False),
        pa.field("b", pa.string(), nullable=False),
        pa.field("channel", pa.string(), nullable=False),
        pa.field("similarity", pa.float64(), nullable=False),
    ]
)
"""A row for each verified pair; the cluster is named by its smallest id."""
_STANDING = pa.schema({"id": pa.string(), "quality": pa.float64(), "published": pa.bool_(), "source": pa.string()})


class ClusterTooLarge(ValueError):
    """A cluster beyond the limit: more likely a threshold that is too low than so many copies of one document."""


@dataclass(frozen=True)
class DecideParams:
    """How edges become decisions.

    Up to `edges_in_memory` edges one worker finds the components by union-find; beyond it `star_rounds` rounds of
    stars do, in bounded memory. Without `stars` the graph is a tenth as large, and edges beyond that are not decided
    but come out as `unjoined`. A cluster of more than `max_cluster` documents, where given, fails the run. `channel`
    names the edges that are not exact.
    """

    edges_in_memory: int = 200_000_000
    star_rounds: int = ROUNDS
    max_cluster: int | None = None
    partitions: int = 32
    channel: str = "fuzzy"
    stars: bool = True

    def __post_init__(self) -> None:
        for name, least in (("edges_in_memory", 0), ("star_rounds", 1), ("max_cluster", 1), ("partitions", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"dedup.{name} is {value}; need at least {least}")


def choose(
    columns: EdgeColumns, files: DocumentFiles, params: DecideParams, index: IndexView | None = None
) -> dict[str, pa.RecordBatch]:
    """The new duplicates and the named edges of whole components that have new documents, by id.

    Raises ClusterTooLarge.
    """
    index = index or IndexView()
    columns = touched(columns, index.first_new_row)
    rows, ends = np.unique(np.concatenate([columns.a, columns.b]), return_inverse=True)
    half = len(columns.a)
    edges = Edges(ends[:half], ends[half:], columns.similarity, columns.exact)
    records = files.records(rows, _STANDING)
    ids, quality, published, sources = (column.combine_chunks() for column in records.columns)
    smallest = _cluster_ids(ids, edges, params.max_cluster)
    standing = np.asarray(pc.fill_null(published, False)) + 2 * index.pinned(rows)
    found = owners(standing_order(ids, quality.to_numpy(zero_copy_only=False), standing), edges)
    gone = np.flatnonzero(found.owner != np.arange(len(rows)))
    channels = pa.array([params.channel, EXACT])
    duplicates = pa.table(
        [
            ids.take(pa.array(gone)),
            ids.take(pa.array(found.owner[gone])),
            channels.take(pa.array(found.exact[gone].astype(np.int8))),
            pa.array(found.similarity[gone]),
            smallest.take(pa.array(gone)),
            sources.take(pa.array(gone)),
        ],
        schema=DUPLICATE_ROWS,
    )
    new = rows[gone] >= index.first_new_row
    named = pa.table(
        [
            smallest.take(pa.array(edges.a)),
            *_in_order(ids.take(pa.array(edges.a)), ids.take(pa.array(edges.b))),
            channels.take(pa.array(edges.exact.astype(np.int8))),
            pa.array(edges.similarity),
        ],
        schema=EDGE_ROWS,
    ).sort_by([(name, "ascending") for name in ("cluster_id", "a", "b", "channel")])
    tables = {DUPLICATES: duplicates.filter(new).sort_by("id"), EARLIER: duplicates.filter(~new).sort_by("id")}
    return {**{name: _batch(table) for name, table in tables.items()}, EDGES: _batch(named)}


def _in_order(a: pa.Array, b: pa.Array) -> tuple[pa.Array, pa.Array]:
    swapped = pc.greater(a, b)
    return pc.if_else(swapped, b, a), pc.if_else(swapped, a, b)


def _batch(table: pa.Table) -> pa.RecordBatch:
    return pa.record_batch([column.combine_chunks() for column in table.columns], schema=table.schema)


def _cluster_ids(ids: pa.Array, edges: Edges, max_cluster: int | None) -> pa.Array:
    """(N,) the smallest id of each node's component."""
    order = np.asarray(pc.sort_indices(ids), np.int64)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    roots = minimum_roots(len(order), place[edges.a], place[edges.b])
    sizes = np.bincount(roots, minlength=1)
    if max_cluster is not None and sizes.max() > max_cluster:
        name = ids[int(order[sizes.argmax()])].as_py()
        raise ClusterTooLarge(
            f"cluster {name} has {sizes.max()} documents, more than max_cluster {max_cluster}; look at its edges, "
            "raise the threshold, or raise the limit"
        )
    return ids.take(pa.array(order[roots[place]]))


class DecideDuplicates(beam.PTransform):
    """Edge batches a, b (int64 rows), similarity, exact -> Arrow batches of `duplicates`, `earlier` and `edges`, and,
    without stars, of `unjoined`: all edges, those of the index among them, where they are too many; else none.

    `files` are the paths of the documents that the rows speak of. With an index, its edges join, documents of earlier
    nights that stayed stay for good, and what concerns new documents comes out.
    """

    def __init__(
        self,
        files: beam.PCollection[str],
        params: DecideParams,
        layout: Layout | None = None,
        index: IndexView | None = None,
    ) -> None:
        super().__init__()
        self._files = files
        self._params = params
        self._layout = layout or Layout()
        self._index = index or IndexView()

    def expand(self, edges: beam.PCollection[pa.RecordBatch]) -> dict[str, beam.PCollection[pa.RecordBatch]]:
        params = self._params
        paths = with_earlier(self._files, self._index)
        if self._index.edges:
            known = (
                edges.pipeline
                | "ListEarlierEdges" >> beam.Create(self._index.edges, reshuffle=False).with_output_types(str)
                | "ReadEarlierEdges" >> beam.FlatMap(read_arrow).with_output_types(pa.RecordBatch)
            )
            edges = (edges, known) | "MergeEarlierEdges" >> beam.Flatten()
        joined = edges | "JoinComponents" >> WholeComponents(
            params.edges_in_memory, params.star_rounds, params.partitions, params.stars
        )
        chosen = (
            joined.pop(LABELLED)
            | "GroupClusters" >> beam.GroupByKey()
            | "ChooseSurvivors"
            >> beam.ParDo(_Choose(params, self._layout, self._index), beam.pvalue.AsList(paths)).with_outputs(*TABLES)
        )
        return {**{name: chosen[name] for name in TABLES}, **joined}


class _Choose(WithFiles):
    """The edges of whole components -> duplicates and named edges."""

    def __init__(self, params: DecideParams, layout: Layout, index: IndexView) -> None:
        super().__init__(layout)
        self._params = params
        self._index = index

    def process(
        self, row: tuple[int, Iterable[pa.RecordBatch]], paths: Sequence[str]
    ) -> Iterator[beam.pvalue.TaggedOutput]:
        found = choose(edge_columns(row[1]), self.files(paths), self._params, self._index)
        for tag, batch in found.items():
            if batch.num_rows:
                yield beam.pvalue.TaggedOutput(tag, batch)
