"""Smoothness of a speed profile: SPARC and LDLJ, both free of amplitude; neither is free of length."""

from __future__ import annotations

import numpy as np

from transforms.arrays import Floats
from transforms.measure import Times

MIN_SAMPLES = 8
"""Below this a spectrum or a second difference of the profile says nothing."""
_CUT_HZ, _CUT_SHARE, _AMPLITUDE, _PAD = 10.0, 0.4, 0.05, 4


def uniform(speed: Floats, times_ns: Times) -> tuple[Floats, float]:
    """A speed profile (N,) on an even clock of the median step, and its rate in Hz; linear between samples.

    Samples that are not finite, or whose time does not grow, are left out first.
    """
    known = np.isfinite(speed)
    times, values = times_ns[known].astype(np.float64) / 1e9, speed[known]
    growing = np.concatenate(([True], np.diff(times) > 0)) if len(times) else np.zeros(0, bool)
    times, values = times[growing], values[growing]
    if len(times) < 2:
        return values, 0.0
    step = float(np.median(np.diff(times)))
    grid = times[0] + step * np.arange(int(np.floor((times[-1] - times[0]) / step + 1e-6)) + 1)
    return np.interp(grid, times, values), 1.0 / step


def sparc(speed: Floats, rate_hz: float) -> float:
    """Spectral arc length of a speed profile (N,): near -1.4 for one smooth reach, lower for more movement.

    Balasubramanian et al. 2015, J. NeuroEng. Rehabil. 12:112, with the cut at min(10, 0.4 * rate) Hz, amplitude
    threshold 0.05 and padding level 4. NaN below 8 samples or where the profile is zero.
    """
    if len(speed) < MIN_SAMPLES or not speed.any():
        return float("nan")
    size = 2 ** (int(np.ceil(np.log2(len(speed)))) + _PAD)
    frequency = np.arange(size) * rate_hz / size
    spectrum = np.abs(np.fft.fft(speed, size))
    spectrum /= spectrum.max()
    chosen = frequency <= min(_CUT_HZ, _CUT_SHARE * rate_hz)
    frequency, spectrum = frequency[chosen], spectrum[chosen]
    last = int(np.flatnonzero(spectrum >= _AMPLITUDE)[-1])
    first = int(np.flatnonzero(spectrum >= _AMPLITUDE)[0])
    if last == first:
        return float("nan")
    frequency, spectrum = frequency[first : last + 1], spectrum[first : last + 1]
    width = frequency[-1] - frequency[0]
    return -float(np.sqrt((np.diff(frequency) / width) ** 2 + np.diff(spectrum) ** 2).sum())


def ldlj(speed: Floats, rate_hz: float) -> float:
    """Log dimensionless jerk of a speed profile (N,): `-ln(T^3 / peak^2 * integral of (d2 speed/dt2)^2 dt)`.

    Higher is smoother. Balasubramanian et al. 2012, IEEE TBME 59:2126. NaN below 8 samples or without any jerk.
    """
    if len(speed) < MIN_SAMPLES or not speed.any():
        return float("nan")
    step = 1.0 / rate_hz
    jerk = np.diff(speed, 2) / step**2
    cost = (len(speed) * step) ** 3 / float(speed.max()) ** 2 * float((jerk**2).sum()) * step
    return -float(np.log(cost)) if cost > 0 else float("nan")
