"""Findings whose numbers are JSON-safe and the same on any machine, and runs of steps as intervals."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.arrays import column_matrix, rounded
from transforms.episode import Finding
from transforms.schema import VALID

Flags = NDArray[np.bool_]
Times = NDArray[np.int64]


def measured(
    stage: str,
    check: str,
    value: float,
    unit: str = "",
    frames: tuple[int, int] | None = None,
    times: Times | None = None,
    detail: str = "",
) -> Finding:
    """A measurement; `frames` is the inclusive range of steps, whose times (T,) ns give the interval."""
    interval = None
    if frames is not None:
        frames = (int(frames[0]), int(frames[1]))
        if times is not None:
            interval = (int(times[frames[0]]), int(times[frames[1]]))
    return Finding(stage, check, rounded(float(value)), unit, interval, frames, detail)


def not_run(stage: str, check: str, reason: str, unit: str = "") -> Finding:
    """A check that could not be made, and what to declare or record so that it can."""
    return Finding(stage, check, None, unit, detail=reason, status="not_run")


def transition_starts(steps: pa.RecordBatch) -> Flags:
    """(T,) whether a complete transition starts at a step; everywhere where none has been marked."""
    valid = column_matrix(steps, VALID)
    return np.ones(steps.num_rows, bool) if valid is None else np.asarray(valid[:, 0] > 0)


def in_transitions(steps: pa.RecordBatch) -> Flags:
    """(T,) whether a step is the state s or the next state s' of a transition."""
    starts = transition_starts(steps)
    return np.asarray(starts | np.append(False, starts[:-1]))


def runs(flags: Flags) -> NDArray[np.int64]:
    """(N, 2) inclusive first and last index of each run of True in (T,) flags."""
    edges = np.diff(np.concatenate(([False], flags, [False])).astype(np.int8))
    return np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1], axis=1)


def longest_run(flags: Flags) -> tuple[int, int] | None:
    """Inclusive range of the longest run of True, the first of equals; None where nothing is True."""
    found = runs(flags)
    if not len(found):
        return None
    first, last = found[np.argmax(found[:, 1] - found[:, 0])]
    return int(first), int(last)
