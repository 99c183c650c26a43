"""A pipeline with every kind of stage, whose workers can be made to die, and how its outcome is compared."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.coders import VarIntCoder
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.transforms.userstate import BagStateSpec, TimerSpec, on_timer

from beam_pipeline.runner import RayRunner
from tests.processes import command_of, descendants

Place = tuple[str, int]

KEYS = 7
SMALL_BUNDLES = ("--ray_workers_max=2", "--ray_workers_min=2", "--ray_bundle_mb=0.003", "--ray_object_store_mb=200")
SURVIVE = ("--ray_max_system_failures=30",)


@dataclass(frozen=True)
class Deaths:
    """Where a worker kills itself, once each: (what it does, at which number). `folder` remembers who is dead."""

    folder: Path
    places: frozenset[Place] = frozenset()

    def strike(self, doing: str, number: int) -> None:
        """Count the visit; die where that is asked for."""
        Metrics.counter("faults", doing).inc()
        Metrics.distribution("faults", f"{doing}_number").update(number)
        mark = self.folder / f"dead-{doing}-{number}"
        if (doing, number) in self.places and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def not_struck(self) -> list[Place]:
        return [
            (doing, number) for doing, number in self.places if not (self.folder / f"dead-{doing}-{number}").exists()
        ]


class Ranges(RestrictionProvider):  # type: ignore[misc]
    """Elements (start, stop) are read as that range of numbers."""

    def initial_restriction(self, element: tuple[int, int]) -> OffsetRange:
        return OffsetRange(*element)

    def create_tracker(self, restriction: OffsetRange) -> OffsetRestrictionTracker:
        return OffsetRestrictionTracker(restriction)

    def restriction_size(self, element: tuple[int, int], restriction: OffsetRange) -> int:
        return int(restriction.size())


class _Count(beam.DoFn):  # type: ignore[misc]
    """A splittable DoFn: the numbers of a range."""

    RANGE = beam.DoFn.RestrictionParam(Ranges())

    def __init__(self, deaths: Deaths) -> None:
        self._deaths = deaths

    def process(self, element: tuple[int, int], tracker: Any = RANGE) -> Iterator[int]:
        number = tracker.current_restriction().start
        while tracker.try_claim(number):
            self._deaths.strike("read", number)
            yield number
            number += 1


class _Key(beam.DoFn):  # type: ignore[misc]
    def __init__(self, deaths: Deaths) -> None:
        self._deaths = deaths

    def process(self, number: int, weights: Mapping[int, int]) -> Iterator[tuple[int, tuple[int, bytes]]]:
        self._deaths.strike("map", number)
        yield number % KEYS, (number * weights[number % 10], bytes(100))


class _Sum(beam.DoFn):  # type: ignore[misc]
    def __init__(self, deaths: Deaths) -> None:
        self._deaths = deaths

    def process(self, group: tuple[int, Iterable[tuple[int, bytes]]]) -> Iterator[tuple[str, int, int, int]]:
        key, values = group
        total = count = nbytes = 0
        for number, payload in values:
            total, count, nbytes = total + number, count + 1, nbytes + len(payload)
            if count == 3:  # in the midst of a key
                self._deaths.strike("reduce", key)
        yield "sum", key, total, nbytes


class _Remember(beam.DoFn):  # type: ignore[misc]
    """Keeps its values in state, and writes them when the timer fires at the window's end."""

    END = TimerSpec("end", beam.TimeDomain.WATERMARK)
    SET_END = beam.DoFn.TimerParam(END)
    VALUES = beam.DoFn.StateParam(BagStateSpec("values", VarIntCoder()))

    def __init__(self, deaths: Deaths) -> None:
        self._deaths = deaths

    def process(
        self,
        element: tuple[int, tuple[int, bytes]],
        values: Any = VALUES,
        end: Any = SET_END,
        window: Any = beam.DoFn.WindowParam,
    ) -> None:
        self._deaths.strike("state", element[1][0])
        values.add(element[1][0])
        end.set(window.end)

    @on_timer(END)
    def at_the_end(self, key: int = beam.DoFn.KeyParam, values: Any = VALUES) -> Iterator[tuple[str, int, int, int]]:
        self._deaths.strike("timer", key)
        found = list(values.read())
        yield "state", key, sum(found), len(found)


def _write(group: tuple[None, Iterable[Any]], path: Path) -> None:
    path.write_text(repr(sorted(group[1])))


def run_whole_model(deaths: Deaths, count: int, weights_each: int = 1) -> PipelineResult:
    """Start the pipeline over `count` numbers; its output will lie in the folder of `deaths`.

    `weights_each`: entries of the side input, in tens.
    """
    pipeline = beam.Pipeline(runner=RayRunner(), options=PipelineOptions([*SMALL_BUNDLES, *SURVIVE]))
    step = count // 8
    numbers = pipeline | beam.Create([(i * step, (i + 1) * step) for i in range(8)]) | beam.ParDo(_Count(deaths))
    weights = (
        numbers
        | beam.Filter(lambda n: n < 10)
        | beam.FlatMap(lambda n: [(n + 10 * i, n + 1) for i in range(weights_each)])
    )
    keyed = numbers | beam.Reshuffle() | beam.ParDo(_Key(deaths), beam.pvalue.AsDict(weights))
    keyed = keyed | beam.Map(lambda pair: pair).with_output_types(tuple[int, tuple[int, bytes]])
    sums = keyed | beam.GroupByKey() | beam.ParDo(_Sum(deaths))
    remembered = keyed | beam.ParDo(_Remember(deaths))
    collected = (sums, remembered) | beam.Flatten() | beam.Map(lambda row: (None, row)) | "Collect" >> beam.GroupByKey()
    collected | beam.Map(_write, deaths.folder / "output")
    return pipeline.run()


@dataclass(frozen=True)
class Outcome:
    """What a job wrote and counted."""

    output: str
    counters: Mapping[str, int]
    distributions: Mapping[str, tuple[int, int, int, int]]


def outcome(result: PipelineResult, folder: Path) -> Outcome:
    """Wait for the job and read its outcome."""
    assert result.wait_until_finish() == "DONE"
    found = result.metrics().query()
    return Outcome(
        (folder / "output").read_text(),
        {c.key.metric.name: c.committed for c in found["counters"]},
        {
            d.key.metric.name: (d.committed.sum, d.committed.count, d.committed.min, d.committed.max)
            for d in found["distributions"]
        },
    )


def expected(count: int) -> Outcome:
    """The outcome of the whole model, worked out without a runner."""
    count = count // 8 * 8
    values = {k: [n * (n % 10 + 1) for n in range(k, count, KEYS)] for k in range(KEYS)}
    rows = [("sum", k, sum(v), 100 * len(v)) for k, v in values.items()]
    rows += [("state", k, sum(v), len(v)) for k, v in values.items()]
    everything = [n for v in values.values() for n in v]
    seen = {"read": range(count), "map": range(count), "reduce": range(KEYS), "state": everything, "timer": range(KEYS)}
    return Outcome(
        repr(sorted(rows)),
        {name: len(numbers) for name, numbers in seen.items()},
        {f"{name}_number": (sum(ns), len(ns), min(ns), max(ns)) for name, ns in seen.items()},
    )


@dataclass
class Killer:
    """Context in whose time a thread kills workers of this process's Ray: `limit` of those whose title holds `doing`.

    Ray sets a worker's title to the method that it runs. Between two kills it waits as `pauses` say, in seconds.
    """

    doing: str
    limit: int
    pauses: Iterator[float]
    killed: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Killer:
        self._thread = threading.Thread(target=self._hunt)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _hunt(self) -> None:
        self._stop.wait(next(self.pauses))
        while len(self.killed) < self.limit and not self._stop.wait(0.002):
            for pid, title in worker_titles().items():
                if self.doing in title and len(self.killed) < self.limit:
                    os.kill(pid, signal.SIGKILL)
                    self.killed.append(title)
                    self._stop.wait(next(self.pauses))
                    break


_known: dict[int, float] = {}


def worker_titles() -> dict[int, str]:
    """Titles of the bundle workers below this process, by process id."""
    now = time.monotonic()
    if not _known or now - next(iter(_known.values())) > 0.2:  # walking the tree takes milliseconds
        _known.clear()
        _known.update(dict.fromkeys(descendants(os.getpid()), now))
    titles = {}
    for pid in _known:
        title = command_of(pid).partition("\0")[0]
        if title.startswith("ray::BundleWorker"):
            titles[pid] = title
    return titles
