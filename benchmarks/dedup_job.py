"""The whole fuzzy job, texts in Parquet to who stays, against datatrove's MinHash pipeline: two cores each.

200,000 texts (benchmarks/dedup_texts.py), word 5-grams, 32 bands of 8 rows. Ours runs on RayRunner, verifies by exact
Jaccard and writes ids, duplicates, clusters and edges; datatrove does not verify and writes the texts that stay. Each
is a command timed from its start to its end, start-up included; they take turns, and the best turn counts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.dedup_rivals import ROOT, rivals_python
from benchmarks.dedup_texts import SEED, write_texts
from benchmarks.harness import Bar, Row

DOCUMENTS, FILES, ROUNDS = 200_000, 2, 2
RATIO, GENEROUS = "whole job: times datatrove", "whole job: times datatrove with str.split"


def bars() -> Sequence[Bar]:
    """At least three times as fast as datatrove at its documented setting."""
    return [Bar(RATIO, "min", 3.0)]


def rows(quick: bool) -> Sequence[Row]:
    """Seconds of each side and their ratios."""
    documents, rounds = (4_000, 1) if quick else (DOCUMENTS, ROUNDS)
    rival = rivals_python()
    tokenizers = ("default", "spaces") if rival else ()
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "texts"
        source.mkdir()
        for file in range(FILES):
            write_texts(source / f"{file}.parquet", documents // FILES, SEED + file)
        for _ in range(rounds):
            for side in ("ours", *tokenizers):
                out = folder / side
                shutil.rmtree(out, ignore_errors=True)
                taken = _seconds(_command(side, source, out, rival))
                best[side] = min(taken, best.get(side, taken))
        kept = json.loads((folder / "ours" / "summary.json").read_text())["kept"]
        theirs = {side: _rows(folder / side / "kept") for side in tokenizers}
    note = f"{documents} texts, seed {SEED}, {kept} kept, best of {rounds}"
    found = [Row("whole job: ours", best["ours"], "s", note)]
    for side, ratio in zip(("default", "spaces"), (RATIO, GENEROUS), strict=True):
        if side in best:
            found.append(Row(f"whole job: datatrove, {side}", best[side], "s", f"{theirs[side]} kept, unverified"))
            found.append(Row(ratio, best[side] / best["ours"], "x", "RayRunner, two workers each"))
        else:
            found.append(Row(ratio, None, "x", "no environment of rivals; make rivals"))
    return found


def _command(side: str, source: Path, out: Path, rival: Path | None) -> list[str]:
    if side != "ours":
        return [str(rival), str(ROOT / "benchmarks" / "dedup_job_arm.py"), str(source), str(out), side]
    flags = ["--input", str(source), "--output", str(out), "--text", "text", "--id", "id"]
    return [sys.executable, "-m", "beam_pipeline", "dedup", *flags, "--runner", "RayRunner"]


def _seconds(command: Sequence[str]) -> float:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return time.monotonic() - started


def _rows(folder: Path) -> int:
    return sum(int(pq.read_metadata(path).num_rows) for path in folder.rglob("*.parquet"))
