"""Values of one clock at the times of another: interpolated, slerped, held or nearest, and never across a gap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transforms.arrays import Floats
from transforms.clocks import Rows, Times, period_ns, reach_ns

ANTIALIAS_RATIO = 1.5
CUTOFF = 0.4
"""Low-pass edge (-6 dB) as a share of the new rate; the stop band starts at its Nyquist frequency, 0.5."""
_TAPS_PER_RATIO = 18.1
_GRID_PER_ROW = 8
_KAISER_BETA = 5.65
"""Kaiser window of 60 dB over a transition of 0.2 of the new rate: N = (60 - 7.95) / (2.285 * 2 pi * 0.2) * ratio."""


@dataclass(frozen=True, eq=False)
class Bracket:
    """For each of K wanted times: rows before and after it (K,), weight of the later (K,), and whether it has data."""

    before: Rows
    after: Rows
    weight: Floats
    reached: NDArray[np.bool_]


def bracket(times: Times, wanted: Times) -> Bracket:
    """Rows of the increasing clock `times` (T,) around each wanted time; not reached outside it or in a gap."""
    last = len(times) - 1
    after = np.minimum(np.searchsorted(times, wanted, "left"), last)
    before = np.maximum(np.where(times[after] == wanted, after, after - 1), 0)
    span = times[after] - times[before]
    weight = np.where(span > 0, (wanted - times[before]) / np.maximum(span, 1), 0.0)
    inside = (wanted >= times[0]) & (wanted <= times[last])
    return Bracket(before, after, np.clip(weight, 0.0, 1.0), inside & (span <= reach_ns(times)))


def held(times: Times, wanted: Times) -> Rows:
    """Row of the latest stamp at or before each wanted time; -1 where there is none."""
    return np.searchsorted(times, wanted, "right") - 1


def nearest(times: Times, wanted: Times, tolerance_ns: float) -> Rows:
    """Row of the nearest stamp (the earlier of two), -1 where none is in tolerance. `times` ascending, T >= 1."""
    after = np.minimum(np.searchsorted(times, wanted, "left"), len(times) - 1)
    before = np.maximum(after - 1, 0)
    chosen = np.where(np.abs(wanted - times[before]) <= np.abs(times[after] - wanted), before, after)
    return np.where(np.abs(times[chosen] - wanted) <= tolerance_ns, chosen, -1)


def low_pass(times: Times, values: Floats, new_period_ns: float) -> Floats:
    """Zero-phase FIR low-pass of (T, D) values, cut at 0.4 of the new rate, each gap-free run by itself.

    Filters on a uniform grid of the median period and reads the result back at `times`; of stamps that come in bursts
    the grid has no more than _GRID_PER_ROW points a row. Rows that are not finite are bridged for the filter and come
    back NaN.
    """
    step = np.diff(times)
    period = max(period_ns(times), step[step <= reach_ns(times)].sum() / (_GRID_PER_ROW * max(len(times), 1)))
    ratio = new_period_ns / period if len(times) > 1 else 1.0
    if not ratio > ANTIALIAS_RATIO:
        return values
    half = int(np.ceil(_TAPS_PER_RATIO * ratio / 2))
    from scipy.signal import firwin  # three times as long to import as all else that readers need

    taps = firwin(2 * half + 1, CUTOFF / ratio, window=("kaiser", _KAISER_BETA), fs=1.0)
    out = np.full_like(values, np.nan)
    edges = np.flatnonzero(np.diff(times) > reach_ns(times)) + 1
    for rows in np.split(np.arange(len(times)), edges):
        good = rows[np.isfinite(values[rows]).all(axis=1)]
        if len(good):
            out[good] = _low_pass_run(times[good], values[good], period, taps, half)
    return out


def _low_pass_run(times: Times, values: Floats, period: float, taps: Floats, half: int) -> Floats:
    """One run without gaps; ends are mirrored through their end point, which keeps a constant slope as it is."""
    if len(times) < 2:
        return values
    seconds = (times - times[0]) / period
    grid = np.linspace(0.0, seconds[-1], int(np.ceil(seconds[-1])) + 1)
    uniform = np.stack([np.interp(grid, seconds, column) for column in values.T], axis=1)
    padded = np.pad(uniform, ((half, half), (0, 0)), mode="reflect", reflect_type="odd")
    from scipy.signal import fftconvolve

    smooth = fftconvolve(padded, taps[:, None], mode="valid", axes=0)
    return np.stack([np.interp(seconds, grid, column) for column in smooth.T], axis=1)


def linear(values: Floats, at: Bracket) -> Floats:
    """(T, D) values at K brackets, linearly; rows that are not reached are NaN."""
    early, late, weight = values[at.before], values[at.after], at.weight[:, None]
    out = np.where(weight == 0, early, np.where(weight == 1, late, early + weight * (late - early)))
    out[~at.reached] = np.nan
    return out


def continuous_signs(quaternions: Floats) -> Floats:
    """(T, 4) quaternions with signs chosen so that neighbours lie in one half-space; rows of NaN stay as they are."""
    out = quaternions.copy()
    good = np.flatnonzero(np.isfinite(quaternions).all(axis=1))
    if len(good) > 1:
        dots = (quaternions[good[1:]] * quaternions[good[:-1]]).sum(axis=1)
        out[good[1:]] *= np.cumprod(np.where(dots < 0, -1.0, 1.0))[:, None]
    return out


def slerp(quaternions: Floats, at: Bracket) -> Floats:
    """(T, 4) unit quaternions at K brackets along the shorter arc (Shoemake 1985); NaN where not reached."""
    early, late, weight = quaternions[at.before], quaternions[at.after], at.weight[:, None]
    dots = (early * late).sum(axis=1, keepdims=True)
    late = np.where(dots < 0, -late, late)
    angle = np.arccos(np.clip(np.abs(dots), 0.0, 1.0))
    sine = np.sin(angle)
    near = sine < 1e-6
    divisor = np.where(near, 1.0, sine)
    first = np.where(near, 1.0 - weight, np.sin((1.0 - weight) * angle) / divisor)
    second = np.where(near, weight, np.sin(weight * angle) / divisor)
    # a zero weight must not let the other side's NaN through
    out = np.where(weight == 0, early, np.where(weight == 1, late, first * early + second * late))
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    out[~at.reached] = np.nan
    return out


def totals(values: Floats, times: Times, wanted: Times) -> Floats:
    """Sums (K,) of values (T,) over the source rows of each new step: those from its time up to the next step's."""
    bins = np.clip(held(wanted, times), 0, len(wanted) - 1)
    return np.asarray(np.bincount(bins, np.nan_to_num(values), minlength=len(wanted)), np.float64)


def any_at(flags: NDArray[np.bool_], times: Times, wanted: Times, at_or_after: bool) -> NDArray[np.bool_]:
    """Flags (T,) moved to new steps (K,): to the first step at or after each row, or to the last at or before it."""
    side = np.searchsorted(wanted, times, "left") if at_or_after else held(wanted, times)
    out = np.zeros(len(wanted), np.bool_)
    out[np.clip(side[flags], 0, len(wanted) - 1)] = True
    return out
