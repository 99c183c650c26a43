"""Each joint's observed range against its limits: of the kept episodes, by the statistics that a run publishes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from beam_pipeline.curated import CuratedSet
from beam_pipeline.joint_limits import Bounds, JointLimits
from beam_pipeline.report.tables import Ledger, Measured
from transforms.output_files import STATISTICS
from transforms.schema import JOINT_POSITION, JOINT_VELOCITY

ROWS = 400
"""Joints that the page shows, over all sources; tables in which one leaves its limits come first."""
ROUNDING = 1e-4
"""rad (rad/s): what lies beyond a limit by less is rounding of float32 and of the URDF's digits."""
SPEED = "physics.velocity_ratio"
_LEFT, _RIGHT = 12.0, 88.0
"""Where limits lie in a bar, in per cent of its width."""
_STATISTICS = ("min", "q01", "q50", "q99", "max")
_Column = Mapping[str, Sequence[float | None]]


@dataclass(frozen=True)
class Bar:
    """Places in per cent of the width: observed extremes, 1 % and 99 %, median; where limits are drawn, if at all.

    `beyond` are the parts outside the limits, as (start, width).
    """

    least: float
    low: float
    median: float
    high: float
    most: float
    limits: tuple[float, float] | None
    beyond: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class JointRange:
    """One joint: observed values and limits in the table's unit; `room` is what is left to the nearer limit."""

    name: str
    least: float
    low: float
    median: float
    high: float
    most: float
    lower: float | None
    upper: float | None
    bar: Bar

    @property
    def room(self) -> float | None:
        left = [] if self.lower is None else [self.least - self.lower]
        left += [] if self.upper is None else [self.upper - self.most]
        return min(left, default=None)

    @property
    def is_beyond(self) -> bool:
        return self.room is not None and self.room < -ROUNDING


@dataclass(frozen=True)
class JointTable:
    """Joints of one source in one quantity; without rows, `note` says why, else why there are no limits.

    `speed` is the highest sustained speed of a kept episode as a share of what is allowed, where that was measured.
    """

    source: str
    embodiment: str
    quantity: str
    unit: str
    urdf: str
    note: str
    rows: Sequence[JointRange] = ()
    speed: float | None = None

    @property
    def n_beyond(self) -> int:
        return sum(row.is_beyond for row in self.rows)


def joint_tables(
    curated: CuratedSet, limits: Sequence[JointLimits], measured: Mapping[str, Measured], ledger: Ledger
) -> tuple[JointTable, ...]:
    """Positions of every source, and velocities where they were logged; those beyond limits first, then by source."""
    statistics = _statistics(curated)
    tables = [table for of in limits for table in _of_source(of, statistics, _speed(of.source, measured, ledger))]
    return tuple(sorted(tables, key=lambda table: (not table.n_beyond, not table.rows, table.source)))


def shown_of(tables: Sequence[JointTable]) -> Sequence[JointTable]:
    """The first tables that hold at most ROWS joints together, at least one."""
    found: list[JointTable] = []
    rows = 0
    for table in tables:
        rows += max(1, len(table.rows))
        if found and rows > ROWS:
            break
        found.append(table)
    return found


def _statistics(curated: CuratedSet) -> Mapping[str, Mapping[str, Mapping[str, _Column]]]:
    """The run's statistics.json; nothing where it was not written: a run whose gate failed stops before."""
    if all(file.path != STATISTICS for file in curated.manifest.files):
        return {}
    found: Mapping[str, Mapping[str, Mapping[str, _Column]]]
    found = json.loads(curated.place(STATISTICS).read_text(encoding="utf-8"))
    return found


def _speed(source: str, measured: Mapping[str, Measured], ledger: Ledger) -> float | None:
    found = measured.get(SPEED)
    if found is None or source not in ledger.sources:
        return None
    own = ledger.is_outcome("kept") & (ledger.source == ledger.sources.index(source))
    values = found.value[own[found.episode]]
    return float(values.max()) if len(values) else None


def _of_source(
    of: JointLimits, statistics: Mapping[str, Mapping[str, Mapping[str, _Column]]], speed: float | None
) -> list[JointTable]:
    columns: dict[str, _Column] = {}
    for embodiment in statistics.get(of.source, {}).values():
        columns |= embodiment
    position, velocity = columns.get(JOINT_POSITION), columns.get(JOINT_VELOCITY)
    if not of.names or position is None:
        lack = of.note if not of.names else f"no kept transition has {JOINT_POSITION}"
        return [JointTable(of.source, of.embodiment, "position", "rad", of.urdf, lack)]
    fast = tuple(of.velocity)
    slow = tuple(None if v is None else -v for v in fast)
    found = [_table(of, "position", "rad", position, (of.lower, of.upper), speed)]
    if velocity is not None:
        found.append(_table(of, "logged velocity", "rad/s", velocity, (slow, fast), None))
    return found


def _table(
    of: JointLimits, quantity: str, unit: str, column: _Column, limits: tuple[Bounds, Bounds], speed: float | None
) -> JointTable:
    nothing: Bounds = (None,) * len(of.names)
    lower, upper = (side or nothing for side in limits)
    seen = list(zip(*(column[name] for name in _STATISTICS), strict=True))
    known = [v for values in seen for v in values if v is not None]
    ends = (min(known), max(known)) if known else (0.0, 0.0)
    rows = []
    for name, values, low, high in zip(of.names, seen, lower, upper, strict=False):
        numbers = [v for v in values if v is not None]
        if len(numbers) == len(_STATISTICS):
            least, near, median, far, most = numbers
            bar = _bar((least, near, median, far, most), low, high, ends)
            rows.append(JointRange(name, least, near, median, far, most, low, high, bar))
    return JointTable(of.source, of.embodiment, quantity, unit, of.urdf, of.note, rows, speed)


def _bar(
    values: tuple[float, float, float, float, float],
    lower: float | None,
    upper: float | None,
    ends: tuple[float, float],
) -> Bar:
    """Limits at fixed places where there are both; without, all joints of a table on one scale, `ends`."""
    limits = None if lower is None or upper is None or upper <= lower else (lower, upper)
    low, high = limits or ends
    span = high - low or 1.0

    def place(value: float) -> float:
        return round(float(np.clip(_LEFT + (_RIGHT - _LEFT) * (value - low) / span, 0.0, 100.0)), 2)

    least, near, median, far, most = (place(value) for value in values)
    outside = []
    if limits and values[0] < low - ROUNDING:
        outside.append((least, round(_LEFT - least, 2)))
    if limits and values[-1] > high + ROUNDING:
        outside.append((_RIGHT, round(most - _RIGHT, 2)))
    return Bar(least, near, median, far, most, (_LEFT, _RIGHT) if limits else None, tuple(outside))
