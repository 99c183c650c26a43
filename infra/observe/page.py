"""The dashboards as one page without scripts, drawn from what Prometheus answers to their queries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from infra.grafana.panel import Dashboard, Panel
from infra.grafana.panels import DASHBOARDS
from infra.observe.charts import draw, legend_text
from infra.observe.prometheus_api import PrometheusApi, Series

_POINTS = 120
_STYLE = Path(__file__).with_name("style.css")
_GPU_NOTE = "not shown, as this machine has no GPU: "


@dataclass(frozen=True)
class Answered:
    """A panel, and what its queries gave: a name for each series, and the series."""

    dashboard: Dashboard
    panel: Panel
    series: tuple[tuple[str, Series], ...]


def filled(expr: str, variables: Mapping[str, str]) -> str:
    """An expression with the dashboard's variables filled in."""
    for name, value in variables.items():
        expr = expr.replace(f"${name}", value)
    return expr


def ask(api: PrometheusApi, start_s: float, end_s: float) -> list[Answered]:
    """Run every query of every panel, with all values of every variable; those of a graph over the time between."""
    answered = []
    for dashboard in DASHBOARDS:
        variables = {name: ".*" for name, _ in dashboard.variables}
        for panel in dashboard.panels:
            series = []
            for query in panel.queries:
                expr = filled(query.expr, variables)
                if panel.kind == "lines":
                    found = api.between(expr, start_s, end_s, max((end_s - start_s) / _POINTS, 1.0))
                else:
                    found = api.now(expr, end_s)
                series += [(legend_text(query.legend, one), one) for one in found]
            answered.append(Answered(dashboard, panel, tuple(series)))
    return answered


def page(answered: list[Answered], start_s: float, end_s: float, what: str) -> str:
    """The whole page; `what` says in a sentence what was run."""
    gpus = any(one.panel.gpu and one.series for one in answered)
    sections = ""
    for dashboard in DASHBOARDS:
        own = [one for one in answered if one.dashboard is dashboard]
        shown = [one for one in own if gpus or not one.panel.gpu]
        hidden = ", ".join(one.panel.title for one in own if one not in shown)
        cards = "".join(draw(one.panel, one.series, start_s, end_s) for one in shown)
        note = f"<p>{escape(_GPU_NOTE + hidden)}.</p>" if hidden else ""
        sections += (
            f'<section id="{dashboard.uid}"><h2>{escape(dashboard.title)}</h2>{note}<div>{cards}</div></section>'
        )
    style = _STYLE.read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>DemoSift, observed</title>'
        f"<style>{style}</style></head><body><h1>DemoSift, observed</h1><p>{escape(what)}</p>{sections}</body></html>\n"
    )


def found_json(answered: list[Answered]) -> str:
    """What every panel showed: for tests, and for whoever wants the numbers."""
    rows = [
        {
            "dashboard": one.dashboard.uid,
            "panel": one.panel.title,
            "gpu": one.panel.gpu,
            "series": [{"name": name, "points": len(s.points), "last": s.last} for name, s in one.series],
        }
        for one in answered
    ]
    return json.dumps(rows, indent=1)
