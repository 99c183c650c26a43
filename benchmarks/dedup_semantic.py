"""Vectors to like pairs against faiss k-means and a matrix product inside clusters, on two cores.

200,000 vectors of 384 entries (benchmarks/dedup_semantic_corpus.py) in Parquet files, threshold 0.95. Both sides go
from the files to the pairs; ours is a whole Beam job, on RayRunner and in process. What either side was tuned on is the
corpus of `TUNED_ON`, where the rival's settings are tried: the fastest that reaches the recall takes turns with ours on
the corpus of `SEED`, each turn in a process of its own, and the median turn counts. Truth is exact: every planted
vector and a sample of the others against all vectors, in float64.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.dedup_rivals import rivals_python
from benchmarks.dedup_semantic_corpus import SEED, TUNED_ON, Corpus, make_corpus, write_corpus
from benchmarks.harness import Bar, Row
from transforms.deduplication.semantic import SemanticParams

ROOT = Path(__file__).parents[1]
THRESHOLD = 0.95
RECALL = 0.99
THREADS = 2
ROUNDS = 5
SAMPLED = 4000
LIMIT_S = 360.0
"""No further round begins after this."""
SETTINGS = (
    (64, 5, 256, 2, 2),
    (128, 5, 64, 2, 1),
    (128, 5, 64, 2, 2),
    (128, 10, 256, 2, 2),
    (256, 5, 64, 3, 2),
    (447, 5, 64, 4, 2),
)
"""The rival's clusters (447 = sqrt(200,000)), rounds, training vectors for each centroid, nearest centroids, and how
many clusters are compared at once: by one thread of the matrix product each, or one by two."""
RATIO = "semantic: our time / faiss at equal recall"
RATIO_RAY = "semantic: our time on RayRunner, its start included / faiss at equal recall"
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
    return [Bar(RATIO, "max", 1.0), Bar(RATIO_RAY, "max", 1.0, binding=False), Bar(FOUND, "min", RECALL)]


def exact_truth(corpus: Corpus, seed: int) -> Truth:
    """By products in float32 down to a little below the threshold, decided in float64."""
    count = len(corpus.vectors)
    probes = np.random.default_rng(seed).choice(count, min(SAMPLED, count), replace=False)
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
    """One run of one side, and the words that started it."""

    command: str
    seconds: float
    phases: dict[str, float]
    versions: Sequence[str]
    pairs: Pairs


def _run(command: Sequence[str], folder: Path, target: Path, blas_threads: int, project: bool, told: str) -> Turn:
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "OPENBLAS_NUM_THREADS": str(blas_threads)}
    environment.pop("PYTHONPATH", None)
    for path in folder.iterdir():
        path.read_bytes()  # neither side waits for the disk
    done = subprocess.run(command, env=environment, cwd=ROOT if project else None, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr[-2000:]}")
    said: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    pairs = {(int(a), int(b)) for a, b in np.load(target)}
    shown = f"OPENBLAS_NUM_THREADS={blas_threads} {told}"
    return Turn(shown, said["seconds"], said["phases"], said["versions"], pairs)


def run_ours(folder: Path, target: Path, runner: str, nearest: int = SemanticParams.nearest) -> Turn:
    """A turn of ours, with its default number of clusters."""
    module = [sys.executable, "-m", "benchmarks.dedup_semantic_ours"]
    numbers = [runner, "0", str(nearest), str(THRESHOLD)]
    told = f"python -m benchmarks.dedup_semantic_ours FOLDER OUT {' '.join(numbers)}"
    return _run([*module, str(folder), str(target), *numbers], folder, target, THREADS, True, told)


def run_rival(python: Path, folder: Path, target: Path, setting: Sequence[int]) -> Turn:
    """A turn of the rival."""
    script = Path(__file__).with_name("dedup_semantic_rival.py")
    *own, at_once = setting
    numbers = [*map(str, own), str(THRESHOLD), str(THREADS), str(at_once)]
    command = [str(python), str(script), str(folder), str(target), *numbers]
    told = f"python {script.name} FOLDER OUT {' '.join(numbers)}"
    return _run(command, folder, target, THREADS // at_once, False, told)


def _described(name: str, turn: Turn, truth: Truth, note: str = "") -> list[Row]:
    near, nearer = (truth.recall(turn.pairs, low, high) for low, high in ((0.95, 0.96), (0.98, 1.1)))
    phases = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in turn.phases.items())
    told = "; ".join(part for part in (note, phases, ", ".join(turn.versions), turn.command) if part)
    return [
        Row(f"{name}: time", turn.seconds, "s", told),
        Row(f"{name}, recall at cosine 0.95", near, "", f"{nearer:.4f} at 0.99"),
        Row(f"{name}, precision", truth.precision(turn.pairs), "", f"{len(turn.pairs)} pairs"),
    ]


def _corpus(count: int, seed: int, folder: Path) -> tuple[Truth, str]:
    corpus = make_corpus(count, seed=seed)
    write_corpus(corpus, folder)
    truth = exact_truth(corpus, seed)
    return truth, f"{len(truth.pairs)} true pairs of {truth.probed.sum()} probes; seed {seed}"


def _tuned(python: Path, count: int, place: Path, quick: bool) -> tuple[Sequence[int], list[Row]]:
    """The rival's fastest setting that reaches the recall on the corpus that nothing is tested on."""
    folder = place / "tuned"
    truth, known = _corpus(count, TUNED_ON, folder)
    out = [Row("semantic: corpus for tuning", float(count), "vectors", known)]
    tried = {s: run_rival(python, folder, place / "pairs.npy", s) for s in (SETTINGS[:1] if quick else SETTINGS)}
    for setting, turn in tried.items():
        name = f"semantic: faiss {setting[0]} clusters, top {setting[3]}, {setting[4]} at once, tuning"
        out += _described(name, turn, truth, f"{setting[1]} rounds on {setting[2]} vectors a centroid")[:2]
    able = [s for s, turn in tried.items() if truth.recall(turn.pairs, 0.95, 0.96) >= RECALL]
    return min(able or tried, key=lambda s: tried[s].seconds), out


def _median(turns: Sequence[Turn]) -> tuple[Turn, str]:
    in_order = sorted(turns, key=lambda turn: turn.seconds)
    return in_order[len(turns) // 2], "turns " + ", ".join(f"{turn.seconds:.2f}" for turn in turns)


def rows(quick: bool) -> list[Row]:
    """Both sides' seconds, recall and precision, and the ratios."""
    started = time.monotonic()
    count = 20_000 if quick else 200_000
    python = rivals_python()
    out: list[Row] = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as place:
        folder, target = Path(place) / "vectors", Path(place) / "pairs.npy"
        setting: Sequence[int] = ()
        if python is not None:
            setting, out = _tuned(python, count, Path(place), quick)
        truth, known = _corpus(count, SEED, folder)
        out.append(Row("semantic: corpus", float(count), "vectors", known))
        ours, on_ray, rival = [], [], []
        for number in range(1 if quick else ROUNDS):
            if number and time.monotonic() - started > LIMIT_S:
                break
            ours.append(run_ours(folder, target, "FnApiRunner"))
            if python is not None:
                rival.append(run_rival(python, folder, target, setting))
            on_ray.append(run_ours(folder, target, "RayRunner"))
        one = run_ours(folder, target, "FnApiRunner", nearest=1)
    mine, turns = _median(ours)
    out += _described("semantic: ours", mine, truth, f"in process; {turns}")
    ray, turns = _median(on_ray)
    out += _described("semantic: ours on RayRunner", ray, truth, f"two workers, Ray's start included; {turns}")
    out += _described("semantic: ours with one centroid", one, truth)[:2]
    if not rival:
        return [
            *out,
            *(Row(name, None, "x", "the rivals are not installed: make rivals") for name in (RATIO, RATIO_RAY)),
        ]
    other, turns = _median(rival)
    out += _described("semantic: faiss", other, truth, turns)
    medians = f"medians of {len(ours)} turns each"
    return [
        *out,
        Row(RATIO, mine.seconds / other.seconds, "x", f"in process; {medians}"),
        Row(RATIO_RAY, ray.seconds / other.seconds, "x", medians),
    ]
