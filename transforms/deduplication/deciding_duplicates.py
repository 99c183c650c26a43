"""From verified edges to who stays: components, a representative in each, and the documents that give way to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms.deduplication.bands import Parted, parted
from transforms.deduplication.components import minimum_roots
from transforms.deduplication.document_files import DocumentFiles, Layout
from transforms.deduplication.jaccard import Rows
from transforms.deduplication.minhash import mix64
from transforms.deduplication.night_index import IndexView
from transforms.deduplication.shingles import Hashes
from transforms.deduplication.similar_documents import with_earlier
from transforms.deduplication.star_components import StarComponents
from transforms.deduplication.survivors import Edges, owners, standing_order

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


@dataclass(frozen=True)
class EdgeColumns:
    """M edges between documents' rows: `a` (M,), `b` (M,), `similarity` (M,), and whether they are `exact` (M,)."""

    a: Rows
    b: Rows
    similarity: NDArray[np.float64]
    exact: NDArray[np.bool_]

    def parted(self, hashes: Hashes, partitions: int) -> Iterator[Parted]:
        """The edges by partition of a hash (M,) each."""
        yield from parted(vars(self), hashes, partitions)


class ClusterTooLarge(ValueError):
    """A cluster beyond the limit: more likely a threshold that is too low than so many copies of one document."""


@dataclass(frozen=True)
class DecideParams:
    """How edges become decisions.

    Up to `edges_in_memory` edges one worker finds the components by union-find; beyond it `star_rounds` rounds of
    stars do, in bounded memory. A cluster of more than `max_cluster` documents, where given, fails the run. `channel`
    names the edges that are not exact.
    """

    edges_in_memory: int = 200_000_000
    star_rounds: int = 8
    max_cluster: int | None = None
    partitions: int = 32
    channel: str = "fuzzy"

    def __post_init__(self) -> None:
        for name, least in (("edges_in_memory", 0), ("star_rounds", 1), ("max_cluster", 1), ("partitions", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"dedup.{name} is {value}; need at least {least}")


def edge_columns(batches: Iterable[pa.RecordBatch]) -> EdgeColumns:
    """The columns a, b (int64), similarity and exact of edge batches, one after another."""
    held = list(batches)
    kinds = {"a": np.int64, "b": np.int64, "similarity": np.float64, "exact": np.bool_}
    columns = (
        np.concatenate([np.zeros(0, kind), *(b.column(name).to_numpy(zero_copy_only=False) for b in held)])
        for name, kind in kinds.items()
    )
    return EdgeColumns(*columns)


def touched(columns: EdgeColumns, first_new_row: int) -> EdgeColumns:
    """The edges of components that have a row from `first_new_row` on."""
    if not first_new_row:
        return columns
    rows, ends = np.unique(np.concatenate([columns.a, columns.b]), return_inverse=True)
    half = len(columns.a)
    roots = minimum_roots(len(rows), ends[:half], ends[half:])
    new = np.zeros(len(rows), np.bool_)
    new[roots[rows >= first_new_row]] = True
    own = new[roots[ends[:half]]]
    return EdgeColumns(*(values[own] for values in vars(columns).values()))


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
    ids = files.ids(rows)
    smallest = _cluster_ids(ids, edges, params.max_cluster)
    quality = files.column("quality", pa.float64(), rows).to_numpy(zero_copy_only=False)
    published = np.asarray(pc.fill_null(files.column("published", pa.bool_(), rows), False)) + 2 * index.pinned(rows)
    found = owners(standing_order(ids, quality, published), edges)
    gone = np.flatnonzero(found.owner != np.arange(len(rows)))
    channels = pa.array([params.channel, EXACT])
    duplicates = pa.table(
        [
            ids.take(pa.array(gone)),
            ids.take(pa.array(found.owner[gone])),
            channels.take(pa.array(found.exact[gone].astype(np.int8))),
            pa.array(found.similarity[gone]),
            smallest.take(pa.array(gone)),
            files.column("source", pa.string(), rows).take(pa.array(gone)),
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
    """Edge batches a, b (int64 rows), similarity, exact -> Arrow batches of `duplicates`, `earlier` and `edges`.

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
            earlier = self._index.earlier_edges()
            known = edges.pipeline | "ReadEarlierEdges" >> beam.Create(earlier, reshuffle=False).with_output_types(
                pa.RecordBatch
            )
            edges = (edges, known) | "MergeEarlierEdges" >> beam.Flatten()
        count = edges | "CountEdges" >> beam.Map(_rows_of) | "SumEdges" >> beam.CombineGlobally(sum)
        total = beam.pvalue.AsSingleton(count)
        few = (
            edges
            | "KeepFew" >> beam.FlatMap(_to_one_place, total, params.edges_in_memory).with_output_types(Parted)
            | "GroupFew" >> beam.GroupByKey()
            | "JoinFew" >> beam.FlatMap(_join, params.partitions).with_output_types(Parted)
        )
        many = edges | "KeepMany" >> beam.FlatMap(_unless_few, total, params.edges_in_memory).with_output_types(
            pa.RecordBatch
        )
        roots = many | "FindRoots" >> StarComponents(params.star_rounds, params.partitions)
        labelled = (
            {
                "edges": many | "SpreadMany" >> beam.FlatMap(_by_end, params.partitions).with_output_types(Parted),
                "roots": roots | "SpreadRoots" >> beam.FlatMap(_by_end, params.partitions).with_output_types(Parted),
            }
            | "MeetRoots" >> beam.CoGroupByKey()
            | "LabelMany" >> beam.FlatMap(_label, params.partitions).with_output_types(Parted)
        )
        chosen = (
            (few, labelled)
            | "MergeLabelled" >> beam.Flatten()
            | "GroupClusters" >> beam.GroupByKey()
            | "ChooseSurvivors"
            >> beam.ParDo(_Choose(params, self._layout, self._index), beam.pvalue.AsList(paths)).with_outputs(*TABLES)
        )
        return {name: chosen[name] for name in TABLES}


class _Choose(beam.DoFn):
    """The edges of whole components -> duplicates and named edges."""

    def __init__(self, params: DecideParams, layout: Layout, index: IndexView) -> None:
        self._params = params
        self._layout = layout
        self._index = index

    def process(
        self, row: tuple[int, Iterable[pa.RecordBatch]], paths: Sequence[str]
    ) -> Iterator[beam.pvalue.TaggedOutput]:
        found = choose(edge_columns(row[1]), DocumentFiles(paths, self._layout), self._params, self._index)
        for tag, batch in found.items():
            if batch.num_rows:
                yield beam.pvalue.TaggedOutput(tag, batch)


def _rows_of(batch: pa.RecordBatch) -> int:
    return int(batch.num_rows)


def _to_one_place(batch: pa.RecordBatch, total: int, limit: int) -> Iterator[Parted]:
    if total <= limit:
        yield 0, batch


def _unless_few(batch: pa.RecordBatch, total: int, limit: int) -> Iterator[pa.RecordBatch]:
    if total > limit:
        yield batch


def _join(row: tuple[int, Iterable[pa.RecordBatch]], partitions: int) -> Iterator[Parted]:
    """All edges, parted by the root of their component."""
    columns = edge_columns(row[1])
    rows, ends = np.unique(np.concatenate([columns.a, columns.b]), return_inverse=True)
    half = len(columns.a)
    roots = minimum_roots(len(rows), ends[:half], ends[half:])
    yield from columns.parted(mix64(roots[ends[:half]].astype(np.uint64)), partitions)


def _by_end(batch: pa.RecordBatch, partitions: int) -> Iterator[Parted]:
    columns = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in batch.schema.names}
    yield from parted(columns, mix64(columns["a"].view(np.uint64)), partitions)


def _label(row: tuple[int, dict[str, Iterable[pa.RecordBatch]]], partitions: int) -> Iterator[Parted]:
    """Edges and the roots of their first ends -> edges parted by root; a node without one is a root."""
    columns = edge_columns(row[1]["edges"])
    none = np.zeros(0, np.int64)
    nodes, roots = (
        np.concatenate([none, *(batch.column(end).to_numpy() for batch in row[1]["roots"])]) for end in ("a", "b")
    )
    order = np.argsort(nodes)
    nodes, roots = nodes[order], roots[order]
    own = columns.a
    place = np.minimum(np.searchsorted(nodes, own), max(len(nodes) - 1, 0))
    root = np.where(nodes[place] == own, roots[place], own) if len(nodes) else own
    yield from columns.parted(mix64(root.view(np.uint64)), partitions)
