"""The kernels in numba: the bits of the array code, in one pass over the text and with the vectors of the CPU."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from transforms.deduplication.letters import BYTE_BASE, WORD_BASE

_CHUNK = 2048
"""Mixed shingles held at once: 8 KiB, so that they and a few hundred minima stay in the first cache."""
_OPPOSITE = np.uint32(1 << 31)
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


@numba.njit(inline="always")
def _mix32(shingle):  # type: ignore[no-untyped-def]
    # numba widens uint32 products to 64 bits: every step is cut back
    x = np.uint32(shingle ^ (shingle >> np.uint64(32)))
    x = np.uint32((x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D))
    x = np.uint32((x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.int32(x ^ (x >> np.uint32(16)))


@_kernel
def signatures(shingles, offsets, a, b, out):  # type: ignore[no-untyped-def]
    """Writes `out` (N, P) int32 for products `a`, `b` (Q,); N documents by `offsets` (N + 1,) into `shingles` uint64.

    Six shingles meet all products at a time: their broadcasts stay in registers, and each minimum is loaded and stored
    once for the six.
    """
    products, count = len(a), out.shape[1]
    mixed = np.empty(_CHUNK + 6, np.int32)
    least, most = np.empty(products, np.int32), np.empty(products, np.int32)
    low, high = np.empty(products, np.uint32), np.empty(products, np.uint32)
    for document in range(len(offsets) - 1):
        least[:], most[:] = np.int32(2**31 - 1), np.int32(-(2**31))
        low[:], high[:] = np.uint32(2**32 - 1), np.uint32(0)
        for start in range(offsets[document], offsets[document + 1], _CHUNK):
            size = min(offsets[document + 1] - start, _CHUNK)
            for i in range(size):
                mixed[i] = _mix32(shingles[start + i])
            for i in range(size, size + 5):
                mixed[i] = mixed[0]
            for i in range(0, size, 6):
                x0, x1, x2 = mixed[i], mixed[i + 1], mixed[i + 2]
                x3, x4, x5 = mixed[i + 3], mixed[i + 4], mixed[i + 5]
                for p in range(products):
                    m, n, u, v = least[p], most[p], low[p], high[p]
                    for x in (x0, x1, x2, x3, x4, x5):
                        h = np.int32(x * a[p] + b[p])
                        m, n, u, v = min(m, h), max(n, h), min(u, np.uint32(h)), max(v, np.uint32(h))
                    least[p], most[p], low[p], high[p] = m, n, u, v
        row = out[document]
        for p in range(products):
            row[p] = least[p]
        for p in range(min(products, count - products)):
            row[products + p] = np.int32(low[p] ^ _OPPOSITE)
        for p in range(min(products, count - 2 * products)):
            row[2 * products + p] = ~most[p]
        for p in range(min(products, count - 3 * products)):
            row[3 * products + p] = ~np.int32(high[p] ^ _OPPOSITE)
