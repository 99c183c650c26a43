"""What a clock says of itself: order, drops, jitter and gaps, from its stamps alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.arrays import rounded
from transforms.episode import TIMESTAMP, Finding

Times = NDArray[np.int64]
Rows = NDArray[np.int64]
MIN_REACH_NS = 100_000_000
"""Gaps up to 100 ms are bridged at any rate."""
_MS = 1e6


def stamps(batch: pa.RecordBatch) -> tuple[Times, NDArray[np.bool_]]:
    """The batch's clock as (T,) int64 ns and where a stamp is present; absent stamps read 0."""
    index = batch.schema.get_field_index(TIMESTAMP)
    if index < 0:
        return np.zeros(batch.num_rows, np.int64), np.zeros(batch.num_rows, np.bool_)
    column = batch.column(index)
    present = np.asarray(column.is_valid().to_numpy(zero_copy_only=False), np.bool_)
    return np.asarray(column.fill_null(0).to_numpy(zero_copy_only=False), np.int64), present


def usable(times: Times, present: NDArray[np.bool_]) -> bool:
    """Whether every stamp is present and later than the one before."""
    return len(times) > 0 and bool(present.all()) and bool((np.diff(times) > 0).all())


def period_ns(times: Times) -> float:
    """Median of the positive steps of a clock; NaN where there is none."""
    steps = np.diff(times)
    steps = steps[steps > 0]
    return float(np.median(steps)) if len(steps) else float("nan")


def reach_ns(times: Times) -> float:
    """The longest gap across which values are interpolated or transitions formed: max(2 * median dt, 100 ms)."""
    period = period_ns(times)
    return max(2.0 * period, float(MIN_REACH_NS)) if np.isfinite(period) else float(MIN_REACH_NS)


def offences(times: Times) -> tuple[Rows, Rows]:
    """Rows whose stamp is earlier than, and rows whose stamp equals, that of the row before."""
    if len(times) < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    step = np.diff(times)
    return np.flatnonzero(step < 0) + 1, np.flatnonzero(step == 0) + 1


def first_run(rows: Rows) -> tuple[int, int]:
    """First and last of the leading run of consecutive rows; `rows` (N,) ascending, N >= 1."""
    breaks = np.flatnonzero(np.diff(rows) != 1)
    return int(rows[0]), int(rows[breaks[0]] if len(breaks) else rows[-1])


def clock_findings(stage: str, name: str, times: Times, present: NDArray[np.bool_], steps: bool) -> tuple[Finding, ...]:
    """Counts of missing, backward and equal stamps, each with its first offence; `not_run` where no stamp is present.

    `steps` says that rows of this clock are steps, so that findings may name them as frames.
    """
    where = f"stream {name}"
    if len(times) and not present.any():
        detail = f"{where} has no time; declare the embodiment's rate_hz"
        checks = ("timestamps.missing", "timestamps.backward", "timestamps.equal")
        return tuple(Finding(stage, check, detail=detail, status="not_run") for check in checks)
    rows = np.flatnonzero(present)
    known = times[present]
    backward, equal = offences(known)
    found = [_count(stage, "timestamps.missing", np.flatnonzero(~present), None, where, steps)]
    for check, offending in (("timestamps.backward", backward), ("timestamps.equal", equal)):
        span = None
        if len(offending):
            first, last = first_run(offending)
            window = known[first - 1 : last + 1]
            span = (int(window.min()), int(window.max()))
        found.append(_count(stage, check, rows[offending], span, where, steps))
    return tuple(found)


def _count(stage: str, check: str, rows: Rows, interval: tuple[int, int] | None, detail: str, steps: bool) -> Finding:
    frames = first_run(rows) if len(rows) and steps else None
    return Finding(stage, check, float(len(rows)), "stamps", interval=interval, frames=frames, detail=detail)


def rate_findings(stage: str, name: str, times: Times, ordered: bool, steps: bool) -> tuple[Finding, ...]:
    """Drop rate, jitter (p95 of |dt - median|) and longest gap of a clock; `not_run` where it is not in order.

    The drop rate is 1 - T / (span / median dt + 1): the share of samples that a steady clock would have had.
    """
    checks = ("alignment.drop_rate", "alignment.jitter_ms", "alignment.max_gap_ms")
    if not ordered or len(times) < 2:
        why = "fewer than two stamps" if ordered else "stamps are missing, equal or run backward"
        return tuple(Finding(stage, check, detail=f"stream {name}: {why}", status="not_run") for check in checks)
    step = np.diff(times)
    period = period_ns(times)
    expected = round((int(times[-1]) - int(times[0])) / period) + 1
    drops = max(0.0, 1.0 - len(times) / expected)
    jitter = float(np.quantile(np.abs(step - period), 0.95)) / _MS
    widest = int(step.argmax())
    interval = (int(times[widest]), int(times[widest + 1]))
    frames = (widest, widest + 1) if steps else None
    detail = f"stream {name}"
    return (
        Finding(stage, checks[0], rounded(drops), "fraction", detail=detail),
        Finding(stage, checks[1], rounded(jitter), "ms", detail=detail),
        Finding(stage, checks[2], rounded(step[widest] / _MS), "ms", interval, frames, detail),
    )
