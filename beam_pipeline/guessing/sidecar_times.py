"""The time column of sidecars, where its name says both what it is and in which unit."""

from __future__ import annotations

import re
from typing import Literal

from beam_pipeline.inspection.report import DatasetReport

Unit = Literal["s", "ms", "us", "ns"]
_TIMED = re.compile(r"(?:timestamp|time|stamp|t)_(s|ms|us|ns)")


def guess_times(report: DatasetReport) -> tuple[str, Unit, tuple[str, ...]] | None:
    """(column, unit, why) where sidecars have no `timestamp` but one column whose name ends in a unit."""
    names = {stream.name.rpartition(".")[2] for stream in report.streams}
    timed = sorted(name for name in names if _TIMED.fullmatch(name))
    if "timestamp" in names or len(timed) != 1:
        return None
    found = _TIMED.fullmatch(timed[0])
    assert found is not None
    unit: Unit = found[1]  # type: ignore[assignment]
    return timed[0], unit, (f"time_column: {timed[0]}, whose name states its unit",)
