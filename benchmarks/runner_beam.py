"""RayRunner at two workers against Beam's in-process FnApiRunner: element-wise work, Reshuffle, GroupByKey."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import apache_beam as beam

from benchmarks.harness import Row
from benchmarks.runner_lanes import (
    FN_API_RUNNER,
    Build,
    Lane,
    Measured,
    Settings,
    Side,
    Tally,
    median_ratio,
    quiet_session,
    run_beam,
    side_row,
    take_turns,
    told,
    workers,
)

PER_SEED = 1000
KEYS = 5000
LARGE_KEYS = 32
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Job:
    """A pipeline, what Tally must count in it, and its size in words."""

    build: Build
    expected: Mapping[str, int]
    size: float
    unit: str
    note: str


def expand(seed: int) -> Iterator[int]:
    """PER_SEED consecutive numbers."""
    return iter(range(seed * PER_SEED, (seed + 1) * PER_SEED))


def numbers(pipeline: beam.Pipeline, count: int) -> beam.PCollection[int]:
    """0 .. count - 1, made from count / PER_SEED seeds."""
    return pipeline | "Seed" >> beam.Create(range(count // PER_SEED)) | "Expand" >> beam.FlatMap(expand)


def add_one(number: int) -> int:
    """The work of a Map that costs nothing but its call."""
    return number + 1


def key_of(number: int) -> tuple[int, int]:
    """A number under one of KEYS keys."""
    return number % KEYS, number


def sum_values(group: tuple[int, Iterable[int]]) -> int:
    """Sum of a group's values, all read."""
    return sum(group[1])


def large_value(index: int) -> tuple[int, bytes]:
    """A megabyte that begins with its index, under one of LARGE_KEYS keys."""
    return index % LARGE_KEYS, index.to_bytes(8, "big") + bytes([index % 251]) * (MEGABYTE - 8)


def sum_large(group: tuple[int, Iterable[bytes]]) -> int:
    """Sum of a group's indexes and of the megabytes' lengths, all read."""
    return sum(int.from_bytes(value[:8], "big") + len(value) for value in group[1])


def build_flatmap(count: int, pipeline: beam.Pipeline) -> None:
    """FlatMap and three Maps."""
    mapped = numbers(pipeline, count)
    for name in ("AddFirst", "AddSecond", "AddThird"):
        mapped |= name >> beam.Map(add_one)
    mapped | "Tally" >> beam.ParDo(Tally())


def build_reshuffle(count: int, pipeline: beam.Pipeline) -> None:
    """Numbers through one Reshuffle."""
    numbers(pipeline, count) | "Reshuffle" >> beam.Reshuffle() | "Tally" >> beam.ParDo(Tally())


def build_group_small(count: int, pipeline: beam.Pipeline) -> None:
    """Pairs of whole numbers grouped under KEYS keys."""
    grouped = numbers(pipeline, count) | "Key" >> beam.Map(key_of) | "Group" >> beam.GroupByKey()
    grouped | "Sum" >> beam.Map(sum_values) | "Tally" >> beam.ParDo(Tally())


def build_group_large(count: int, pipeline: beam.Pipeline) -> None:
    """Megabytes grouped under LARGE_KEYS keys; they are made in the pipeline, from seeds."""
    made = pipeline | "Seed" >> beam.Create(range(count)) | "Inflate" >> beam.Map(large_value)
    made | "Group" >> beam.GroupByKey() | "Sum" >> beam.Map(sum_large) | "Tally" >> beam.ParDo(Tally())


def flatmap_job(settings: Settings) -> Job:
    """1M ints."""
    n = settings.size(1_000_000, 20_000)
    expected = {"count": n, "total": n * (n - 1) // 2 + 3 * n}
    return Job(functools.partial(build_flatmap, n), expected, n, "ints", "FlatMap + 3 Map")


def reshuffle_job(settings: Settings) -> Job:
    """250k ints."""
    n = settings.size(250_000, 10_000)
    expected = {"count": n, "total": n * (n - 1) // 2}
    return Job(functools.partial(build_reshuffle, n), expected, n, "ints", "FlatMap, Reshuffle")


def group_small_job(settings: Settings) -> Job:
    """250k pairs."""
    n = settings.size(250_000, 10_000)
    expected = {"count": min(n, KEYS), "total": n * (n - 1) // 2}
    return Job(functools.partial(build_group_small, n), expected, n, "pairs", f"GroupByKey, {KEYS} keys")


def group_large_job(settings: Settings) -> Job:
    """256 values of 1 MB."""
    n = settings.size(256, 16)
    expected = {"count": min(n, LARGE_KEYS), "total": n * (n - 1) // 2 + n * MEGABYTE}
    note = f"GroupByKey, values of 1 MB, {min(n, LARGE_KEYS)} keys"
    return Job(functools.partial(build_group_large, n), expected, n, "MB", note)


def against_fn_api(name: str, job: Job, limit: float, settings: Settings) -> Measured:
    """Both runners in turns; the ratio is RayRunner's time over FnApiRunner's."""
    flags = workers(2)
    with Lane("RayRunner", quiet_session) as ours_lane, Lane(FN_API_RUNNER, quiet_session) as bare_lane:
        sides = [
            Side(lane, functools.partial(run_beam, runner, given, job.build), job.expected, told(runner, given))
            for lane, runner, given in ((ours_lane, settings.runner, flags), (bare_lane, FN_API_RUNNER, ()))
        ]
        seconds = take_turns(sides, settings)
    rows = [Row(f"{name}: size", job.size, job.unit, job.note)]
    rows += itertools.starmap(functools.partial(side_row, name), zip(sides, seconds, strict=True))
    rows.append(Row(f"{name}: ratio", median_ratio(*seconds), "x", "RayRunner's time over FnApiRunner's"))
    return Measured(rows, [settings.bar(f"{name}: ratio", "max", limit)])


def flatmap(settings: Settings) -> Measured:
    """1M ints, FlatMap + 3 Map."""
    return against_fn_api("flatmap", flatmap_job(settings), 0.60, settings)


def reshuffle(settings: Settings) -> Measured:
    """Reshuffle of 250k ints."""
    return against_fn_api("reshuffle", reshuffle_job(settings), 0.70, settings)


def group_small(settings: Settings) -> Measured:
    """GroupByKey of 250k pairs of ints."""
    return against_fn_api("group_small", group_small_job(settings), 0.95, settings)


def group_large(settings: Settings) -> Measured:
    """GroupByKey of 256 values of 1 MB."""
    return against_fn_api("group_large", group_large_job(settings), 0.90, settings)
