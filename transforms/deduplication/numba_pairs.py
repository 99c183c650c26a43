"""Loops over pairs and edges in numba; `transforms.deduplication.jaccard` and `components` have the same in arrays."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


def _kernel(function: Any) -> Any:
    """Compiled without the interpreter's lock; kept on disk where a folder can be written."""
    try:
        return numba.njit(nogil=True, cache=True, boundscheck=False)(function)
    except RuntimeError:  # numba finds neither the package's folder nor the user's cache writable
        return numba.njit(nogil=True, boundscheck=False)(function)


@_kernel
def shared_counts(hashes, offsets, a, b):  # type: ignore[no-untyped-def]
    """(M,) int64 shingles that documents a[i] and b[i] share; those of a document are sorted and unique."""
    out = np.empty(len(a), np.int64)
    for pair in range(len(a)):
        i, i_stop = offsets[a[pair]], offsets[a[pair] + 1]
        j, j_stop = offsets[b[pair]], offsets[b[pair] + 1]
        shared = 0
        while i < i_stop and j < j_stop:
            x, y = hashes[i], hashes[j]
            shared += x == y
            i += x <= y
            j += y <= x
        out[pair] = shared
    return out


@_kernel
def minimum_roots(count, a, b):  # type: ignore[no-untyped-def]
    """(count,) int64 smallest node of each node's component, by union-find with halved paths."""
    parent = np.arange(count)
    for edge in range(len(a)):
        x, y = a[edge], b[edge]
        while parent[x] != x:
            parent[x] = parent[parent[x]]
            x = parent[x]
        while parent[y] != y:
            parent[y] = parent[parent[y]]
            y = parent[y]
        if x < y:
            parent[y] = x
        else:
            parent[x] = y
    # a parent is never larger than its child, so that in order each parent is already a root
    for node in range(count):
        parent[node] = parent[parent[node]]
    return parent


@_kernel
def greedy_owners(starts, neighbours, owner, via):  # type: ignore[no-untyped-def]
    """Fills `owner` (N,) and `via` (N,): nodes in order take the neighbours that nobody has; `via` is the edge's place.

    Node i's neighbours are `neighbours[starts[i]:starts[i + 1]]`; `owner` comes as -1. A node that owns itself stays.
    """
    for node in range(len(owner)):
        if owner[node] >= 0:
            continue
        owner[node] = node
        for place in range(starts[node], starts[node + 1]):
            other = neighbours[place]
            if owner[other] < 0:
                owner[other] = node
                via[other] = place
