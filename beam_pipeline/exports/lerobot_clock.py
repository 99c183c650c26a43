"""The one rate of a LeRobot data set, measured from the steps' own times."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from beam_pipeline.exports.export import ExportError

TOLERANCE_S = 1e-4
"""LeRobotDataset's own tolerance_s, for steps as for frames."""
_WHOLE = 2e-4
"""A rate this near to a whole number, relatively, is that number: stamps are often float32 seconds."""
Times = NDArray[np.int64]
RESAMPLE = "curate with `temporal_alignment: {rate_hz: ...}`, which resamples"


def rate_hz(times_ns: Times, place: str) -> float:
    """The rate of one episode's steps (T,) ns by their median distance; raises ExportError where it has none."""
    if len(times_ns) < 2:
        raise ExportError(f"{place} has {len(times_ns)} steps; a rate needs 2; leave it out by a rule on its length")
    step_ns = float(np.median(np.diff(times_ns)))
    if step_ns <= 0:
        raise ExportError(f"{place}: half of its steps have the time of the step before; {RESAMPLE}")
    rate = 1e9 / step_ns
    whole = round(rate)
    return float(whole) if whole and abs(rate / whole - 1) < _WHOLE else float(f"{rate:.6g}")


def same_rate(a: float, b: float) -> bool:
    """Whether steps of both rates are within the tolerance of either's."""
    return abs(1 / a - 1 / b) <= TOLERANCE_S / 2


def check_regular(times_ns: Times, fps: float, place: str) -> None:
    """Raise ExportError where a step is not 1 / fps after the one before, within LeRobot's tolerance."""
    steps_s = np.diff(times_ns) / 1e9
    off = np.abs(steps_s - 1 / fps)
    if len(off) and off.max() > TOLERANCE_S:
        worst, bad = int(np.argmax(off)), int((off > TOLERANCE_S).sum())
        raise ExportError(
            f"{place}: step {worst + 1} comes {steps_s[worst]:.4g} s after step {worst}, and {bad} of {len(off)} are "
            f"off; LeRobot has one rate, here {fps:g} Hz, within {TOLERANCE_S:g} s; {RESAMPLE}"
        )


def seconds(times_ns: Times) -> NDArray[np.float32]:
    """(T,) seconds since the episode's first step, float32 as LeRobot stores them."""
    return ((times_ns - times_ns[0]) / 1e9).astype(np.float32)


def as_number(fps: float) -> int | float:
    """A whole rate as an int, as LeRobot writes it."""
    return int(fps) if fps == int(fps) else fps


def as_fraction(fps: float) -> Fraction:
    """The rate as encoders take it."""
    return Fraction(fps).limit_denominator(100_000)
