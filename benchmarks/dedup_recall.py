"""Recall by Jaccard bin, precision and the largest cluster of the fuzzy search, against brute force by Python's sets.

20,000 texts with 6,000 planted pairs (benchmarks/dedup_texts.py), word 5-grams, 32 bands of 8 rows. Of the pairs in a
bin of Jaccard J the mean of 1 - (1 - J^8)^32 is expected to be found; a bin's row says how many of its own standard
deviations more were. Precision and the largest cluster are those at threshold 0.7; every edge is checked by sets.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from beam_pipeline.deduplication.job import DedupConfig, run_dedup
from benchmarks.dedup_texts import SEED, write_texts
from benchmarks.harness import Bar, Row
from transforms.deduplication.parquet_documents import DocumentColumns
from transforms.deduplication.similar_documents import LshParams

DOCUMENTS = 20_000
EDGES = (0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
PRECISION, LARGEST = "precision after exact verification", "largest cluster over truth"
WORST = "recall, worst bin: deviations from theory"


def bars() -> Sequence[Bar]:
    """No bin more than three deviations below theory; no wrong pair; no cluster larger than it is."""
    return [Bar(WORST, "min", -3.0), Bar(PRECISION, "min", 1.0), Bar(LARGEST, "max", 1.0)]


def rows(quick: bool) -> Sequence[Row]:
    """A row for each bin, then the verdicts."""
    documents = 2_000 if quick else DOCUMENTS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_texts(folder / "in.parquet", documents)
        texts = dict(zip(*(column.to_pylist() for column in pq.read_table(folder / "in.parquet").columns), strict=True))
        loose = _edges(folder, EDGES[0])
        found = _edges(folder, LshParams.threshold)
        summary = json.loads((folder / f"{LshParams.threshold}" / "summary.json").read_text())
    grams = {name: _shingles(text) for name, text in texts.items()}
    planted = _planted(list(texts), grams)
    out, worst = _bins(planted, loose)
    right = sum(_jaccard(grams[a], grams[b]) >= LshParams.threshold for a, b in found)
    true_largest = _largest(pair for pair, jaccard in planted.items() if jaccard >= LshParams.threshold)
    unverified = summary["verified"] / max(summary["candidates"], 1)
    return [
        *out,
        Row(WORST, worst, "sd", f"{documents} texts, {len(planted)} pairs, seed {SEED}"),
        Row(PRECISION, right / max(len(found), 1), "", f"{right} of {len(found)} edges, by sets"),
        Row("precision unverified", unverified, "", f"{summary['verified']} of {summary['candidates']} candidates"),
        Row(LARGEST, summary["largest_cluster"] / true_largest, "x", f"{summary['largest_cluster']} documents"),
    ]


def _edges(folder: Path, threshold: float) -> set[tuple[str, str]]:
    config = DedupConfig(DocumentColumns("text", "id"), lsh=LshParams(threshold=threshold))
    run_dedup([str(folder / "in.parquet")], folder / str(threshold), config)
    table = pq.read_table(folder / str(threshold) / "edges.parquet")
    return set(zip(table.column("a").to_pylist(), table.column("b").to_pylist(), strict=True))


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = text.split()
    return frozenset(tuple(words[i : i + 5]) for i in range(len(words) - 4))


def _jaccard(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> float:
    return len(a & b) / len(a | b)


def _planted(names: Sequence[str], grams: Mapping[str, frozenset[tuple[str, ...]]]) -> dict[tuple[str, str], float]:
    """The pairs of each ten that are no exact copies, with their Jaccard."""
    found = {}
    for base in range(0, len(names) - 9, 10):
        own = [names[base], names[base + 2], names[base + 3]]
        for a, b in ((own[0], own[1]), (own[0], own[2]), (own[1], own[2])):
            found[a, b] = _jaccard(grams[a], grams[b])
    return found


def _bins(planted: Mapping[tuple[str, str], float], found: set[tuple[str, str]]) -> tuple[list[Row], float]:
    jaccard: NDArray[np.float64] = np.array(list(planted.values()))
    hit = np.array([pair in found for pair in planted])
    theory = 1 - (1 - jaccard**8) ** 32
    out, worst = [], math.inf
    for low, high in pairwise(EDGES):
        own = (jaccard >= low) & (jaccard < high)
        if not own.any():
            continue
        expected, deviation = theory[own].mean(), math.sqrt((theory[own] * (1 - theory[own])).sum()) / own.sum()
        short = float(hit[own].mean() - expected) / max(deviation, 1e-9)
        worst = min(worst, short)
        note = f"{own.sum()} pairs, theory {expected:.4f}, {short:+.1f} sd"
        out.append(Row(f"recall, Jaccard {low:g} to {high:g}", float(hit[own].mean()), "", note))
    return out, worst


def _largest(pairs: Iterable[tuple[str, str]]) -> int:
    """Documents in the largest group of ten, its exact copy included, that the true pairs connect."""
    groups: dict[int, set[str]] = {}
    for a, b in pairs:
        groups.setdefault(int(a[1:]) // 10, set()).update((a, b))
    # the base's exact copy joins its base
    return max(len(group) + any(int(name[1:]) % 10 == 0 for name in group) for group in groups.values())
