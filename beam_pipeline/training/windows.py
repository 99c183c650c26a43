"""Which rows lie at given times around a step, without leaving its run of unbroken transitions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from beam_pipeline.training.errors import TrainingDataError
from beam_pipeline.training.row_groups import Clock


@dataclass(frozen=True)
class Window:
    """Rows of a part (H,), and (H,) whether each only fills a place where the run has no step."""

    rows: NDArray[np.int64]
    padded: NDArray[np.bool_]


def window(
    clock: Clock,
    row: int,
    first: int,
    stop: int,
    deltas_ns: NDArray[np.int64],
    tolerance_ns: float | None,
    episode: str,
) -> Window:
    """The step nearest to each of `deltas_ns` (H,) around a row of the episode [first, stop), within the row's run.

    A place is padded, with the nearest step of the run, where none is within `tolerance_ns`: by default half of the
    run's median period. Raises TrainingDataError where a step of the run has no time.
    """
    run = int(np.searchsorted(clock.runs, row, side="right")) - 1
    start, end = max(first, int(clock.runs[run])), min(stop, int(clock.runs[run + 1]))
    if not clock.timed[start:end].all():
        raise TrainingDataError(f"episode {episode!r} has steps without timestamp_ns; delta_timestamps need them")
    times = clock.time_ns[start:end]
    now = times[row - start]
    targets = now + deltas_ns
    after = np.minimum(times.searchsorted(targets), len(times) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(np.abs(times[after] - targets) < np.abs(times[before] - targets), after, before)
    nearest[targets == now] = row - start  # of steps that share a stamp, the one that was asked for
    reach = clock.period_ns[run] / 2 if tolerance_ns is None else tolerance_ns
    return Window(nearest + start, np.abs(times[nearest] - targets) > reach)
