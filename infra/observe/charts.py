"""One panel as HTML: its lines as inline SVG, its bars and numbers as text and boxes. Every text is escaped."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape

from infra.grafana.panel import Panel
from infra.observe.prometheus_api import Series

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6a3d9a", "#555555")
_WIDTH, _HEIGHT = 300, 120
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 8, 20
_MOST_LINES, _MOST_BARS = 6, 9
_SCALES = {
    "bytes": ((1e9, " GB"), (1e6, " MB"), (1e3, " kB"), (1, " B")),
    "decmbytes": ((1e3, " GB"), (1, " MB")),
    "s": ((3600, " h"), (60, " min"), (1, " s")),
    "short": ((1e6, " M"), (1e3, " k"), (1, "")),
}


def value_text(value: float, unit: str) -> str:
    """A value in its unit, three digits."""
    if math.isnan(value):
        return "none"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "percent":
        return f"{value:.3g} %"
    for size, name in _SCALES[unit]:
        if abs(value) >= size:
            return f"{value / size:.3g}{name}"
    return f"{value:.3g}{_SCALES[unit][-1][1]}"


def legend_text(legend: str, series: Series) -> str:
    """A legend with the series' labels in place of `{{name}}`."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: series.labels.get(found[1], ""), legend)


def draw(panel: Panel, found: Sequence[tuple[str, Series]], start_s: float, end_s: float) -> str:
    """The card of a panel; `found`: a name for each series, and the series."""
    head = f"<h3>{escape(panel.title)}</h3>"
    note = f"<p>{escape(panel.note)}</p>" if panel.note else ""
    if not found:
        body = '<div class="none">no data</div>'
    elif panel.kind == "lines":
        body = _lines(panel, found, start_s, end_s)
    elif panel.kind == "bars":
        body = _bars(panel, found)
    else:
        body = _numbers(panel, found)
    return f'<article data-panel="{escape(panel.title)}" data-series="{len(found)}">{head}{body}{note}</article>'


def _numbers(panel: Panel, found: Sequence[tuple[str, Series]]) -> str:
    cells = "".join(
        f"<div><b>{escape(value_text(series.last, panel.unit))}</b><span>{escape(name)}</span></div>"
        for name, series in found
    )
    return f'<div class="numbers">{cells}</div>'


def _bars(panel: Panel, found: Sequence[tuple[str, Series]]) -> str:
    largest = max((series.last for _, series in found if not math.isnan(series.last)), default=0.0) or 1.0
    rows = "".join(
        f'<tr><td title="{escape(name)}">{escape(name) or "none"}</td><td class="n">'
        f'{escape(value_text(series.last, panel.unit))}</td><td class="bar"><svg viewBox="0 0 100 10" '
        f'preserveAspectRatio="none"><rect width="{_share(series.last, largest):.2f}" height="10" fill="{COLOURS[0]}"/>'
        "</svg></td></tr>"
        for name, series in found[:_MOST_BARS]
    )
    more = f"<small>{len(found) - _MOST_BARS} more</small>" if len(found) > _MOST_BARS else ""
    return f"<table>{rows}</table>{more}"


def _share(value: float, largest: float) -> float:
    return 0.0 if math.isnan(value) else max(0.0, 100 * value / largest)


def _lines(panel: Panel, found: Sequence[tuple[str, Series]], start_s: float, end_s: float) -> str:
    shown = sorted(found, key=lambda one: -_largest(one[1]))[:_MOST_LINES]
    top = _round_up(max(map(_largest, (series for _, series in shown)), default=0.0))
    across, down = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    length = max(end_s - start_s, 1.0)

    def place(point: tuple[float, float]) -> str:
        x = _LEFT + across * (point[0] - start_s) / length
        return f"{x:.1f},{_TOP + down * (1 - point[1] / top):.1f}"

    grid = "".join(
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
        f'<text x="{_LEFT - 4}" y="{y + 3:.1f}" text-anchor="end">{escape(value_text(top * part, panel.unit))}</text>'
        for part in (0.0, 0.5, 1.0)
        for y in (_TOP + down * (1 - part),)
    )
    times = "".join(
        f'<text x="{_LEFT + across * part:.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{length * part:.0f} s</text>'
        for part, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end"))
    )
    paths, names = "", ""
    for number, (name, series) in enumerate(shown):
        colour = COLOURS[number % len(COLOURS)]
        points = [place(point) for point in series.points if not math.isnan(point[1])]
        paths += f'<polyline points="{" ".join(points)}" stroke="{colour}"/>'
        paths += "".join(
            f'<circle cx="{x}" cy="{y}" r="1.6" fill="{colour}"/>' for x, y in (p.split(",") for p in points)
        )
        names += (
            f'<li><i style="background:{colour}"></i><span title="{escape(name)}">{escape(name)}</span>'
            f"<b>{escape(value_text(series.last, panel.unit))}</b></li>"
        )
    if len(found) > len(shown):
        names += f"<li>{len(found) - len(shown)} more</li>"
    picture = f'<svg class="lines" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{grid}{times}{paths}</svg>'
    return f"{picture}<ul>{names}</ul>"


def _largest(series: Series) -> float:
    return max((value for _, value in series.points if not math.isnan(value)), default=0.0)


def _round_up(value: float) -> float:
    if value <= 0:
        return 1.0
    power = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * 0.999)
