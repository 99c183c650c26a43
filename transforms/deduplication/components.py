"""Connected components of edges between integers, in memory: the same roots for any order of edges."""

from __future__ import annotations

import numpy as np

from transforms.deduplication.jaccard import Rows, pair_kernels


def minimum_roots(count: int, a: Rows, b: Rows) -> Rows:
    """(count,) smallest node of each node's component, of nodes 0 to count - 1 and edges a[i], b[i]."""
    twin = pair_kernels()
    if twin is not None:
        return np.asarray(twin.minimum_roots(count, a, b))
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(a), np.bool_)
    _, label = connected_components(coo_array((ones, (a, b)), (count, count)), directed=False)
    smallest = np.full(count, count)
    np.minimum.at(smallest, label, np.arange(count))
    return np.asarray(smallest[label])
