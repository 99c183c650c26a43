"""Scaling by the published statistics, and back for what a policy puts out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from beam_pipeline.training.errors import TrainingDataError
from transforms.output_files import STATISTICS

Mode = Literal["mean_std", "min_max", "quantiles"]
ColumnStatistics = Mapping[str, Sequence[float | None]]
Statistics = Mapping[str, Mapping[str, Mapping[str, ColumnStatistics]]]
"""Source -> embodiment -> column -> statistic -> value of each dimension."""
_ENDS = {"min_max": ("min", "max"), "quantiles": ("q01", "q99")}


@dataclass(frozen=True)
class Normaliser:
    """x -> (x - offset) / scale over the last axis (D,)."""

    offset: NDArray[np.float32]
    scale: NDArray[np.float32]

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scaled values (..., D)."""
        return (values - self.offset) / self.scale

    def invert(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values in the units of the set (..., D)."""
        return values * self.scale + self.offset


def load_statistics(folder: str | Path) -> Statistics:
    """`statistics.json` of a published output; raises TrainingDataError where it is absent."""
    path = Path(folder) / STATISTICS
    if not path.exists():
        raise TrainingDataError(f"{path} is absent: the output is of an earlier version; curate again")
    found: Statistics = json.loads(path.read_text(encoding="utf-8"))
    return found


def normaliser(statistics: Statistics, source: str, embodiment: str, column: str, mode: Mode) -> Normaliser:
    """How a column of one robot is scaled: to mean 0 and std 1, or its ends (extremes, q01 and q99) to -1 and 1.

    What does not vary is moved to 0 and not stretched. Raises TrainingDataError where the column has no statistics.
    """
    columns = statistics.get(source, {}).get(embodiment, {})
    if column not in columns:
        raise TrainingDataError(
            f"{column!r} has no statistics for source {source!r}, embodiment {embodiment!r}; "
            f"there are {', '.join(columns) or 'none'}"
        )
    of = columns[column]
    names = ("mean", "std") if mode == "mean_std" else _ENDS[mode]
    first, second = (np.array([np.nan if v is None else v for v in of[name]], np.float64) for name in names)
    offset, scale = (first, second) if mode == "mean_std" else (first / 2 + second / 2, second / 2 - first / 2)
    if not np.isfinite(offset).all():
        (absent, *_) = np.flatnonzero(~np.isfinite(offset)).tolist()
        raise TrainingDataError(
            f"{column!r} of source {source!r} has no finite value in dimension {absent}; leave it out"
        )
    scale = np.where(scale > 0, scale, 1.0)
    return Normaliser(offset.astype(np.float32), scale.astype(np.float32))
