"""Records made, grouped and reduced: Beam on RayRunner against `ray.data` by hand, with the same functions."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable

import apache_beam as beam
import numpy as np
import numpy.typing as npt

from benchmarks.harness import Row
from benchmarks.runner_lanes import Measured, Outcome, Settings, Tally
from benchmarks.runner_rival import against_ray_data

WIDTH = 4096
KEYS = 64
Vector = npt.NDArray[np.float32]
Batch = dict[str, npt.NDArray[np.generic]]


def record(index: int) -> Vector:
    """A record's signal: (WIDTH,) whole numbers below 251 as float32, so that sums are exact in any order."""
    return (np.arange(WIDTH) * (index % 7 + 1) % 251).astype(np.float32)


def keyed_record(index: int) -> tuple[int, Vector]:
    """A record under one of KEYS keys."""
    return index % KEYS, record(index)


def add_up(signals: Iterable[Vector]) -> npt.NDArray[np.float64]:
    """Sum over a group's records: (WIDTH,)."""
    return np.sum(np.stack(list(signals)), axis=0, dtype=np.float64)


def add_up_group(group: tuple[int, Iterable[Vector]]) -> tuple[int, npt.NDArray[np.float64]]:
    """`add_up` of a Beam group."""
    return group[0], add_up(group[1])


def total(keyed: tuple[int, npt.NDArray[np.float64]]) -> int:
    """One whole number a group, which no two keys share by chance."""
    return int(keyed[1].sum()) + keyed[0]


def build(count: int, pipeline: beam.Pipeline) -> None:
    """map, GroupByKey, map."""
    made = pipeline | "Seed" >> beam.Create(range(count)) | "Make" >> beam.Map(keyed_record)
    reduced = made | "Group" >> beam.GroupByKey() | "AddUp" >> beam.Map(add_up_group)
    reduced | "Total" >> beam.Map(total) | "Tally" >> beam.ParDo(Tally())


def _make_batch(batch: Batch) -> Batch:
    return {"key": batch["id"] % KEYS, "signal": np.stack([record(int(index)) for index in batch["id"]])}


def _reduce_batch(batch: Batch) -> Batch:
    return {"key": batch["key"][:1], "sum": batch["signal"].sum(0, dtype=np.float64)[None]}


def _total_batch(batch: Batch) -> Batch:
    return {"total": batch["sum"].sum(1).astype(np.int64) + batch["key"]}


def run_ray_data(strategy: str, partitions: int, count: int) -> Outcome:
    """map_batches, groupby + map_groups, map_batches on NumPy batches; the totals come back to the driver."""
    import ray
    from ray.data.context import ShuffleStrategy

    ray.data.DataContext.get_current().shuffle_strategy = ShuffleStrategy(strategy)
    started = time.perf_counter()
    made = ray.data.range(count).map_batches(_make_batch, batch_format="numpy")
    grouped = made.groupby("key", num_partitions=partitions).map_groups(_reduce_batch, batch_format="numpy")
    rows = grouped.map_batches(_total_batch, batch_format="numpy").take_all()
    seconds = time.perf_counter() - started
    return Outcome(seconds, {"count": len(rows), "total": sum(int(row["total"]) for row in rows)})


def records(settings: Settings) -> Measured:
    """map, GroupBy, map over 16 KB records."""
    count = settings.size(16_000, 64)
    per_record = [int(record(index).sum(dtype=np.float64)) for index in range(7)]
    keys = min(count, KEYS)
    expected = {"count": keys, "total": sum(per_record[i % 7] for i in range(count)) + keys * (keys - 1) // 2}
    settings_tried = [("hash_shuffle", 8), ("sort_shuffle_pull_based", 2), ("sort_shuffle_pull_based", 8)]
    if settings.quick:
        settings_tried = settings_tried[:1]
    ways = {
        f"{strategy}, num_partitions={parts}": functools.partial(run_ray_data, strategy, parts, count)
        for strategy, parts in settings_tried
    }
    megabytes = count * WIDTH * 4 / 1e6
    size = Row("records: size", megabytes, "MB", f"{count} records of {WIDTH} float32, {keys} keys, map - group - map")
    return against_ray_data("records", size, functools.partial(build, count), ways, expected, settings)
