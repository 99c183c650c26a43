"""Edges dealt out so that a connected component is in one partition, however many edges there are."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.typehints.native_type_compatibility import convert_to_beam_type

from transforms.deduplication.bands import Parted, parted
from transforms.deduplication.components import minimum_roots
from transforms.deduplication.edge_columns import EdgeColumns, edge_columns
from transforms.deduplication.minhash import mix64
from transforms.deduplication.star_components import StarComponents

LABELLED, UNJOINED = "labelled", "unjoined"
_EDGES_OF_A_PARTITION = 50_000
"""Fewer are not dealt out further: each partition looks into nearly all files of documents."""


class WholeComponents(beam.PTransform):
    """Edge batches -> (partition, edge batch), all edges of a component in one partition, as `LABELLED`.

    Up to `edges_in_memory` edges one worker joins them by union-find; beyond it `star_rounds` rounds of stars do, in
    bounded memory. Which of the two it is, the count of the edges decides while the job runs. Without `stars` the graph
    is a tenth as large, and edges beyond `edges_in_memory` come out as they are, as `UNJOINED`.
    """

    def __init__(self, edges_in_memory: int, star_rounds: int, partitions: int, stars: bool = True) -> None:
        super().__init__()
        self._edges_in_memory = edges_in_memory
        self._star_rounds = star_rounds
        self._partitions = partitions
        self._stars = stars

    def expand(self, edges: beam.PCollection[pa.RecordBatch]) -> dict[str, beam.PCollection]:
        if not self._stars:
            one = edges | "ToOnePlace" >> beam.Map(lambda batch: (0, batch)).with_output_types(Parted)
            return self._joined(one)
        count = edges | "CountEdges" >> beam.Map(_rows_of) | "SumEdges" >> beam.CombineGlobally(sum)
        total = beam.pvalue.AsSingleton(count)
        few = edges | "KeepFew" >> beam.FlatMap(_to_one_place, total, self._edges_in_memory).with_output_types(Parted)
        many = edges | "KeepMany" >> beam.FlatMap(_unless_few, total, self._edges_in_memory).with_output_types(
            pa.RecordBatch
        )
        roots = many | "FindRoots" >> StarComponents(self._star_rounds, self._partitions)
        labelled = (
            {
                "edges": many | "SpreadMany" >> beam.FlatMap(_by_end, self._partitions).with_output_types(Parted),
                "roots": roots | "SpreadRoots" >> beam.FlatMap(_by_end, self._partitions).with_output_types(Parted),
            }
            | "MeetRoots" >> beam.CoGroupByKey()
            | "LabelMany" >> beam.FlatMap(_label, self._partitions).with_output_types(Parted)
        )
        return {LABELLED: (self._joined(few)[LABELLED], labelled) | "MergeLabelled" >> beam.Flatten()}

    def _joined(self, edges: beam.PCollection[Parted]) -> dict[str, beam.PCollection]:
        grouped = edges | "GroupFew" >> beam.GroupByKey()
        join = _Join(self._edges_in_memory, self._partitions)
        found = grouped | "JoinFew" >> beam.ParDo(join).with_outputs(UNJOINED, main=LABELLED)
        labelled, unjoined = found[LABELLED], found[UNJOINED]
        labelled.element_type, unjoined.element_type = convert_to_beam_type(Parted), pa.RecordBatch
        return {LABELLED: labelled, UNJOINED: unjoined}


def _rows_of(batch: pa.RecordBatch) -> int:
    return int(batch.num_rows)


def _to_one_place(batch: pa.RecordBatch, total: int, limit: int) -> Iterator[Parted]:
    if total <= limit:
        yield 0, batch


def _unless_few(batch: pa.RecordBatch, total: int, limit: int) -> Iterator[pa.RecordBatch]:
    if total > limit:
        yield batch


class _Join(beam.DoFn):
    """All edges -> the same parted by the root of their component, or as they are where they are too many to hold."""

    def __init__(self, edges_in_memory: int, partitions: int) -> None:
        self._edges_in_memory = edges_in_memory
        self._partitions = partitions

    def process(self, row: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[Parted | beam.pvalue.TaggedOutput]:
        batches, held, count = iter(row[1]), [], 0
        for batch in batches:
            held.append(batch)
            count += batch.num_rows
            if count > self._edges_in_memory:
                for one in itertools.chain(held, batches):
                    yield beam.pvalue.TaggedOutput(UNJOINED, one)
                return
        yield from _labelled(edge_columns(held), self._partitions)


def _labelled(columns: EdgeColumns, partitions: int) -> Iterator[Parted]:
    rows, ends = np.unique(np.concatenate([columns.a, columns.b]), return_inverse=True)
    half = len(columns.a)
    roots = minimum_roots(len(rows), ends[:half], ends[half:])
    enough = min(partitions, 1 + half // _EDGES_OF_A_PARTITION)
    yield from columns.parted(mix64(roots[ends[:half]].astype(np.uint64)), enough)


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
