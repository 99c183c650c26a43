"""The constants of the word hash, the same for every backend."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from transforms.deduplication.minhash import mix64
from transforms.deduplication.shingles import Hashes

BYTE_BASE = 0x9E3779B97F4A7C15
WORD_BASE = 0xD1342543DE82EF95
"""B and C of the polynomials, odd, so that they have inverses; C is a multiplier of arXiv 2001.05304."""


@lru_cache(1)
def letter_table() -> Hashes:
    """T (256,): an odd number for every byte of a word, the same for a capital and its small letter; 0 for the rest."""
    codes = np.arange(256, dtype=np.uint64)
    lowered = np.where((codes >= ord("A")) & (codes <= ord("Z")), codes + np.uint64(32), codes)
    table = mix64((lowered + np.uint64(1)) * np.uint64(BYTE_BASE)) | np.uint64(1)
    word = [code >= 0x80 or chr(code).isalnum() or chr(code) == "_" for code in range(256)]
    return np.where(np.array(word), table, np.uint64(0))


def powers(base: int, count: int) -> Hashes:
    """(count,) base^0, base^1, ... modulo 2^64."""
    steps = np.full(count, base % (1 << 64), np.uint64)
    steps[:1] = 1
    return np.cumprod(steps, dtype=np.uint64)
