"""What a bundle costs that holds nothing, and how soon a pipeline's first element is there, warm and cold."""

from __future__ import annotations

import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipeline.runner import resolve_runner
from benchmarks.harness import Row
from benchmarks.runner_lanes import (
    FN_API_RUNNER,
    Lane,
    Measured,
    Outcome,
    Settings,
    Side,
    Tally,
    quiet_session,
    run_beam,
    side_row,
    take_turns,
    told,
    workers,
)

MANY, FEW = 2000, 20
TINY = "--ray_bundle_mb=0.000001"
SESSIONS = 5
COLD = """
import sys, time
import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from beam_pipeline.runner import PipelineLifecycleManager, resolve_runner

def stamp(number, path):
    import os, time
    if not os.path.exists(path):
        with open(path, "w") as file:
            file.write(str(time.time_ns()))
    return number

with PipelineLifecycleManager():
    pipeline = beam.Pipeline(runner=resolve_runner(sys.argv[1]), options=PipelineOptions(sys.argv[3:]))
    pipeline | beam.Create([1]) | beam.Map(stamp, sys.argv[2])
    pipeline.run().wait_until_finish()
"""
IMPORT = "import sys, time, apache_beam; open(sys.argv[1], 'w').write(str(time.time_ns()))"


def build_bundles(count: int, pipeline: beam.Pipeline) -> None:
    """`count` numbers spread by Create's own Reshuffle, so that only one stage runs a bundle for each."""
    pipeline | "Seed" >> beam.Create(range(count)) | "Tally" >> beam.ParDo(Tally())


def tiny_bundle(settings: Settings) -> Measured:
    """The price of one more bundle of one element, each a commit; Tally counts the bundles that committed."""
    many, few = settings.size(MANY, 100), FEW
    flags = (*workers(2), TINY)
    with Lane("RayRunner", quiet_session) as lane:
        sides = []
        for count in (many, few):
            work = functools.partial(run_beam, settings.runner, flags, functools.partial(build_bundles, count))
            expected = {"bundles": count, "count": count, "total": count * (count - 1) // 2}
            sides.append(Side(lane, work, expected, f"{count} bundles, {told(settings.runner, flags)}"))
        seconds = take_turns(sides, settings)
    each_ms = statistics.median((a - b) / (many - few) * 1e3 for a, b in zip(*seconds, strict=True))
    rows = [
        Row("tiny_bundle: size", many, "bundles", f"of one element; those of {few} are subtracted"),
        side_row(f"tiny_bundle: {many}", sides[0], seconds[0]),
        side_row(f"tiny_bundle: {few}", sides[1], seconds[1]),
        Row("tiny_bundle: each", each_ms, "ms", f"({many} bundles' time - {few} bundles' time) / {many - few}"),
    ]
    return Measured(rows, [settings.bar("tiny_bundle: each", "max", 3.0)])


def stamp(number: int, path: str) -> int:
    """Leave the time at `path` where no element did so before."""
    if not Path(path).exists():
        Path(path).write_text(str(time.time_ns()), encoding="utf-8")
    return number


def first_element(runner: str, flags: Sequence[str], folder: str) -> Outcome:
    """Seconds from before the pipeline is built until its first element is in user code."""
    path = Path(folder) / uuid.uuid4().hex
    started_ns = time.time_ns()
    pipeline = beam.Pipeline(runner=resolve_runner(runner), options=PipelineOptions(list(flags)))
    pipeline | "Seed" >> beam.Create(range(10)) | "Stamp" >> beam.Map(stamp, str(path))
    pipeline.run().wait_until_finish()
    return Outcome((int(path.read_text(encoding="utf-8")) - started_ns) / 1e9)


def second_pipeline(settings: Settings) -> Measured:
    """The first element of the second pipeline in one session, over several sessions of each runner, in turns."""
    flags = workers(2)
    seconds: dict[str, list[list[float]]] = {settings.runner: [], FN_API_RUNNER: []}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        for _ in range(settings.size(SESSIONS, 1)):
            for runner, given in ((settings.runner, flags), (FN_API_RUNNER, ())):
                with Lane(runner, quiet_session) as lane:
                    work = functools.partial(first_element, runner, given, folder)
                    seconds[runner].append([lane.run(work).seconds for _ in range(2)])
    ours, bare = seconds[settings.runner], seconds[FN_API_RUNNER]
    rows = [
        Row("second_pipeline: size", len(ours), "sessions", "fresh ones of each runner; Create of 10, one Map"),
        Row("second_pipeline: first", statistics.median(first for first, *_ in ours), "s", "of the first pipeline"),
        Row(
            "second_pipeline: FnApiRunner",
            statistics.median(second for _, second in bare),
            "s",
            "of its second pipeline",
        ),
        Row(
            "second_pipeline: to first element",
            statistics.median(second for _, second in ours),
            "s",
            f"from before the pipeline is built; {told(settings.runner, flags)}",
        ),
    ]
    return Measured(rows, [settings.bar("second_pipeline: to first element", "max", 0.3)])


def _until_stamped(code: str, path: Path, arguments: Sequence[str]) -> float:
    path.unlink(missing_ok=True)
    started_ns = time.time_ns()
    ended = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    if ended.returncode != 0 or not path.exists():
        raise RuntimeError(f"a fresh process ended with {ended.returncode} and no stamp: {ended.stderr[-2000:]}")
    return (int(path.read_text(encoding="utf-8")) - started_ns) / 1e9


def cold(settings: Settings) -> Measured:
    """From the start of a process to the first element, less what a process takes to import Beam, in turns."""
    flags = workers(2)
    pairs: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        path = Path(folder) / "stamp"
        rounds = settings.size(7, 1)
        for _ in range(rounds + 1):
            ran = _until_stamped(COLD, path, [settings.runner, str(path), *flags])
            imported = _until_stamped(IMPORT, path, [str(path)])
            pairs.append((ran, imported))
    counted = pairs[1:]
    rows = [
        Row("cold: first element", statistics.median(ran for ran, _ in counted), "s", told(settings.runner, flags)),
        Row("cold: import apache_beam", statistics.median(imported for _, imported in counted), "s", "fresh process"),
        Row(
            "cold: over Beam's import",
            statistics.median(ran - imported for ran, imported in counted),
            "s",
            f"{len(counted)} pairs of fresh processes, from their start",
        ),
    ]
    return Measured(rows, [settings.bar("cold: over Beam's import", "max", 1.0)])
