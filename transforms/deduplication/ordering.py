"""Order by two columns of which the first seldom repeats."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def by_two(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.int64]:
    """(R,) places of R rows in order of (first, second), then of place: `np.lexsort((second, first))`.

    Where `first` are hashes that seldom repeat, one quick sort does nearly all of it, and only rows that share their
    `first` are put in order after.
    """
    order = np.argsort(first)
    same = first[order[1:]] == first[order[:-1]]
    if 8 * np.count_nonzero(same) > len(order):
        return np.lexsort((second, first))
    tied = np.zeros(len(order), np.bool_)
    tied[1:] = same
    tied[:-1] |= same
    rows = order[tied]
    order[tied] = rows[np.lexsort((rows, second[rows], first[rows]))]
    return order
