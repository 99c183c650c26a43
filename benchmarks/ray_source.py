"""The Beam read of recordings against a Ray Data read that feeds the same pipeline, on RayRunner with two workers.

    python -m benchmarks.ray_source [--megabytes 200] [--seconds 20] [--json FILE] [--check]

One corpus of each kind, read by each side in turns (A B, B A) after a run that is not counted; each side lives in a
process of its own with a Ray of two CPUs that stays up. The time is that of building and running a pipeline that loads
all recordings and adds up their steps; the Ray Data read happens while it is built, and needs the CPUs of the warm
workers, which end for it and start again. A third side, without a bar, is the Ray Data read alone, from the plan to the
last block. Steps and recordings are compared with what was written. The bar: what `--read_with` defaults to, the Beam
read, takes no longer than the other.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from beam_pipeline.options import DEFAULT_READ, ReadWith
from benchmarks import corpora
from benchmarks.harness import Report, Row, finish, package_versions, parser
from benchmarks.ray_source_arms import Execute, Inputs, Load
from benchmarks.runner_lanes import (
    RAY_RUNNER,
    Lane,
    Settings,
    Side,
    median_ratio,
    quiet_session,
    side_row,
    take_turns,
    told,
    workers,
)
from transforms.conventions import Source

CAMERAS = ("image_0", "image_1")
CORPORA: Mapping[str, Callable[[Path, float], corpora.Corpus]] = {
    "rlds": lambda folder, size: corpora.write_rlds(folder / "1.0.0", size, corpora.ROBOT, CAMERAS, 100),
    "lerobot": lambda folder, size: corpora.write_lerobot(folder, size, group_per_episode=True),
    "hdf5": lambda folder, size: corpora.write_isaac(folder, size, ()),
}
READS: Mapping[ReadWith, str] = {"beam": "Beam read", "ray_data": "Ray Data read"}


def compare(name: str, corpus: corpora.Corpus, settings: Settings) -> list[Row]:
    """Both reads of one corpus: their medians and the ratio of the default to the other."""
    inputs = Inputs((Source(name, str(corpus.folder)),))
    expected = {"count": corpus.episodes, "total": corpus.steps}
    flags = workers(2)
    other = next(read for read in READS if read != DEFAULT_READ)
    with (
        Lane(READS[DEFAULT_READ], quiet_session) as ours,
        Lane(READS[other], quiet_session) as theirs,
        Lane("Ray Data alone", quiet_session) as alone,
    ):
        sides = [
            Side(lane, Load(inputs, read, settings.runner, flags), expected, told(settings.runner, flags))
            for lane, read in ((ours, DEFAULT_READ), (theirs, other))
        ]
        sides.append(Side(alone, Execute(inputs, flags), expected, "read into the object store, no pipeline"))
        seconds = take_turns(sides, settings)
    size = f"{corpus.megabytes:.0f} MB, {corpus.episodes} recordings, {corpus.steps} steps"
    ratio = median_ratio(seconds[0], seconds[1])
    return [
        *(side_row(name, side, found) for side, found in zip(sides, seconds, strict=True)),
        Row(f"{name}: ratio", ratio, "x", f"{READS[DEFAULT_READ]} over {READS[other]}, {size}"),
    ]


def measure(megabytes: float, settings: Settings) -> Report:
    """Every kind of corpus in turn, deleted before the next is written."""
    rows: list[Row] = []
    for name, write in CORPORA.items():
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as place:
            rows += compare(name, write(Path(place) / name, megabytes), settings)
    bars = [settings.bar(row.name, "max", 1.0) for row in rows if row.name.endswith(": ratio")]
    return Report("Recordings into a pipeline", rows, bars, package_versions("apache-beam", "ray", "pyarrow", "h5py"))


def main() -> int:
    """Measure, print, judge."""
    arguments = parser((__doc__ or "").partition("\n")[0])
    arguments.add_argument("--megabytes", type=float, default=200, help="size of each corpus, in 1e6 bytes")
    arguments.add_argument("--seconds", type=float, default=20.0, help="how long each side runs at least, in all")
    arguments.add_argument("--quick", action="store_true", help="one round, no bar binds")
    arguments.add_argument("--runner", default=RAY_RUNNER, help="a runner's class or Beam name; another tests the arms")
    options = arguments.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    settings = Settings(options.runner, options.seconds, options.quick)
    return finish(measure(options.megabytes, settings), options.json, options.check)


if __name__ == "__main__":
    sys.exit(main())
