"""A corpus of texts with known copies, from a committed seed: what the fuzzy benchmarks read.

Words are drawn from an invented vocabulary, 198 a text, the r-th most frequent by 1 / (r + 2.7) (Zipf and Mandelbrot).
Of every ten texts six stand alone; one is the base of a group, one its exact copy, and two are copies with 1 to 12
words changed, so that the Jaccard of 5-grams runs from 0.95 down to 0.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

SEED = 2026
_VOCABULARY = 50_000
_WORDS = 198
_GROUP = 10
_BLOCK = 20_000


def vocabulary(rng: np.random.Generator) -> pa.Array:
    """Distinct invented words of 2 to 10 letters."""
    letters = np.frombuffer(b"etaoinshrdlucmfwypvbgkjqxz", "u1")
    chosen = letters[np.minimum(rng.geometric(0.12, (2 * _VOCABULARY, 10)) - 1, 25)]
    lengths = rng.integers(2, 11, 2 * _VOCABULARY)
    words = dict.fromkeys(row[:length].tobytes().decode() for row, length in zip(chosen, lengths, strict=True))
    return pa.array(list(words)[:_VOCABULARY])


def blocks(documents: int, seed: int = SEED, first: int = 0) -> Iterator[pa.RecordBatch]:
    """Arrow batches of id and text, `documents` in all; ids count from `first`."""
    words = vocabulary(np.random.default_rng([seed, 0]))
    for start in range(0, documents, _BLOCK):
        count = min(_BLOCK, documents - start)
        rng = np.random.default_rng([seed, 1 + start // _BLOCK])
        drawn = word_numbers(rng, count, len(words))
        flat = words.take(pa.array(drawn.reshape(-1)))
        offsets = pa.array(np.arange(count + 1, dtype=np.int64) * drawn.shape[1])
        texts = pc.binary_join(pa.LargeListArray.from_arrays(offsets, flat), " ")
        ids = pa.array([f"d{first + start + i:08d}" for i in range(count)])
        yield pa.record_batch([ids, texts], ["id", "text"])


def word_numbers(rng: np.random.Generator, count: int, words: int) -> NDArray[np.int64]:
    """(count, 198) words of `count` texts, every ten with a base, its exact copy and two changed copies."""
    frequency = np.cumsum(1 / (np.arange(words) + 2.7))
    drawn = np.searchsorted(frequency, rng.random((count, _WORDS)) * frequency[-1])
    for base in range(0, count - _GROUP + 1, _GROUP):
        drawn[base + 1] = drawn[base]
        for copy in (base + 2, base + 3):
            changed = rng.choice(_WORDS, int(rng.integers(1, 13)), replace=False)
            drawn[copy] = drawn[base]
            drawn[copy, changed] = rng.integers(0, words, len(changed))
    return np.asarray(drawn, np.int64)


def write_texts(path: Path, documents: int, seed: int = SEED, first: int = 0) -> float:
    """A Parquet file of the corpus; returns megabytes of text."""
    size = 0
    with pq.ParquetWriter(path, pa.schema({"id": pa.string(), "text": pa.string()})) as writer:
        for block in blocks(documents, seed, first):
            size += pc.sum(pc.binary_length(block.column("text"))).as_py()
            writer.write_batch(block)
    return size / 1e6
