"""The kernels in numba: the bits of the array code, in one pass over the text and with the vectors of the CPU."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from transforms.deduplication.letters import BYTE_BASE, WORD_BASE

_BYTE_BASE = np.uint64(BYTE_BASE)
_WORD_BASE = np.uint64(WORD_BASE)


def _kernel(function: Any) -> Any:
    """Compiled without the interpreter's lock; kept on disk where a folder can be written."""
    try:
        return numba.njit(nogil=True, cache=True, boundscheck=False)(function)
    except RuntimeError:  # numba finds neither the package's folder nor the user's cache writable
        return numba.njit(nogil=True, boundscheck=False)(function)


@numba.njit(inline="always")
def _mix64(x):  # type: ignore[no-untyped-def]
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@_kernel
def word_hashes(data, offsets, n, table, hashes, bounds):  # type: ignore[no-untyped-def]
    """Writes the n-grams' hashes and the (N + 1,) bounds of each text's; returns how many hashes there are.

    `data` (B,) uint8, `offsets` (N + 1,) int64, `table` (256,) uint64, `hashes` at least ((B + N + 1) // 2 + 1,).
    """
    used = 0
    bounds[0] = 0
    zero = np.uint64(0)
    for text in range(len(offsets) - 1):
        first = used
        place, stop = offsets[text], offsets[text + 1]
        while place < stop:
            letter = table[data[place]]
            place += 1
            if letter == zero:
                continue
            word = zero
            while letter != zero:
                word = word * _BYTE_BASE + letter
                if place == stop:
                    break
                letter = table[data[place]]
                place += 1
            hashes[used] = _mix64(word)
            used += 1
        words = used - first
        grams = max(words - n + 1, min(words, 1))
        taken = min(words, n)
        for gram in range(first, first + grams):
            total = hashes[gram]
            for step in range(1, taken):
                total = total * _WORD_BASE + hashes[gram + step]
            hashes[gram] = total
        used = first + grams
        bounds[text + 1] = used
    return used
