"""The session and the turns of the same job written by hand on Ray Data, at the fastest of several settings."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from benchmarks.harness import Row
from benchmarks.runner_lanes import (
    STORE_MB,
    Build,
    Lane,
    Measured,
    Outcome,
    Settings,
    Side,
    Work,
    median_ratio,
    quiet_session,
    run_beam,
    side_row,
    take_turns,
    told,
    workers,
)

THREADS = 2
Finish = Callable[[Outcome], Outcome]


@contextmanager
def ray_data_session() -> Iterator[None]:
    """Ray with THREADS logical cores and the same object store as RayRunner's."""
    import ray

    ray.init(
        address="local",
        num_cpus=THREADS,
        object_store_memory=STORE_MB * 1_000_000,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def _same(outcome: Outcome) -> Outcome:
    return outcome


def run_beam_then(runner: str, flags: Sequence[str], build: Build, finish: Finish) -> Outcome:
    """A pipeline's run, whose results are then read where it wrote them."""
    return finish(run_beam(runner, flags, build))


def against_ray_data(
    name: str,
    size: Row,
    build: Build,
    ways: Mapping[str, Work],
    expected: Mapping[str, int],
    settings: Settings,
    finish: Finish = _same,
) -> Measured:
    """Both in turns; the ratio is RayRunner's time over that of the fastest of `ways`, each run twice to choose."""
    flags = workers(THREADS)
    with Lane("RayRunner", quiet_session) as ours_lane, Lane("Ray Data", ray_data_session) as rival_lane:
        tried = {}
        for way, work in ways.items():
            side = Side(rival_lane, work, expected, way)
            if not settings.quick:
                side.run()
            tried[way] = side.run()
        best = min(tried, key=lambda way: tried[way])
        ours = functools.partial(run_beam_then, settings.runner, flags, build, finish)
        sides = [
            Side(ours_lane, ours, expected, told(settings.runner, flags)),
            Side(rival_lane, ways[best], expected, f"{best}, num_cpus={THREADS}"),
        ]
        seconds = take_turns(sides, settings)
    others = "; ".join(f"{way}: {tried[way]:.2f} s" for way in sorted(tried, key=lambda way: tried[way]))
    rows = [
        size,
        *itertools.starmap(functools.partial(side_row, name), zip(sides, seconds, strict=True)),
        Row(f"{name}: Ray Data's ways", len(ways), "tried", others),
        Row(f"{name}: ratio", median_ratio(*seconds), "x", "RayRunner's time over Ray Data's"),
    ]
    return Measured(rows, [settings.bar(f"{name}: ratio", "max", 1.0)])
