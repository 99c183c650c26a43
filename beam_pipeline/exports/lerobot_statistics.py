"""Statistics as LeRobot stores them: min, max, mean, std, count, q01, q10, q50, q90, q99, by element or channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
Statistics = Mapping[str, Any]
"""Name -> (nested) list, as JSON and Parquet take it."""
_LEAST_SAMPLES, _MOST_SAMPLES, _POWER = 100, 10_000, 0.75
_SIDE_PX, _LARGE_PX = 150, 300


def statistics(values: NDArray[Any]) -> Statistics:
    """Of (T,) or (T, D) numbers or flags, by element, T >= 1; quantiles are exact, interpolated linearly."""
    table = values.reshape(len(values), -1)
    table = table.astype(np.int64) if table.dtype == np.bool_ else table
    real = table.astype(np.float64)
    found: dict[str, Any] = {
        "min": table.min(axis=0).tolist(),
        "max": table.max(axis=0).tolist(),
        "mean": real.mean(axis=0).tolist(),
        "std": real.std(axis=0).tolist(),
        "count": [len(table)],
    }
    return found | dict(zip(QUANTILES, np.quantile(real, list(QUANTILES.values()), axis=0).tolist(), strict=True))


def sampled_steps(n_steps: int) -> NDArray[np.int64]:
    """Which of T steps' pictures count: as many as LeRobot's `sample_indices` takes, evenly spread."""
    least = min(_LEAST_SAMPLES, n_steps)
    count = max(least, min(int(n_steps**_POWER), _MOST_SAMPLES))
    return np.round(np.linspace(0, n_steps - 1, count)).astype(np.int64)


def thinned(frame: NDArray[Any]) -> NDArray[Any]:
    """A frame (H, W, C) of 300 px or more with rows and columns left out, as LeRobot's statistics do."""
    height, width = frame.shape[:2]
    if max(height, width) < _LARGE_PX:
        return frame
    step = int((width if width > height else height) / _SIDE_PX)
    return frame[::step, ::step]


class PixelCounts:
    """How often each value occurs in each channel: sums do not depend on their order, and quantiles stay exact."""

    def __init__(self, channels: int, depth: bool) -> None:
        self._counts = np.zeros((channels, 1 << 16 if depth else 256), np.int64)
        self._scale = 1.0 if depth else 255.0
        self._frames = 0

    def add(self, frame: NDArray[Any]) -> None:
        """Count a frame (H, W, C) of uint8, or uint16 for depth."""
        pixels = thinned(frame)
        for channel, counts in enumerate(self._counts):
            counts += np.bincount(pixels[..., channel].reshape(-1), minlength=len(counts))
        self._frames += 1

    def merged(self, other: PixelCounts | None) -> PixelCounts:
        """The counts of both together."""
        whole = PixelCounts(len(self._counts), self._scale == 1.0)
        for part in (self, *([other] if other is not None else [])):
            whole._counts += part._counts
            whole._frames += part._frames
        return whole

    def statistics(self) -> Statistics:
        """On 0 to 1 (depth: as stored), each (C, 1, 1); `count` is of frames."""
        levels = np.arange(self._counts.shape[1]) / self._scale
        rows = [_of_counts(levels, counts) for counts in self._counts]
        found = {name: [[[row[name]]] for row in rows] for name in rows[0]}
        return {**found, "count": [self._frames]}


def _of_counts(levels: NDArray[np.float64], counts: NDArray[np.int64]) -> dict[str, float]:
    total = int(counts.sum())
    present = np.flatnonzero(counts)
    mean = float((levels * counts).sum() / total)
    found = {"min": levels[present[0]], "max": levels[present[-1]], "mean": mean}
    found["std"] = float(np.sqrt((counts * (levels - mean) ** 2).sum() / total))
    ends = np.cumsum(counts)
    for name, share in QUANTILES.items():
        at = share * (total - 1)
        low, high = levels[np.searchsorted(ends, [np.floor(at), np.ceil(at)], side="right")]
        found[name] = low + (high - low) * (at - np.floor(at))
    return {name: float(value) for name, value in found.items()}
