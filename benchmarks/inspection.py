"""`inspect` of a generated LeRobot v3 set: wall time and memory of a fresh process, and whether it found the truth.

    python -m benchmarks.inspection [--episodes 100000] [--seed 2026] [--meta-group 1000] [--runs 3] [--keep DIR]
        [--json FILE] [--check]

The set is benchmarks/lerobot_v3_set.py's, flaws planted; what is reported of each is held against what was planted.
Time is the median over runs that nothing watches; memory (PSS of the process and its children, every 50 ms) is that of
one more run, since watching slows it.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.harness import Bar, Report, Row, finish, package_versions, parser
from benchmarks.lerobot_v3_set import PER_META_GROUP, Truth, write_set
from benchmarks.memory import watched

SECONDS, MEGABYTES = 5.0, 500.0
TRUTH = "truth.json"


def generated(folder: Path, episodes: int, seed: int, meta_group: int) -> tuple[Path, Truth, float]:
    """The set in a folder with its truth and the seconds that writing took; one that is there is used again."""
    name = f"lerobot_v3_{episodes}_{seed}" + (f"_{meta_group}" if meta_group != PER_META_GROUP else "")
    root, truth = folder / name, folder / f"{name}.{TRUTH}"
    started = time.monotonic()
    if not truth.exists():
        truth.write_bytes(msgspec.json.encode(write_set(root, episodes, seed, meta_group)))
    return root, msgspec.json.decode(truth.read_bytes(), type=Truth), time.monotonic() - started


def disagreements(found: Mapping[str, Any], truth: Truth) -> list[str]:
    """Where what `inspect --json` printed is not what was planted."""
    dataset = found["datasets"][0]
    notices = {notice["code"]: notice for notice in dataset["notices"]}
    expected = {
        "episodes_listed": (dataset["episodes_listed"], truth.episodes),
        "episodes_present": (dataset["episodes_present"], truth.episodes - truth.absent),
        "codes": (sorted(notices), ["DATA-101", "DATA-202", "DATA-208", "DATA-401", "DATA-405"]),
        "absent": (notices["DATA-101"]["count"], truth.absent),
        "total": (notices["DATA-202"]["examples"], [f"declared {truth.frames + 7}, listed {truth.frames}"]),
        "short windows": (notices["DATA-405"]["count"], truth.short),
        "file short of a row": (notices["DATA-208"]["examples"][0].split(":")[0], truth.file_short_of_a_row),
    }
    return [f"{what}: {seen!r}, planted {planted!r}" for what, (seen, planted) in expected.items() if seen != planted]


@dataclass(frozen=True)
class Measured:
    """One fresh process: wall and CPU seconds, its children's among them."""

    wall_s: float
    cpu_s: float


def command(root: Path) -> list[str]:
    """What is measured."""
    return [sys.executable, "-m", "beam_pipeline", "inspect", str(root), "--json"]


def timed_run(root: Path, truth: Truth, folder: Path) -> Measured:
    """One run that nothing watches; raises RuntimeError where it reports anything but the truth."""
    report = folder / "found.json"
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with report.open("wb") as output:
        subprocess.run(command(root), stdout=output, check=False)
    wall_s, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if wrong := disagreements(json.loads(report.read_text(encoding="utf-8")), truth):
        raise RuntimeError("inspect did not report what was planted: " + "; ".join(wrong))
    return Measured(wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> int:
    """Generate, measure, judge."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--episodes", type=int, default=100_000)
    arguments.add_argument("--seed", type=int, default=2026)
    arguments.add_argument(
        "--meta-group", type=int, default=PER_META_GROUP, help="episodes a row group of meta/episodes"
    )
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--keep", type=Path, help="folder in which the set stays for the next time")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = options.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        root, truth, generate_s = generated(folder, options.episodes, options.seed, options.meta_group)
        measured = [timed_run(root, truth, Path(name)) for _ in range(options.runs)]
        peak_mb, _ = watched(command(root), status=1)  # a data file is absent: an error
        size = subprocess.run(["du", "-sm", str(root)], capture_output=True, check=True, text=True).stdout.split()[0]
    about = (
        f"{truth.episodes:,} episodes, {truth.frames:,} frames, {size} MB, {options.meta_group:,} a row group of meta"
    )
    about += f", generated in {generate_s:.0f} s" if generate_s > 1 else ""
    rows = [
        Row("wall time", statistics.median(run.wall_s for run in measured), "s", about),
        Row("CPU time", statistics.median(run.cpu_s for run in measured), "s", "of the process and its decoder"),
        Row("peak PSS", peak_mb, "MB", "one more run, watched"),
    ]
    bars = [Bar("wall time", "max", SECONDS), Bar("peak PSS", "max", MEGABYTES)]
    report = Report("inspect of a generated LeRobot v3 set", rows, bars, package_versions("pyarrow", "av", "numpy"))
    return finish(report, options.json, options.check)


if __name__ == "__main__":
    sys.exit(main())
