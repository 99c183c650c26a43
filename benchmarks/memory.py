"""Peak memory of the whole job at 1x and 10x the input: does it grow with what comes in?

    python -m benchmarks.memory [--megabytes 100] [--runner DirectRunner] [--json FILE] [--check]

Distinct generated episodes (seeded), so that nothing is dropped as a duplicate. Memory is the proportional set size
(PSS) of the process and all its children, from /proc/PID/smaps_rollup every 50 ms; an empty job's is subtracted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import h5py
import numpy as np

from benchmarks.harness import Bar, Report, Row, finish, package_versions, parser

SEED = 2026
STEPS, WIDTH = 250, 1000
EPISODE_MB = STEPS * WIDTH * 4 / 1e6
CONFIG = """
sources:
  - {{name: generated, path: {path}, format: isaac_hdf5, embodiment: toy}}
embodiments:
  toy: {{rate_hz: 20, state: [{{column: observation.joints}}]}}
"""


def write_input(path: Path, episodes: int) -> None:
    """`episodes` demos of STEPS x WIDTH float32 tactile values and seven smooth joints, all distinct."""
    rng = np.random.default_rng(SEED)
    time_s = np.linspace(0, 1, STEPS)[:, None]
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = episodes * STEPS
        for index in range(episodes):
            demo = data.create_group(f"demo_{index}")
            demo.attrs["num_samples"] = STEPS
            joints = sum(rng.uniform(-1, 1, 7) * np.sin(np.pi * k * time_s + rng.uniform(0, 6, 7)) for k in (1, 2, 3))
            demo["actions"] = joints.astype("f4")
            demo["obs/joints"] = joints.astype("f4")
            if episodes > 1:
                demo["obs/tactile"] = rng.standard_normal((STEPS, WIDTH), dtype="f4")


def tree_pss_mb(root: int) -> float:
    """PSS of a process and its descendants, in MB; processes that vanish while being read count as zero."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    family, grew = {root}, True
    while grew:
        born = {pid for pid, parent in parents.items() if parent in family} - family
        family |= born
        grew = bool(born)
    total = 0.0
    for pid in family:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(float(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6
    return total


def watched(
    command: Sequence[str], output: int | IO[bytes] = subprocess.DEVNULL, status: int = 0
) -> tuple[float, float]:
    """(peak PSS in MB, wall seconds) of one command with all its children; its standard output goes to `output`.

    Raises RuntimeError where it does not end with `status`.
    """
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=output)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, tree_pss_mb(process.pid))
        time.sleep(0.05)
    if process.returncode != status:
        raise RuntimeError(f"the job ended with {process.returncode}: {' '.join(command)}")
    return peak, time.monotonic() - started


def peak_mb(folder: Path, episodes: int, runner: str) -> tuple[float, float]:
    """(peak PSS in MB, wall seconds) of one job on `episodes` episodes."""
    source = folder / f"input{episodes}.hdf5"
    write_input(source, episodes)
    config = folder / f"job{episodes}.yaml"
    config.write_text(CONFIG.format(path=source), encoding="utf-8")
    command = [sys.executable, "-m", "beam_pipeline", "--config", str(config)]
    command += ["--output", str(folder / f"out{episodes}"), "--runner", runner]
    return watched(command)


def main() -> int:
    """Measure, print, judge."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--megabytes", type=int, default=100, help="size of the 1x input")
    arguments.add_argument("--runner", default="DirectRunner")
    options = arguments.parse_args()
    episodes = max(2, round(options.megabytes / EPISODE_MB))
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        empty, _ = peak_mb(folder, 1, options.runner)
        small, small_s = peak_mb(folder, episodes, options.runner)
        large, large_s = peak_mb(folder, 10 * episodes, options.runner)
    gigabytes = episodes * EPISODE_MB / 1e3
    rows = [
        Row("peak PSS, empty job", empty, "MB", "one episode of seven joints"),
        Row("peak PSS, 1x", small, "MB", f"{gigabytes:.2f} GB, {episodes} episodes, {small_s:.0f} s"),
        Row("peak PSS, 10x", large, "MB", f"{10 * gigabytes:.2f} GB, {10 * episodes} episodes, {large_s:.0f} s"),
        Row("per GB of input, 1x", (small - empty) / gigabytes, "MB/GB", "peak less the empty job's"),
        Row("per GB of input, 10x", (large - empty) / (10 * gigabytes), "MB/GB", "peak less the empty job's"),
        Row("growth, 10x over 1x", (large - empty) / (small - empty), "x", "both less the empty job's"),
    ]
    binding = options.runner == "RayRunner"
    bars = [Bar("growth, 10x over 1x", "max", 1.25, binding=binding)]
    report = Report(
        f"Peak memory on {options.runner}", rows, bars, package_versions("apache-beam", "pyarrow", "h5py", "numpy")
    )
    return finish(report, options.json, options.check)


if __name__ == "__main__":
    sys.exit(main())
