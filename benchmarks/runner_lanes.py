"""The sides of a comparison, each in a process of its own that stays warm, and the turns that they take."""

from __future__ import annotations

import logging
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipeline.runner import PipelineLifecycleManager, resolve_runner
from benchmarks.harness import Bar, Row

RAY_RUNNER = "beam_pipeline.runner.RayRunner"
FN_API_RUNNER = "FnApiRunner"
NAMESPACE = "benchmark"
ROUNDS_MIN = 3
STORE_MB = 2000


@dataclass(frozen=True)
class Settings:
    """How long and how large: `seconds` each side is run at least, `quick` shrinks every job and binds no bar."""

    runner: str = RAY_RUNNER
    seconds: float = 20.0
    quick: bool = False

    def size(self, full: int, quick: int) -> int:
        """A job's size, full or for a smoke test."""
        return quick if self.quick else full

    def bar(self, row: str, kind: str, limit: float) -> Bar:
        """A bar on one row; sizes of a smoke test say nothing, so there it binds not."""
        return Bar(row, "min" if kind == "min" else "max", limit, binding=not self.quick)


@dataclass(frozen=True)
class Measured:
    """What one arm found."""

    rows: Sequence[Row]
    bars: Sequence[Bar]


@dataclass(frozen=True)
class Outcome:
    """One run: wall seconds, and what it produced, as whole numbers that are compared with what is right."""

    seconds: float
    results: Mapping[str, int] = field(default_factory=dict)


Work = Callable[[], Outcome]
Build = Callable[[beam.Pipeline], object]


class Tally(beam.DoFn):
    """Counts bundles and elements and adds the elements up, told as metrics once a bundle."""

    def start_bundle(self) -> None:
        self._count = self._total = 0

    def process(self, number: int) -> None:
        self._count += 1
        self._total += number

    def finish_bundle(self) -> None:
        for name, value in (("bundles", 1), ("count", self._count), ("total", self._total)):
            beam.metrics.Metrics.counter(NAMESPACE, name).inc(value)


def run_beam(runner: str, flags: Sequence[str], build: Build) -> Outcome:
    """Build a pipeline, then run and wait; only the latter counts. Results: the committed counters of Tally."""
    pipeline = beam.Pipeline(runner=resolve_runner(runner), options=PipelineOptions(list(flags)))
    build(pipeline)
    started = time.perf_counter()
    result = pipeline.run()
    result.wait_until_finish()
    seconds = time.perf_counter() - started
    found = result.metrics().query(beam.metrics.MetricsFilter().with_namespace(NAMESPACE))
    return Outcome(seconds, {c.key.metric.name: int(c.committed) for c in found["counters"]})


def workers(count: int) -> tuple[str, ...]:
    """The flags of a RayRunner with this many workers, no more and no less."""
    return (f"--ray_workers_min={count}", f"--ray_workers_max={count}", f"--ray_object_store_mb={STORE_MB}")


@contextmanager
def quiet_session() -> Iterator[None]:
    """One session of the runner, held open for all pipelines of a lane."""
    logging.getLogger().setLevel(logging.ERROR)
    with PipelineLifecycleManager():
        yield


def _serve(pipe: Connection, session: Callable[[], AbstractContextManager[object]]) -> None:
    with session():
        while True:
            try:
                work: Work = pipe.recv()
            except EOFError:
                return
            pipe.send(work())


class Lane:
    """A process that holds one session open and runs what it is given, one after the other."""

    def __init__(self, name: str, session: Callable[[], AbstractContextManager[object]] = nullcontext) -> None:
        self.name = name
        self._session = session

    def __enter__(self) -> Lane:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._session), name=self.name, daemon=True)
        self._process.start()
        theirs.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(60)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(10)

    @property
    def pid(self) -> int:
        """The process to whose children the session's processes belong."""
        return self._process.pid or 0

    def run(self, work: Work) -> Outcome:
        """One run of a piece of work; raises RuntimeError where the process ends in it."""
        self._pipe.send(work)
        try:
            return self._pipe.recv()
        except EOFError as error:
            raise RuntimeError(
                f"{self.name}: its process ended in the middle of a run; its traceback is above"
            ) from error


@dataclass(frozen=True)
class Side:
    """One side of a comparison: where it runs, what, and what must come out. `told` is its setting in words."""

    lane: Lane
    work: Work
    expected: Mapping[str, int]
    told: str

    def run(self) -> float:
        """Seconds of one run; raises RuntimeError where it did not produce what it must."""
        outcome = self.lane.run(self.work)
        wrong = {name: outcome.results.get(name) for name in self.expected}
        if wrong != dict(self.expected):
            raise RuntimeError(f"{self.lane.name} produced {wrong} where {dict(self.expected)} is right ({self.told})")
        return outcome.seconds


def take_turns(sides: Sequence[Side], settings: Settings) -> list[list[float]]:
    """Seconds of every run, by side: one run of each that is not counted, then rounds A B, B A, A B.

    Ends when every side has run `settings.seconds` and ROUNDS_MIN rounds; after one round where `quick`.
    """
    for side in sides:
        side.run()
    seconds: list[list[float]] = [[] for _ in sides]
    rounds_min, seconds_min = (1, 0.0) if settings.quick else (ROUNDS_MIN, settings.seconds)
    while len(seconds[0]) < rounds_min or min(map(sum, seconds)) < seconds_min:
        order = range(len(sides)) if len(seconds[0]) % 2 == 0 else reversed(range(len(sides)))
        for index in order:
            seconds[index].append(sides[index].run())
    return seconds


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median, round by round, of one side's seconds over the other's."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def side_row(name: str, side: Side, seconds: Sequence[float]) -> Row:
    """One side's median, with its setting."""
    note = f"median of {len(seconds)} runs, {sum(seconds):.0f} s in all; {side.told}"
    return Row(f"{name}: {side.lane.name}", statistics.median(seconds), "s", note)


def told(runner: str, flags: Sequence[str]) -> str:
    """A Beam side's setting in words."""
    return f"{runner.rpartition('.')[2]}({' '.join(flags)})"
