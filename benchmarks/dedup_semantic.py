"""Vectors to like pairs against faiss k-means and a matrix product inside clusters, on two cores.

200,000 vectors of 384 entries (benchmarks/dedup_semantic_corpus.py) in Parquet files, threshold 0.95. Both sides go
from the files to the pairs; ours is a whole Beam job. The rival is tried at several settings; the fastest that reaches
the recall that is asked for takes turns with ours, each turn in a process of its own, and the best turn counts. Truth
is exact: every planted vector and a sample of the others against all vectors, in float64.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.dedup_semantic_corpus import SEED, Corpus, make_corpus, write_corpus
from benchmarks.harness import Bar, Row

ROOT = Path(__file__).parents[1]
THRESHOLD = 0.95
RECALL = 0.99
THREADS = 2
ROUNDS = 3
SAMPLED = 4000
SETTINGS = (
    (128, 5, 64, 2),
    (256, 5, 64, 2),
    (256, 5, 64, 3),
    (447, 5, 64, 2),
    (447, 5, 64, 3),
    (447, 10, 256, 2),
)
"""The rival's clusters (447 = sqrt(200,000)), rounds, training vectors for each centroid, nearest centroids."""
RATIO = "semantic: our time / faiss at equal recall"
FOUND = "semantic: ours, recall at cosine 0.95"

Pairs = set[tuple[int, int]]


@dataclass(frozen=True)
class Truth:
    """All pairs at or above the threshold that have an end in `probed` (N,), and their cosines."""

    probed: NDArray[np.bool_]
    pairs: dict[tuple[int, int], float]

    def recall(self, found: Pairs, low: float, high: float) -> float:
        """Share of the pairs of cosine low <= c < high that were found."""
        asked = [pair for pair, cosine in self.pairs.items() if low <= cosine < high]
        return sum(pair in found for pair in asked) / max(len(asked), 1)

    def precision(self, found: Pairs) -> float:
        """Share of the found pairs with a probed end that are at or above the threshold."""
        asked = [pair for pair in found if self.probed[list(pair)].any()]
        return sum(pair in self.pairs for pair in asked) / max(len(asked), 1)


def bars() -> list[Bar]:
    """Our time at most the rival's, and the recall that both must have."""
    return [Bar(RATIO, "max", 1.0), Bar(FOUND, "min", RECALL)]


def exact_truth(corpus: Corpus) -> Truth:
    """By products in float32 down to a little below the threshold, decided in float64."""
    count = len(corpus.vectors)
    probes = np.random.default_rng(SEED).choice(count, min(SAMPLED, count), replace=False)
    probes = np.union1d(probes, corpus.planted.reshape(-1))
    found: dict[tuple[int, int], float] = {}
    for start in range(0, len(probes), 1024):
        own = probes[start : start + 1024]
        a, b = np.divmod(
            np.flatnonzero((corpus.vectors[own] @ corpus.vectors.T).reshape(-1) >= THRESHOLD - 1e-4), count
        )
        one, other = corpus.vectors[own[a]].astype(np.float64), corpus.vectors[b].astype(np.float64)
        cosine = (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
        for low, high, value in zip(own[a].tolist(), b.tolist(), cosine.tolist(), strict=True):
            if low != high and value >= THRESHOLD:
                found[min(low, high), max(low, high)] = value
    probed = np.zeros(count, np.bool_)
    probed[probes] = True
    return Truth(probed, found)


@dataclass(frozen=True)
class Turn:
    """One run of one side."""

    seconds: float
    phases: dict[str, float]
    versions: Sequence[str]
    pairs: Pairs


def _run(command: Sequence[str], target: Path, project: bool) -> Turn:
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "OPENBLAS_NUM_THREADS": str(THREADS)}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(command, env=environment, cwd=ROOT if project else None, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr[-2000:]}")
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    pairs = {(int(a), int(b)) for a, b in np.load(target)}
    return Turn(told["seconds"], told["phases"], told["versions"], pairs)


def run_ours(folder: Path, target: Path, runner: str = "RayRunner", nearest: int = 2) -> Turn:
    """A turn of ours."""
    module = [sys.executable, "-m", "benchmarks.dedup_semantic_ours"]
    return _run([*module, str(folder), str(target), runner, str(nearest), str(THRESHOLD)], target, True)


def run_rival(python: Path, folder: Path, target: Path, setting: Sequence[int]) -> Turn:
    """A turn of the rival."""
    script = Path(__file__).with_name("dedup_semantic_rival.py")
    numbers = [*map(str, setting), str(THRESHOLD), str(THREADS)]
    return _run([str(python), str(script), str(folder), str(target), *numbers], target, False)


def rivals_python() -> Path | None:
    """The interpreter that `make rivals` makes; RIVALS_PYTHON names another; None where there is none."""
    python = Path(os.environ.get("RIVALS_PYTHON", ROOT / ".venv-rivals" / "bin" / "python"))
    return python if python.exists() else None


def _described(name: str, turn: Turn, truth: Truth, note: str = "") -> list[Row]:
    near, nearer = (truth.recall(turn.pairs, low, high) for low, high in ((0.95, 0.96), (0.98, 1.1)))
    phases = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in turn.phases.items())
    told = "; ".join(part for part in (note, phases, ", ".join(turn.versions)) if part)
    return [
        Row(f"{name}: time", turn.seconds, "s", told),
        Row(f"{name}, recall at cosine 0.95", near, "", f"{nearer:.4f} at 0.99"),
        Row(f"{name}, precision", truth.precision(turn.pairs), "", f"{len(turn.pairs)} pairs"),
    ]


def rows(quick: bool) -> list[Row]:
    """Both sides' seconds, recall and precision, and the ratio."""
    corpus = make_corpus(20_000 if quick else 200_000)
    truth = exact_truth(corpus)
    known = f"{len(truth.pairs)} true pairs of {truth.probed.sum()} probes"
    note = f"{len(corpus.planted)} planted pairs, seed {SEED}; {known}"
    out = [Row("semantic: corpus", float(len(corpus.vectors)), "vectors", note)]
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as place:
        folder, target = Path(place) / "vectors", Path(place) / "pairs.npy"
        write_corpus(corpus, folder)
        python = rivals_python()
        tried = (
            {s: run_rival(python, folder, target, s) for s in (SETTINGS[:1] if quick else SETTINGS)} if python else {}
        )
        for setting, turn in tried.items():
            told = f"{setting[1]} rounds on {setting[2]} vectors a centroid"
            out += _described(f"semantic: faiss {setting[0]} clusters, top {setting[3]}", turn, truth, told)[:2]
        able = [s for s, turn in tried.items() if truth.recall(turn.pairs, 0.95, 0.96) >= RECALL]
        best = min(able or tried, key=lambda s: tried[s].seconds, default=None)
        ours, rival = [], []
        for _ in range(1 if quick else ROUNDS):
            ours.append(run_ours(folder, target))
            if best is not None and python is not None:
                rival.append(run_rival(python, folder, target, best))
        one = run_ours(folder, target, nearest=1)
    mine = min(ours, key=lambda turn: turn.seconds)
    turns = ", ".join(f"{turn.seconds:.2f}" for turn in ours)
    out += _described("semantic: ours", mine, truth, f"RayRunner, two workers; turns {turns}")
    out += _described("semantic: ours with one centroid", one, truth)[:2]
    if not rival:
        return [*out, Row(RATIO, None, "x", "the rivals are not installed: make rivals")]
    other = min(rival, key=lambda turn: turn.seconds)
    turns = ", ".join(f"{turn.seconds:.2f}" for turn in rival)
    assert best is not None
    reached = "" if able else "; no setting reaches the recall"
    out += _described("semantic: faiss", other, truth, f"{best[0]} clusters, top {best[3]}{reached}; turns {turns}")
    return [*out, Row(RATIO, mine.seconds / other.seconds, "x", f"best of {len(ours)} turns each")]
