"""Connected components in bounded memory: unrolled rounds of large-star and small-star (Kiveris et al., Connected
Components in MapReduce and Beyond, SoCC 2014), and a check that fails where they were too few.

A worker holds one partition's edges at a time. `transforms.deduplication.components` is faster where all edges fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.deduplication.bands import Parted, parted
from transforms.deduplication.buckets import Pairs
from transforms.deduplication.jaccard import Rows
from transforms.deduplication.minhash import mix64
from transforms.deduplication.pairs import distinct, pairs_of

ROUNDS = 16
"""Enough for a path of 10^5 nodes with random ids, which takes 14; one of 10^4 takes 11, random graphs 4 to 6."""
_CHECKED_EVERY = 8
"""Rounds after which edges that are stars already skip the rest."""


class NotConverged(RuntimeError):
    """Components that would need more rounds."""


def large_star(edges: Pairs) -> Pairs:
    """Of nodes `a` and all their neighbours `b`: each larger neighbour with the smallest of the neighbourhood."""
    least = _least(edges)
    larger = edges.b > edges.a
    return Pairs(edges.b[larger], least[larger])


def small_star(edges: Pairs) -> Pairs:
    """Of nodes `a` and their smaller neighbours `b`: each of them and `a` itself with the smallest neighbour."""
    least = _least(edges)
    other = edges.b != least
    first = np.concatenate([np.ones(min(len(edges.a), 1), np.bool_), edges.a[1:] != edges.a[:-1]])
    return Pairs(np.concatenate([edges.b[other], edges.a[first]]), np.concatenate([least[other], least[first]]))


def star_roots(edges: Pairs, rounds: int) -> Pairs:
    """(node, root) of stars, by node, roots left out: what each node's rows say at the end. Raises NotConverged.

    A row (node, m, 0) says that m is the node's centre, (m, m, 1) that m is one; stars have one centre a node, which
    has none itself.
    """
    count = open_nodes(edges)
    if count:
        raise NotConverged(
            f"{count} nodes of a partition have no one root after {rounds} rounds of stars; give more rounds"
        )
    own = edges.a != edges.b
    return Pairs(edges.a[own], edges.b[own])


def open_nodes(edges: Pairs) -> int:
    """How many nodes have several centres, or one and are one themselves; the rows are those of `star_roots`."""
    own = edges.a != edges.b
    nodes = edges.a[own]
    several = nodes[1:][nodes[1:] == nodes[:-1]]
    chained = nodes[np.isin(nodes, edges.a[~own])]
    return len(np.union1d(several, chained))


def _least(edges: Pairs) -> Rows:
    """(P,) the smallest of `a` and its neighbours; the pairs are in order of (a, b)."""
    if not len(edges.a):
        return edges.a
    starts = np.flatnonzero(np.concatenate([[True], edges.a[1:] != edges.a[:-1]]))
    least = np.minimum(edges.b[starts], edges.a[starts])
    return np.asarray(np.repeat(least, np.diff(np.concatenate([starts, [len(edges.a)]]))))


def both_ways(edges: Pairs) -> Pairs:
    """Each edge from either end."""
    return distinct([edges, Pairs(edges.b, edges.a)])


def downward(edges: Pairs) -> Pairs:
    """Each edge from its larger end."""
    return distinct([Pairs(np.maximum(edges.a, edges.b), np.minimum(edges.a, edges.b))])


class StarComponents(beam.PTransform):
    """Arrow batches of edges a, b (int64) -> Arrow batches a, b: each node that is no root, and its root.

    The root is the smallest node of the component. Where 8 rounds are enough the rest have nothing to do; fails with
    NotConverged where `rounds` are too few.
    """

    def __init__(self, rounds: int = ROUNDS, partitions: int = 16) -> None:
        super().__init__()
        if rounds < 1 or partitions < 1:
            raise ValueError(f"rounds is {rounds} and partitions {partitions}; need at least 1 of each")
        self._rounds = rounds
        self._partitions = partitions

    def expand(self, edges: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        count = self._partitions
        settled = []
        for index in range(self._rounds):
            if index and index % _CHECKED_EVERY == 0:
                total = beam.pvalue.AsSingleton(edges | f"CheckAfter{index}" >> _CountOpen(count))
                settled.append(edges | f"KeepSettled{index}" >> beam.Filter(lambda _, left: not left, total))
                edges = edges | f"KeepOpen{index}" >> beam.Filter(lambda _, left: left, total)
            edges = (
                edges
                | f"SpreadBothWays{index}" >> beam.FlatMap(_spread_both_ways, count).with_output_types(Parted)
                | f"GroupNeighbours{index}" >> beam.GroupByKey()
                | f"StarLarge{index}" >> beam.FlatMap(_star_large).with_output_types(pa.RecordBatch)
                | f"SpreadDownward{index}" >> beam.FlatMap(_spread_downward, count).with_output_types(Parted)
                | f"GroupSmaller{index}" >> beam.GroupByKey()
                | f"StarSmall{index}" >> beam.FlatMap(_star_small).with_output_types(pa.RecordBatch)
            )
        return (
            (edges, *settled)
            | "MergeSettled" >> beam.Flatten()
            | "SpreadCentres" >> beam.FlatMap(_spread_centres, count).with_output_types(Parted)
            | "GroupCentres" >> beam.GroupByKey()
            | "CheckStars" >> beam.FlatMap(_checked, self._rounds).with_output_types(pa.RecordBatch)
        )


class _CountOpen(beam.PTransform):
    """Edge batches -> one number: their open nodes."""

    def __init__(self, partitions: int) -> None:
        super().__init__()
        self._partitions = partitions

    def expand(self, edges: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[int]:
        return (
            edges
            | "SpreadCentres" >> beam.FlatMap(_spread_centres, self._partitions).with_output_types(Parted)
            | "GroupCentres" >> beam.GroupByKey()
            | "CountOpen" >> beam.Map(lambda row: open_nodes(pairs_of(row[1]))).with_output_types(int)
            | "SumOpen" >> beam.CombineGlobally(sum)
        )


def _spread(edges: Pairs, partitions: int) -> Iterator[Parted]:
    yield from parted({"a": edges.a, "b": edges.b}, mix64(edges.a.view(np.uint64)), partitions)


def _spread_both_ways(batch: pa.RecordBatch, partitions: int) -> Iterator[Parted]:
    yield from _spread(both_ways(pairs_of([batch])), partitions)


def _spread_downward(batch: pa.RecordBatch, partitions: int) -> Iterator[Parted]:
    yield from _spread(downward(pairs_of([batch])), partitions)


def _spread_centres(batch: pa.RecordBatch, partitions: int) -> Iterator[Parted]:
    found = pairs_of([batch])
    centres: NDArray[np.int64] = np.unique(found.b)
    yield from _spread(distinct([found, Pairs(centres, centres)]), partitions)


def _star_large(row: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    yield from _batch(large_star(pairs_of(row[1])))


def _star_small(row: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    yield from _batch(small_star(pairs_of(row[1])))


def _checked(row: tuple[int, Iterable[pa.RecordBatch]], rounds: int) -> Iterator[pa.RecordBatch]:
    yield from _batch(star_roots(pairs_of(row[1]), rounds))


def _batch(edges: Pairs) -> Iterator[pa.RecordBatch]:
    if len(edges.a):
        yield pa.record_batch([pa.array(edges.a), pa.array(edges.b)], ["a", "b"])
