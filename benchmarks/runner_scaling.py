"""RayRunner against itself: more workers for pure Python, more threads a worker for NumPy and numba."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import apache_beam as beam
import numpy as np

from benchmarks.harness import Row
from benchmarks.runner_lanes import (
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

SEEDS = 20
TURNS = 150_000
SIDE = 1536
LOOP = 60_000_000


def burn(seed: int) -> int:
    """About 10 ms of pure Python: TURNS turns of a linear congruential generator."""
    state = seed % SEEDS
    for _ in range(TURNS):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
    return state


def multiply(seed: int) -> int:
    """Four float32 products of SIDE x SIDE matrices of small whole numbers, so exact in any order; returns a trace."""
    grid = np.arange(SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
    left, right = (grid + seed % SEEDS) % 7, (grid * 3 + seed % SEEDS) % 5
    total = 0
    for _ in range(4):
        total += int(np.trace(left @ right))
    return total


@functools.cache
def _kernel() -> Callable[[int, int], int]:
    import numba

    @numba.njit(parallel=True, cache=False)
    def mix(seed: int, count: int) -> int:
        total = 0
        for index in numba.prange(count):
            value = (index + seed) * 2654435761 & 0xFFFFFFFF
            value ^= value >> 15
            total += (value * 2246822519 & 0xFFFFFFFF) >> 20
        return total

    return mix


def hash_range(seed: int) -> int:
    """Sum of the mixed bits of LOOP consecutive numbers, in numba's parallel loop."""
    return int(_kernel()(seed % SEEDS, LOOP))


class Call(beam.DoFn):
    """A function of the element; `setup` calls it once, so that compiling is not timed where the worker stays."""

    def __init__(self, work: Callable[[int], int]) -> None:
        self._work = work

    def setup(self) -> None:
        self._work(0)

    def process(self, element: int) -> list[int]:
        return [self._work(element)]


def build_map(work: Callable[[int], int], count: int, hints: dict[str, Any], pipeline: beam.Pipeline) -> None:
    """`work` on each of `count` numbers, under resource hints."""
    spread = pipeline | "Seed" >> beam.Create(range(count)) | "Spread" >> beam.Reshuffle()
    worked = spread | "Work" >> beam.ParDo(Call(work)).with_resource_hints(**hints)
    worked | "Tally" >> beam.ParDo(Tally())


def _expected(work: Callable[[int], int], count: int) -> dict[str, int]:
    by_seed = [work(seed) for seed in range(min(SEEDS, count))]
    return {"count": count, "total": sum(by_seed[index % SEEDS] for index in range(count))}


def _measure(
    name: str, variants: Sequence[tuple[str, tuple[str, ...], Build]], expected: dict[str, int], settings: Settings
) -> tuple[list[Row], list[list[float]]]:
    with ExitStack() as stack:
        sides = []
        for lane_name, flags, build in variants:
            lane = stack.enter_context(Lane(lane_name, quiet_session))
            work = functools.partial(run_beam, settings.runner, flags, build)
            sides.append(Side(lane, work, expected, told(settings.runner, flags)))
        seconds = take_turns(sides, settings)
    return [side_row(name, side, runs) for side, runs in zip(sides, seconds, strict=True)], seconds


def cpu_map(settings: Settings) -> Measured:
    """Pure Python on one, two and four workers; four are logical where the machine has fewer cores."""
    count = settings.size(800, 8)
    build = functools.partial(build_map, burn, count, {})
    variants = [(f"{n} worker" + "s" * (n > 1), workers(n), build) for n in (1, 2, 4)]
    sides, (one, two, four) = _measure("cpu_map", variants, _expected(burn, count), settings)
    rows = [
        Row("cpu_map: size", count, "elements", f"{TURNS} turns of a Python loop each"),
        *sides,
        Row("cpu_map: speed-up of 2", median_ratio(one, two), "x", "time of one worker over that of two"),
        Row("cpu_map: speed-up of 4", median_ratio(one, four), "x", "time of one worker over that of four"),
    ]
    bars = [settings.bar("cpu_map: speed-up of 2", "min", 1.85), settings.bar("cpu_map: speed-up of 4", "min", 1.8)]
    return Measured(rows, bars)


def vertical(settings: Settings) -> Measured:
    """One worker hinted `cpu_count=2` against one hinted `cpu_count=1`: NumPy's product and numba's parallel loop."""
    rows: list[Row] = []
    bars = []
    kernels = (
        ("numpy", multiply, settings.size(40, 2), f"elements, each 4 float32 products of {SIDE} x {SIDE}"),
        ("numba", hash_range, settings.size(100, 2), f"elements, each a parallel loop of {LOOP} turns"),
    )
    for kernel, work, count, note in kernels:
        name = f"vertical {kernel}"
        variants = [
            (f"cpu_count={n}", workers(1), functools.partial(build_map, work, count, {"cpu_count": str(n)}))
            for n in (1, 2)
        ]
        sides, (one, two) = _measure(name, variants, _expected(work, count), settings)
        rows += [
            Row(f"{name}: size", count, "elements", note.removeprefix("elements, ")),
            *sides,
            Row(f"{name}: speed-up", median_ratio(one, two), "x", "time with cpu_count=1 over that with cpu_count=2"),
        ]
        bars.append(settings.bar(f"{name}: speed-up", "min", 1.6))
    return Measured(rows, bars)
