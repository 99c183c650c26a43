"""The job on published recordings, examples/real_data.yaml: wall time and peak memory on two cores.

    ROBOT_DATA=FOLDER python -m benchmarks.real_data [--repeats 1] [--json FILE] [--check]

The whole command as a user types it, start of Python included, held to two cores by their affinity. Memory is the
proportional set size of the process and all its children, every 50 ms. The slowest time and the highest peak count.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import Bar, Report, Row, finish, package_versions, parser
from benchmarks.memory import watched

CONFIG = Path(__file__).parents[1] / "examples" / "real_data.yaml"
CORES = 2
BARS = [Bar("wall time", "max", 90.0), Bar("peak PSS", "max", 2000.0)]


def outcomes(output: Path) -> str:
    """Planned and kept over all sources, from the run's own summary."""
    summary = json.loads((output / "run_summary.json").read_text(encoding="utf-8"))
    planned, kept = (sum(int(one[key]) for one in summary["outcomes"]) for key in ("planned", "kept"))
    return f"{planned} planned, {kept} kept"


def main() -> int:
    """Measure, print, judge; without recordings, say so and end with 0."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--repeats", type=int, default=1)
    options = arguments.parse_args()
    if not os.environ.get("ROBOT_DATA"):
        print("skipped: ROBOT_DATA is not set; it names the folder of the recordings that docs/real_data.md lists")
        return 0
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    os.sched_setaffinity(0, cores)
    peaks, walls, said = [], [], ""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        for repeat in range(options.repeats):
            output = Path(name) / f"out{repeat}"
            command = [sys.executable, "-m", "beam_pipeline", "--config", str(CONFIG), "--output", str(output)]
            peak, wall = watched(command)
            peaks.append(peak)
            walls.append(wall)
            said = outcomes(output)
    note = f"slowest of {options.repeats}, {len(cores)} cores"
    rows = [Row("wall time", max(walls), "s", f"{said}; {note}"), Row("peak PSS", max(peaks), "MB", "all processes")]
    versions = package_versions("apache-beam", "pyarrow", "h5py", "av", "numpy")
    return finish(Report("The job on published recordings", rows, BARS, versions), options.json, options.check)


if __name__ == "__main__":
    sys.exit(main())
