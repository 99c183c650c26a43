"""Word n-grams by whole-array operations on any array library: NumPy, CuPy, torch.

Everything is int64, whose arithmetic wraps alike on all of them; torch has too little of uint64.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import array_api_compat
import numpy as np

from transforms.deduplication.letters import BYTE_BASE, WORD_BASE, letter_table, powers

_SIGN = 1 << 63


def signed(value: int) -> int:
    """A 64-bit pattern as the int64 that has it."""
    return (value + _SIGN) % (1 << 64) - _SIGN


def mix64(x: Any, xp: Any) -> Any:
    """splitmix64's finaliser on int64 bit patterns; `>>` carries the sign down, so it is masked away."""
    for shift, multiplier in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * signed(multiplier)
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def array_word_hashes(data: Any, offsets: Any, n: int) -> tuple[Any, Any]:
    """(S,) int64 hashes of the n-grams of N texts in order, and their (N + 1,) int64 offsets.

    `data` (B,) uint8 and `offsets` (N + 1,) int64 live on one device, and so does what comes back.
    """
    xp = array_api_compat.array_namespace(data, offsets)
    words, first_word = _word_hashes(data, offsets, xp)
    count = first_word[1:] - first_word[:-1]
    grams = xp.where(count > 0, xp.clip(count - (n - 1), 1, None), count)
    bounds = xp.cumulative_sum(grams, include_initial=True)
    document = xp.repeat(xp.arange(count.shape[0], device=_on(data)), grams)
    at = first_word[document] + xp.arange(document.shape[0], device=_on(data)) - bounds[document]

    ahead = xp.concat([words, xp.zeros(n, dtype=xp.int64, device=_on(data))])
    total = ahead[: words.shape[0]]
    for step in range(1, n):
        total = total * signed(WORD_BASE) + ahead[step : step + words.shape[0]]
    hashes = total[at]
    short = xp.nonzero((count > 0) & (count < n))[0]
    if short.shape[0]:
        hashes[bounds[short]] = _short_documents(ahead, first_word[short], count[short], n, xp)
    return hashes, bounds


def _word_hashes(data: Any, offsets: Any, xp: Any) -> tuple[Any, Any]:
    """(W,) hashes of all words, and (N + 1,) the first word of each text."""
    values = xp.take(_constant("table", 256, data, xp), xp.astype(data, xp.int64))
    inside = values != 0
    none = xp.zeros(1, dtype=xp.bool, device=_on(data))
    text_start = xp.zeros(data.shape[0] + 1, dtype=xp.bool, device=_on(data))
    text_start[offsets] = True
    starts = xp.nonzero(inside & (text_start[:-1] | ~xp.concat([none, inside[:-1]])))[0]
    ends = xp.nonzero(inside & (text_start[1:] | ~xp.concat([inside[1:], none])))[0]
    scaled = values * _constant("inverse", data.shape[0], data, xp)
    sums = xp.cumulative_sum(scaled)
    own = (sums[ends] - sums[starts] + scaled[starts]) * _constant("power", data.shape[0], data, xp)[ends]
    return mix64(own, xp), xp.searchsorted(starts, offsets)


def _short_documents(words: Any, start: Any, count: Any, n: int, xp: Any) -> Any:
    """The one shingle of each text that has `count` < n words, by all of them."""
    total = words[start]
    for step in range(1, n - 1):
        further = total * signed(WORD_BASE) + words[start + step]
        total = xp.where(count > step, further, total)
    return total


def _on(array: Any) -> Any:
    return array_api_compat.device(array)


def _constant(name: str, length: int, like: Any, xp: Any) -> Any:
    """A constant's first `length` values on the device of `like`."""
    whole = _held(name, max(length - 1, 1).bit_length())
    return xp.asarray(whole[:length], device=_on(like))


@lru_cache(64)
def _held(name: str, bits: int) -> Any:
    """Constants of 2^bits values, as int64: the letters' table, or powers of the byte base or its inverse."""
    if name == "table":
        return letter_table().view(np.int64)
    base = BYTE_BASE if name == "power" else pow(BYTE_BASE, -1, 1 << 64)
    return powers(base, 1 << bits).view(np.int64)
