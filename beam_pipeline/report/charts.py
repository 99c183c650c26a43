"""Where everything in a chart lies, in px of its own box: pure geometry, drawn by `templates/charts.html`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from beam_pipeline.report.distributions import Distribution
from beam_pipeline.report.looks import Look

_WIDTH, _LEFT, _RIGHT, _TOP, _PLOT = 340.0, 34.0, 10.0, 20.0, 84.0
_AXIS, _ROW = 20.0, 28.0
_LEAST_BAR = 2.0
"""So that one episode among thousands is seen."""
_SPARK_WIDTH, _SPARK_HEIGHT, _SPARK_PAD = 128.0, 44.0, 3.0


@dataclass(frozen=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    broken: bool
    count: int
    low: float
    high: float


@dataclass(frozen=True)
class Mark:
    """A place on the axis with its label."""

    x: float
    label: str
    anchor: str = "middle"


@dataclass(frozen=True)
class RangeRow:
    """One source below the axis: a thin line from least to most, a thick one for the middle 90 %, the median."""

    y: float
    source: str
    count: int
    median: float
    x_least: float
    x_low: float
    x_median: float
    x_high: float
    x_most: float


@dataclass(frozen=True)
class Histogram:
    """A distribution as a chart."""

    of: Distribution
    width: float
    height: float
    left: float
    right: float
    base: float
    bars: Sequence[Bar]
    ticks: Sequence[Mark]
    thresholds: Sequence[Mark]
    rows: Sequence[RangeRow]
    most_count: int


@dataclass(frozen=True)
class Spark:
    """One element of a signal over an episode; `other` is the same of the episode beside it, both on one scale."""

    name: str
    width: float
    height: float
    path: str
    other: str
    least: float
    most: float
    shade: tuple[float, float] | None


def histogram(of: Distribution) -> Histogram:
    """The chart of a distribution."""
    span = of.high - of.low or 1.0
    inner = _WIDTH - _LEFT - _RIGHT
    base = _TOP + _PLOT

    def x(value: float) -> float:
        return _rounded(_LEFT + inner * min(1.0, max(0.0, (value - of.low) / span)))

    totals = [a + b for a, b in zip(of.others, of.broken, strict=True)]
    most = max(totals)
    bars = []
    for index, (others, broken) in enumerate(zip(of.others, of.broken, strict=True)):
        low, high = (of.low + span * (index + side) / len(totals) for side in (0, 1))
        foot = base
        for count, is_broken in ((others, False), (broken, True)):
            if count:
                height = max(_LEAST_BAR, _PLOT * count / most)
                foot -= height
                wide = inner / len(totals)
                left = _LEFT + wide * index
                bars.append(
                    Bar(
                        _rounded(left + 0.5),
                        _rounded(foot),
                        _rounded(wide - 1),
                        _rounded(height),
                        is_broken,
                        count,
                        low,
                        high,
                    )
                )
    rows = [
        RangeRow(
            base + _AXIS + _ROW * (index + 1) - 6,
            row.source,
            row.count,
            row.median,
            *(x(value) for value in (row.least, row.low, row.median, row.high, row.most)),
        )
        for index, row in enumerate(of.sources)
    ]
    return Histogram(
        of=of,
        width=_WIDTH,
        height=base + _AXIS + _ROW * len(rows) + 4,
        left=_LEFT,
        right=_WIDTH - _RIGHT,
        base=base,
        bars=bars,
        ticks=[_mark(x(tick), number(tick)) for tick in ticks(of.low, of.high)],
        thresholds=[_mark(x(limit), f"{name} {number(limit)}") for name, limit in of.thresholds],
        rows=rows,
        most_count=most,
    )


def _mark(x: float, label: str) -> Mark:
    """A label that stays inside the box: it ends (begins) at its place near the right (left) side."""
    anchor = "end" if x > _WIDTH - 50 else "start" if x < _LEFT + 16 else "middle"
    return Mark(x, label, anchor)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most `most` round numbers within [low, high]."""
    if not high > low:
        return [low]
    rough = (high - low) / (most - 1)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)] or [low]


def sparks(look: Look, interval: tuple[int, int] | None, other: Look | None = None) -> list[Spark]:
    """A small chart for each curve; of two looks at one signal both, each over its own whole length."""
    beside = other if other is not None and other.signal == look.signal else None
    against = {curve.name: curve.values for curve in beside.curves} if beside else {}
    found = []
    for curve in look.curves:
        partner = against.get(curve.name, ())
        known = [value for value in (*curve.values, *partner) if value is not None]
        if not known:
            continue
        least, most = min(known), max(known)
        shade = None
        if interval is not None and look.n_steps > 1:
            ends = [min(1.0, max(0.0, step / (look.n_steps - 1))) for step in interval]
            shade = (_rounded(_SPARK_WIDTH * ends[0]), _rounded(max(2.0, _SPARK_WIDTH * (ends[1] - ends[0]))))
        path = _path(look.at, look.n_steps, curve.values, least, most)
        beneath = _path(beside.at, beside.n_steps, partner, least, most) if beside else ""
        found.append(Spark(curve.name, _SPARK_WIDTH, _SPARK_HEIGHT, path, beneath, least, most, shade))
    return found


def _path(at: Sequence[int], n_steps: int, values: Sequence[float | None], least: float, most: float) -> str:
    """SVG path data; it is broken where there is no number."""
    pieces, pen = [], "M"
    tall, span = _SPARK_HEIGHT - 2 * _SPARK_PAD, most - least
    for step, value in zip(at, values, strict=False):
        if value is None:
            pen = "M"
            continue
        across = _SPARK_WIDTH * step / max(1, n_steps - 1)
        down = _SPARK_PAD + (tall * (most - value) / span if span else tall / 2)
        pieces.append(f"{pen}{across:.1f} {down:.1f}")
        pen = "L"
    return "".join(pieces)


def _rounded(px: float) -> float:
    return round(px, 2)


def number(value: float | None, digits: int = 4) -> str:
    """A few significant digits, whole numbers whole; nothing for what is unknown."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if float(value).is_integer() and abs(value) < 1e7:
        return f"{int(value):,}"
    return f"{value:.{digits}g}"
