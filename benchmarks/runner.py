"""RayRunner against Beam's FnApiRunner, against itself, and against the same job by hand on Ray Data.

    python -m benchmarks.runner [--arm NAME ...] [--seconds 20] [--quick] [--runner CLASS] [--json FILE] [--check]

Every side lives in a process of its own that holds one session open, so that nobody pays for a start. The sides run in
turns, A B, B A, after a run of each that is not counted, until each has run `--seconds` in all and at least three
times. A side's figure is the median of its runs, a ratio the median of the rounds' ratios. The time is that of
`pipeline.run()` and `wait_until_finish()`, or of the Ray Data call that consumes. Each run's result, counted in the
pipeline itself, is compared with what is right; an arm that gets it wrong, or fails, is a bar missed.

- flatmap, reshuffle, group_small, group_large: RayRunner at two workers against FnApiRunner.
- cpu_map: pure Python on one, two and four workers. vertical: NumPy and numba hinted `cpu_count` 1 and 2.
- records, inference: the same functions in Beam and on Ray Data, both with two logical cores and the same object store;
  Ray Data runs the fastest of several settings.
- tiny_bundle: bundles of one element. second_pipeline, cold: until the first element is in user code.
- stream: 4 GB through a 500 MB object store.

`--quick` shrinks every job to a smoke test, where no bar binds.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence

from benchmarks import runner_beam, runner_inference, runner_latency, runner_records, runner_scaling, runner_stream
from benchmarks.harness import Bar, Report, Row, finish, package_versions, parser
from benchmarks.runner_lanes import RAY_RUNNER, Measured, Settings

ARMS: dict[str, Callable[[Settings], Measured]] = {
    "flatmap": runner_beam.flatmap,
    "reshuffle": runner_beam.reshuffle,
    "group_small": runner_beam.group_small,
    "group_large": runner_beam.group_large,
    "cpu_map": runner_scaling.cpu_map,
    "vertical": runner_scaling.vertical,
    "records": runner_records.records,
    "inference": runner_inference.inference,
    "tiny_bundle": runner_latency.tiny_bundle,
    "second_pipeline": runner_latency.second_pipeline,
    "cold": runner_latency.cold,
    "stream": runner_stream.stream,
}


def measure(arms: Sequence[str], settings: Settings) -> Report:
    """Every asked arm, one after the other."""
    rows: list[Row] = []
    bars: list[Bar] = []
    for name in arms:
        try:
            measured = ARMS[name](settings)
        except RuntimeError as error:
            failed = f"{name}: failed"
            measured = Measured([Row(failed, 1, "arms", str(error))], [Bar(failed, "max", 0)])
        rows += measured.rows
        bars += measured.bars
    versions = package_versions("apache-beam", "ray", "numpy", "numba", "pyarrow", "pillow")
    title = f"{settings.runner.rpartition('.')[2]}: time, scaling, latency, memory" + " (smoke test)" * settings.quick
    return Report(title, rows, bars, versions)


def main() -> int:
    """Measure, print, judge."""
    arguments = parser((__doc__ or "").partition("\n")[0])
    arguments.add_argument("--arm", nargs="+", choices=ARMS, default=list(ARMS), metavar="NAME", help=", ".join(ARMS))
    arguments.add_argument("--seconds", type=float, default=20.0, help="how long each side runs at least, in all")
    arguments.add_argument("--quick", action="store_true", help="small jobs, one round, no bar binds")
    arguments.add_argument("--runner", default=RAY_RUNNER, help="a runner's class or Beam name; another tests the arms")
    options = arguments.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    settings = Settings(options.runner, options.seconds, options.quick)
    return finish(measure(options.arm, settings), options.json, options.check)


if __name__ == "__main__":
    sys.exit(main())
