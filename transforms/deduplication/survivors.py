"""Which documents of a cluster stay: members in order of standing take those that verified directly against them.

Standing is published before unpublished (what an earlier night kept before both), then quality (high first, none
last), then id. The best member of a cluster stays and its direct duplicates go; the best of what is left stays, and so
on, so that the far end of a chain, which is like its neighbour and unlike the representative, is not lost. Exact copies
share their edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms.deduplication.components import minimum_roots
from transforms.deduplication.jaccard import Rows, pair_kernels


@dataclass(frozen=True)
class Edges:
    """M verified pairs of nodes: `a` (M,), `b` (M,), `similarity` (M,), whether their contents are the same (M,)."""

    a: Rows
    b: Rows
    similarity: NDArray[np.float64]
    exact: NDArray[np.bool_]


@dataclass(frozen=True)
class Owners:
    """For each of N nodes: whom it gives way to (itself where it stays), how alike they are, whether exactly."""

    owner: Rows
    similarity: NDArray[np.float64]
    exact: NDArray[np.bool_]


def standing_order(ids: pa.Array, quality: NDArray[np.float64], published: NDArray[np.integer]) -> Rows:
    """(N,) nodes, best standing first; NaN is no quality, a higher `published` comes first."""
    order = np.asarray(pc.sort_indices(ids), np.int64)
    id_rank = np.empty(len(order), np.int64)
    id_rank[order] = np.arange(len(order))
    bare = np.isnan(quality)
    return np.lexsort((id_rank, -np.where(bare, 0.0, quality), bare, -published))


def owners(order: Rows, edges: Edges) -> Owners:
    """Who gives way to whom among the nodes of `order`, best first."""
    count = len(order)
    place = np.empty(count, np.int64)
    place[order] = np.arange(count)
    a, b = place[edges.a], place[edges.b]
    # exact copies are one node, which stands as its best copy
    best = minimum_roots(count, a[edges.exact], b[edges.exact])
    near = ~edges.exact & (best[a] != best[b])
    x, y = best[a[near]], best[b[near]]
    low, high = np.minimum(x, y), np.maximum(x, y)
    found = edges.similarity[near]
    # of several edges between the same two, the most similar first
    ranked = np.lexsort((-found, high, low))
    low, high, found = low[ranked], high[ranked], found[ranked]
    fresh = np.ones(len(low), np.bool_)
    fresh[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    low, high, found = low[fresh], high[fresh], found[fresh]
    # only a better node takes a worse one, so that each edge is kept at its better end
    starts = np.searchsorted(low, np.arange(count + 1))
    owner, via = np.full(count, -1), np.full(count, -1)
    _take(starts, high, owner, via)
    taken = owner[best]
    exact = taken == best
    similarity = np.where(exact, 1.0, found[via[best]] if len(found) else 1.0)
    back = taken[place]
    return Owners(order[back], similarity[place], exact[place])


def _take(starts: Rows, neighbours: Rows, owner: Rows, via: Rows) -> None:
    twin = pair_kernels()
    if twin is not None:
        twin.greedy_owners(starts, neighbours, owner, via)
        return
    for node in range(len(owner)):
        if owner[node] >= 0:
            continue
        owner[node] = node
        places = np.arange(starts[node], starts[node + 1])
        free = places[owner[neighbours[places]] < 0]
        owner[neighbours[free]] = node
        via[neighbours[free]] = free
