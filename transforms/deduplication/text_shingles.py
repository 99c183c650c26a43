"""Word n-grams of texts as 64-bit hashes, without a Python object per word.

All arithmetic wraps at 64 bits. A word of bytes c_0..c_k hashes to `mix64(sum T[c_j] B^(k-j))`, with a table T of odd
numbers that gives a capital its small letter's; an n-gram of words w_0..w_n-1 to `sum w_j C^(n-1-j)`. A word's sum is
the difference of two prefix sums over the bytes (Karp and Rabin 1987), so that arrays need no loop over words; numba,
where it is, computes the same numbers in one pass.
"""

from __future__ import annotations

import numpy as np

from transforms.deduplication.array_shingles import array_word_hashes
from transforms.deduplication.compiled import compiled
from transforms.deduplication.letters import letter_table
from transforms.deduplication.shingles import Shingles, blocks, joined, read_only, sorted_unique
from transforms.deduplication.text_words import TextBytes, Texts, text_bytes

_CHUNK_BYTES = 1 << 16
"""Text worked on at once by NumPy: its arrays of 8 bytes a letter stay in the cache."""


def word_ngrams(texts: Texts, n: int = 5) -> Shingles:
    """Sorted unique shingles of N texts, by n words each; fewer than n words make one shingle, none make none.

    What counts as a word: `transforms.deduplication.text_words`. Raises ValueError for n < 1.
    """
    return sorted_unique(word_hashes(texts, n))


def word_hashes(texts: Texts, n: int = 5) -> Shingles:
    """As `word_ngrams`, in the order of the text and with repeats: enough for a signature, a minimum forgets both."""
    twin = compiled()
    if twin is None:
        return numpy_word_hashes(texts, n)
    held = _held(texts, n)
    hashes = np.empty((len(held.data) + len(held.offsets)) // 2 + 1, np.uint64)
    offsets = np.empty_like(held.offsets)
    used = twin.word_hashes(read_only(held.data), read_only(held.offsets), n, letter_table(), hashes, offsets)
    return Shingles(hashes[:used].copy(), offsets)


def numpy_word_hashes(texts: Texts, n: int = 5) -> Shingles:
    """As `word_hashes`, by NumPy alone."""
    held = _held(texts, n)
    return joined([_by_arrays(held, start, stop, n) for start, stop in blocks(held.offsets, _CHUNK_BYTES)])


def _held(texts: Texts, n: int) -> TextBytes:
    if n < 1:
        raise ValueError(f"n is {n}; a shingle needs at least 1 word")
    return text_bytes(texts)


def _by_arrays(texts: TextBytes, start: int, stop: int, n: int) -> Shingles:
    bounds = texts.offsets[start : stop + 1]
    hashes, offsets = array_word_hashes(texts.data[bounds[0] : bounds[-1]], bounds - bounds[0], n)
    return Shingles(hashes.view(np.uint64), offsets)
