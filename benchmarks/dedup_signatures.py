"""Texts to MinHash signatures against rensa, datasketch and datatrove; hashes to signatures against rensa.

20,000 English-like documents (benchmarks/dedup_english.py), word 5-grams, 256 permutations. Each side is a process of
its own on the same core; they take turns, and the CPU seconds of the best turn count. Rivals start from decoded Python
strings, split at spaces, joined by the fastest Python known to us, hashed by xxhash where the library lets one choose;
ours starts from Arrow and also drops case and punctuation. Before they are timed all sides must estimate the Jaccard of
2,000 planted pairs as well as theory says of 256 permutations.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.dedup_english import SEED, english, true_jaccard
from benchmarks.dedup_rivals import ROOT, arm_environment, core, rivals_python
from benchmarks.harness import Bar, Row

SCRIPT = ROOT / "benchmarks" / "dedup_signature_arms.py"
OURS = ("ours", "ours, NumPy", "hashes: ours", "hashes: ours, NumPy", "hashes: ours, torch")
RIVALS = (
    "rensa batch",
    "rensa batch of bytes",
    "rensa update",
    "rensa rho",
    "datasketch xxh32",
    "datatrove",
    "hashes: rensa flat",
    "hashes: rensa sets",
)
DOCUMENTS, PAIRS = 20_000, 2_000
SECONDS, ROUNDS_MIN = 4.0, 3
WITHIN = 1.1
"""How far above theory's root mean square error an estimate may lie: five standard deviations of 2,000 pairs."""


@dataclass
class Arm:
    """A running side, and the CPU seconds of its turns."""

    name: str
    process: subprocess.Popen[str]
    versions: Sequence[str]
    turns_s: list[float]

    def ask(self, line: str) -> object:
        """One line to the arm, its answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the arm {self.name!r} ended with status {self.process.wait()}; its error stands above")
        return json.loads(answer)

    def done(self, seconds: float) -> bool:
        """Whether it ran long enough."""
        return len(self.turns_s) >= ROUNDS_MIN and sum(self.turns_s) >= seconds


def bars() -> list[Bar]:
    """Limits on the ratios to each rival."""
    return [
        Bar("text: ours / rensa RMinHash", "min", 3.5),
        Bar("text: ours / datasketch xxh32", "min", 7.0),
        Bar("text: ours / datatrove", "min", 11.0),
        Bar("hashes: ours / rensa pre-hashed", "min", 2.5),
    ]


def rows(quick: bool) -> list[Row]:
    """Documents per CPU second of every side, the ratios, and how well each side estimates."""
    documents, pairs, seconds = (2_000, 500, 0.0) if quick else (DOCUMENTS, PAIRS, SECONDS)
    texts = english(documents, pairs, SEED)
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.parquet"
        pq.write_table(pa.table({"text": texts}), corpus)
        arms = [_start(name, corpus, pairs) for name in _names()]
        try:
            checked = [row for arm in arms for row in _check(arm, texts, pairs)]
            while not all(arm.done(seconds) for arm in arms):
                for arm in arms:
                    if not arm.done(seconds):
                        arm.turns_s.append(float(arm.ask("run")))  # type: ignore[arg-type]
        finally:
            for arm in arms:
                arm.process.kill()
                arm.process.wait()
    return [*_corpus_rows(texts, pairs), *_speeds(arms, texts), *checked]


def _names() -> list[str]:
    return [*OURS, *(RIVALS if rivals_python() else ())]


def _start(name: str, corpus: Path, pairs: int) -> Arm:
    python = sys.executable if name in OURS else rivals_python()
    command = [str(python), str(SCRIPT), name, str(corpus), str(pairs), str(core())]
    pipe = subprocess.PIPE
    environment = arm_environment(with_project=name in OURS)
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
    assert process.stdout is not None
    versions = process.stdout.readline()
    if not versions:
        raise RuntimeError(f"the arm {name!r} ended with status {process.wait()}; its error stands above")
    return Arm(name, process, json.loads(versions), [])


def _check(arm: Arm, texts: pa.Array, pairs: int) -> list[Row]:
    """Its root mean square error over theory's; raises RuntimeError where it is too large to be a MinHash."""
    bare = arm.name in ("ours", "ours, NumPy")
    strings = texts.to_pylist()
    truth = [true_jaccard(strings[i], strings[len(strings) - pairs + i], bare) for i in range(pairs)]
    found = arm.ask("check")
    assert isinstance(found, list)
    error = math.sqrt(statistics.fmean((e - t) ** 2 for e, t in zip(found, truth, strict=True)))
    theory = math.sqrt(statistics.fmean(t * (1 - t) / 256 for t in truth))
    if error > theory * WITHIN and arm.name != "rensa rho":
        raise RuntimeError(
            f"{arm.name} is off by {error:.4f} in Jaccard, theory {theory:.4f}, limit {WITHIN} times: it did other work"
        )
    note = f"of Jaccard over {pairs} planted pairs, mean {statistics.fmean(truth):.2f}; theory {theory:.4f}"
    return [Row(f"{arm.name}: error", error, "rms", note)]


def _corpus_rows(texts: pa.Array, pairs: int) -> list[Row]:
    words = pc.sum(pc.list_value_length(pc.split_pattern(texts, " "))).as_py()
    size = pc.sum(pc.binary_length(texts)).as_py()
    mean = f"{words / len(texts):.1f} words and {size / len(texts):.0f} bytes on average"
    note = f"{mean}, {pairs} planted copies, seed {SEED}"
    return [Row("corpus", float(len(texts)), "documents", note)]


def _speeds(arms: Sequence[Arm], texts: pa.Array) -> list[Row]:
    megabytes = pc.sum(pc.binary_length(texts)).as_py() / 1e6
    found, out = {}, []
    for arm in arms:
        best = min(arm.turns_s)
        found[arm.name] = len(texts) / best
        median = len(texts) / statistics.median(arm.turns_s)
        note = f"best of {len(arm.turns_s)}, median {median:,.0f}; {', '.join(arm.versions)}"
        if not arm.name.startswith("hashes"):
            note = f"{megabytes / best:.1f} MB/s, {note}"
        out.append(Row(arm.name, found[arm.name], "documents/s", note))
    return [*out, *_ratios(found)]


def _ratios(found: Mapping[str, float]) -> list[Row]:
    """Ours over the fastest way of each rival; without a value where the rivals are not installed."""
    sides = {
        "text: ours / rensa RMinHash": ("ours", ("rensa batch", "rensa batch of bytes", "rensa update")),
        "text: ours / datasketch xxh32": ("ours", ("datasketch xxh32",)),
        "text: ours / datatrove": ("ours", ("datatrove",)),
        "hashes: ours / rensa pre-hashed": ("hashes: ours", ("hashes: rensa flat", "hashes: rensa sets")),
    }
    out = []
    for name, (own, rivals) in sides.items():
        ran = {rival: found[rival] for rival in rivals if rival in found}
        if not ran:
            out.append(Row(name, None, "x", "the rivals are not installed: make rivals"))
            continue
        best = max(ran, key=lambda rival: ran[rival])
        out.append(Row(name, found[own] / ran[best], "x", f"against {best}"))
    return out
