"""The whole fuzzy job, texts in Parquet to who stays, against datatrove's MinHash pipeline: two workers each.

200,000 texts (benchmarks/dedup_texts.py), word 5-grams, 32 bands of 8 rows. Ours runs on RayRunner, verifies by exact
Jaccard and writes ids, duplicates, clusters and edges; datatrove does not verify and writes the texts that stay. It is
given str.split for its own tokenizer of English, which is slower. Each is a command timed from its start to its
end, start-up included, after a small run of each that fills the caches of compiled code.
"""

from __future__ import annotations

import json
import os
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

DOCUMENTS, WARM_UP, FILES = 200_000, 2_000, 2
RATIO = "whole job: times datatrove"


def bars() -> Sequence[Bar]:
    """At least three times as fast as datatrove."""
    return [Bar(RATIO, "min", 3.0)]


def rows(quick: bool) -> Sequence[Row]:
    """Seconds of each side and their ratio."""
    documents = 4_000 if quick else DOCUMENTS
    rival = rivals_python()
    sides = ("ours", "datatrove") if rival else ("ours",)
    taken: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in (WARM_UP, documents):
            source = folder / f"texts{size}"
            source.mkdir()
            for file in range(FILES):
                first = file * (size // FILES)
                write_texts(source / f"{file}.parquet", size // FILES, SEED + file, first)
            for side in sides:
                taken[side] = _seconds(_command(side, source, folder / f"{side}{size}", rival))
        kept = json.loads((folder / f"ours{documents}" / "summary.json").read_text())["kept"]
        theirs = _rows(folder / f"datatrove{documents}" / "kept") if rival else 0
    found = [Row("whole job: ours", taken["ours"], "s", f"{documents} texts, seed {SEED}, {kept} kept")]
    if rival is None:
        return [*found, Row(RATIO, None, "x", "no environment of rivals; make rivals")]
    return [
        *found,
        Row("whole job: datatrove", taken["datatrove"], "s", f"{theirs} kept, unverified; words by str.split"),
        Row(RATIO, taken["datatrove"] / taken["ours"], "x", "RayRunner, two workers each"),
    ]


def _command(side: str, source: Path, out: Path, rival: Path | None) -> list[str]:
    if side != "ours":
        return [str(rival), str(ROOT / "benchmarks" / "dedup_job_arm.py"), str(source), str(out), "spaces"]
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
