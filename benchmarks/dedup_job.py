"""The whole fuzzy job, texts in Parquet to who stays, against datatrove and Data-Juicer on Ray: two workers each.

200,000 texts (benchmarks/dedup_texts.py), word 5-grams, 32 bands of 8 rows. Ours runs on RayRunner, verifies by exact
Jaccard and writes ids, duplicates, clusters and edges; the rivals do not verify and write the texts that stay.
datatrove is given str.split for its own tokenizer of English, which is slower. Each is a command timed from its start
to its end, start-up included, after a small run of each that fills the caches of compiled code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.dedup_rivals import ROOT, juicer_python, rivals_python
from benchmarks.dedup_texts import SEED, write_texts
from benchmarks.harness import Bar, Row

DOCUMENTS, WARM_UP, FILES = 200_000, 2_000, 2
RIVALS = {"datatrove": "words by str.split", "Data-Juicer": "its MinHash operator for Ray"}


def bars() -> Sequence[Bar]:
    """At least three times as fast as each rival."""
    return [Bar(_ratio(side), "min", 3.0) for side in RIVALS]


def rows(quick: bool) -> Sequence[Row]:
    """Seconds of each side and the ratios."""
    documents = 4_000 if quick else DOCUMENTS
    commands = _commands()
    taken: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in (WARM_UP, documents):
            source = folder / f"texts{size}"
            source.mkdir()
            for file in range(FILES):
                first = file * (size // FILES)
                write_texts(source / f"{file}.parquet", size // FILES, SEED + file, first)
            for side, command in commands.items():
                taken[side] = _seconds(command(source, folder / f"{side}{size}"))
        kept = json.loads((folder / f"ours{documents}" / "summary.json").read_text())["kept"]
        theirs = {side: _rows(folder / f"{side}{documents}" / "kept") for side in RIVALS if side in commands}
    found = [Row("whole job: ours", taken["ours"], "s", f"{documents} texts, seed {SEED}, {kept} kept, RayRunner")]
    for side, note in RIVALS.items():
        if side not in commands:
            found.append(Row(_ratio(side), None, "x", "no environment of its own; make rivals juicer"))
            continue
        found.append(Row(f"whole job: {side}", taken[side], "s", f"{theirs[side]} kept, unverified; {note}"))
        found.append(Row(_ratio(side), taken[side] / taken["ours"], "x", "two workers each"))
    return found


def _ratio(side: str) -> str:
    return f"whole job: times {side}"


def _commands() -> dict[str, Callable[[Path, Path], Sequence[str]]]:
    """What is run on each side that is there, of a folder of texts and one to write to."""
    found: dict[str, Callable[[Path, Path], Sequence[str]]] = {"ours": _ours}
    datatrove, juicer = rivals_python(), juicer_python()
    if datatrove is not None:
        arm = [str(datatrove), str(ROOT / "benchmarks" / "dedup_job_arm.py")]
        found["datatrove"] = lambda source, out: [*arm, str(source), str(out), "spaces"]
    if juicer is not None:
        other = [str(juicer), str(ROOT / "benchmarks" / "dedup_job_juicer.py")]
        found["Data-Juicer"] = lambda source, out: [*other, str(source), str(out)]
    return found


def _ours(source: Path, out: Path) -> Sequence[str]:
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
