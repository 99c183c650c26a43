"""Derivatives by true timestamps, noise floors and violating intervals of joint trajectories."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np

from transforms.arrays import Floats
from transforms.measure import Flags, Times, runs

NOISE_GAIN = {1: 2.0, 2: 6.0, 3: 20.0}
"""Variance of the n-th backward difference of white noise of variance 1: binomial(2n, n)."""
_NOISE_ORDER = 6


@dataclass(frozen=True)
class Excess:
    """One violating interval: inclusive step range, the joints in it (worst first) and the worst value."""

    frames: tuple[int, int]
    joints: tuple[int, ...]
    peak: float


def backward_velocity(q: Floats, times_ns: Times) -> Floats:
    """(T, J) `v[t] = (q[t] - q[t-1]) / (time[t] - time[t-1])` per s: the speed with which step t was reached.

    `v[0]` is NaN, as is every value over a time that does not grow or a value that is not finite.
    """
    dt = np.diff(times_ns) / 1e9
    dt = np.where(dt > 0, dt, np.nan)
    velocity = np.full(q.shape, np.nan)
    velocity[1:] = np.diff(q, axis=0) / dt[:, None]
    return velocity


def backward_derivative(rate: Floats, times_ns: Times, order: int) -> Floats:
    """(T, J) change of the (order-1)-th derivative per s, over the mean of the last `order` time steps.

    With `order` 2, velocities give accelerations: `a[t] = (v[t] - v[t-1]) / ((time[t] - time[t-2]) / 2)`.
    """
    out = np.full(rate.shape, np.nan)
    span = (times_ns[order:] - times_ns[:-order]) / 1e9 / order
    span = np.where(span > 0, span, np.nan)
    out[order:] = np.diff(rate, axis=0)[order - 1 :] / span[:, None]
    return out


def noise_sigma(q: Floats) -> Floats:
    """(J,) standard deviation of white noise on (T, J) positions, by the median of sixth differences.

    Sixth differences leave 1e-3 of a 1 Hz movement sampled at 20 Hz but thirty times the noise; the median ignores
    steps and gaps. 0 below 24 finite steps. (Rousseeuw & Croux 1993 for MAD's 1.4826.)
    """
    if len(q) < 4 * _NOISE_ORDER:
        return np.zeros(q.shape[1])
    difference = np.abs(np.diff(q, n=_NOISE_ORDER, axis=0))
    known = np.isfinite(difference).sum(axis=0) >= 3 * _NOISE_ORDER
    sigma = np.zeros(q.shape[1])
    sigma[known] = 1.4826 * np.nanmedian(difference[:, known], axis=0) / np.sqrt(comb(2 * _NOISE_ORDER, _NOISE_ORDER))
    return sigma


def sustained(ratio: Floats, min_frames: int) -> Floats:
    """(T, J) smallest ratio of the `min_frames` steps that end at each step; NaN where one of them is unknown."""
    out = np.full(ratio.shape, np.nan)
    if len(ratio) >= min_frames:
        windows = np.lib.stride_tricks.sliding_window_view(ratio, min_frames, axis=0)
        out[min_frames - 1 :] = windows.min(axis=-1)
    return out


def violating(ratio: Floats, min_frames: int) -> Flags:
    """(T, J) True where a ratio stays above 1 for at least `min_frames` consecutive steps."""
    ends = np.nan_to_num(sustained(ratio, min_frames), nan=0.0) > 1.0
    out = ends.copy()
    for back in range(1, min_frames):
        out[:-back] |= ends[back:]
    return out


def intervals(values: Floats, flags: Flags) -> list[Excess]:
    """Each run of steps in which any joint is flagged, with the flagged joints by their largest value.

    values: (T, J), flags: (T, J).
    """
    found = []
    for first, last in runs(np.asarray(flags.any(axis=1))):
        window = np.where(flags[first : last + 1], values[first : last + 1], -np.inf).max(axis=0)
        order = [int(j) for j in np.argsort(-window, kind="stable") if np.isfinite(window[j])]
        found.append(Excess((int(first), int(last)), tuple(order), float(window[order[0]])))
    return found
