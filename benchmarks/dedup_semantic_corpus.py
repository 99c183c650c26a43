"""Vectors with planted near-duplicates among a clustered background, from a seed.

The background has what makes sentence embeddings hard to cluster: a mean that all share, themes that hold topics whose
sizes fall off as 1 / rank, topics that hold phrasings, and noise whose variance falls off as a power of the dimension
(in a rotated basis), so that clusters have no clean borders. A planted partner leaves its original along that same
noise, not along white noise, which would be kinder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

Floats = NDArray[np.float32]
SEED, TUNED_ON = 31, 2026
"""What is tested, and what settings were chosen by."""
AT_ONCE = 1 << 14


@dataclass(frozen=True)
class Corpus:
    """`vectors` (N, D) unit rows; `planted` (P, 2) rows of pairs whose cosine is `cosine` (P,)."""

    vectors: Floats
    planted: NDArray[np.int64]
    cosine: NDArray[np.float64]

    def ids(self) -> list[str]:
        """The rows' ids."""
        return [f"v{row:08d}" for row in range(len(self.vectors))]


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def make_corpus(
    count: int,
    width: int = 384,
    cosines: Sequence[float] = (0.952, 0.99),
    planted_fraction: float = 0.02,
    seed: int = SEED,
) -> Corpus:
    """`count` vectors, of which `planted_fraction` are partners at each of `cosines`; rows are shuffled.

    Two vectors of a phrasing have a cosine of about 0.8, of a topic 0.6, of a theme 0.35, any two 0.1.
    """
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((width, width)))[0]
    colour = (np.arange(1, width + 1) ** -0.35)[:, None] * basis
    topics = max(2, count // 60)
    themes = max(2, topics // 50)

    def coloured(rows: int) -> NDArray[np.float64]:
        return _unit(rng.standard_normal((rows, width)) @ colour)

    theme = coloured(themes)
    centre = np.sqrt(0.1) * coloured(1) + np.sqrt(0.25) * theme[rng.integers(0, themes, topics)]
    centre += np.sqrt(0.25) * coloured(topics)
    phrasings = max(2, count // 10)
    share = 1 / np.arange(1, topics + 1)
    share /= share.sum()
    phrasing = centre[rng.choice(topics, phrasings, p=share)] + np.sqrt(0.2) * coloured(phrasings)
    partners = int(count * planted_fraction)
    originals = count - partners * len(cosines)
    meant = rng.integers(0, phrasings, originals)
    vectors = np.empty((count, width), np.float32)
    for start in range(0, originals, AT_ONCE):
        own = meant[start : start + AT_ONCE]
        vectors[start : start + len(own)] = _unit(phrasing[own] + np.sqrt(0.2) * coloured(len(own)))
    source = rng.choice(originals, partners * len(cosines), replace=False)
    cosine = np.repeat(np.asarray(cosines), partners)
    for start in range(0, len(source), AT_ONCE):
        own, aim = source[start : start + AT_ONCE], cosine[start : start + AT_ONCE, None]
        base = _unit(vectors[own].astype(np.float64))
        away = coloured(len(own))
        away = _unit(away - (away * base).sum(1, keepdims=True) * base)
        place = originals + start
        vectors[place : place + len(own)] = aim * base + np.sqrt(1 - aim**2) * away
    order = rng.permutation(count)
    place = np.empty(count, np.int64)
    place[order] = np.arange(count)
    pairs = np.stack([place[source], place[originals + np.arange(len(source))]], axis=1)
    return Corpus(vectors[order], np.sort(pairs, axis=1), cosine)


def write_corpus(corpus: Corpus, folder: Path, files: int = 8) -> list[str]:
    """The corpus as Parquet files of `id` and `vector` (fixed_size_list<float>); their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = corpus.ids()
    paths = []
    for index, rows in enumerate(np.array_split(np.arange(len(ids)), files)):
        values = pa.array(corpus.vectors[rows].reshape(-1))
        vector = pa.FixedSizeListArray.from_arrays(values, corpus.vectors.shape[1])
        table = pa.table({"id": pa.array([ids[row] for row in rows]), "vector": vector})
        path = folder / f"vectors-{index:03d}.parquet"
        pq.write_table(table, path, row_group_size=1 << 14, compression="none", use_dictionary=False)
        paths.append(str(path))
    return paths
