"""Write Grafana's files of the dashboards: `python -m infra.grafana.make_dashboards`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from infra.grafana.panel import Dashboard, Panel
from infra.grafana.panels import DASHBOARDS

FOLDER = Path(__file__).parent / "dashboards"
SOURCE = {"type": "prometheus", "uid": "demosift-prometheus"}
_TYPES = {"stat": "stat", "bars": "bargauge", "lines": "timeseries"}
_WIDTH, _HEIGHT, _IN_A_ROW = 8, 8, 3
_SCHEMA = 39
"""Of Grafana 11's dashboards; newer ones migrate it."""


def dashboard_json(dashboard: Dashboard) -> dict[str, Any]:
    """One dashboard as Grafana reads it."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["demosift"],
        "schemaVersion": _SCHEMA,
        "version": 1,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-24h", "to": "now"},
        "links": [
            {"type": "dashboards", "tags": ["demosift"], "title": "DemoSift", "asDropdown": True, "keepTime": True}
        ],
        "templating": {"list": [_variable(name, query) for name, query in dashboard.variables]},
        "panels": [_panel(number, panel) for number, panel in enumerate(dashboard.panels)],
    }


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    over_time = panel.kind == "lines"
    row, column = divmod(number, _IN_A_ROW)
    options: dict[str, Any] = {"legend": {"displayMode": "list", "placement": "bottom"}}
    if not over_time:
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "orientation": "horizontal"}
    return {
        "id": number + 1,
        "type": _TYPES[panel.kind],
        "title": panel.title,
        "description": panel.note,
        "datasource": SOURCE,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend,
                "instant": not over_time,
                "range": over_time,
            }
            for place, query in enumerate(panel.queries)
        ],
    }


def text(dashboard: Dashboard) -> str:
    """The file's text."""
    return json.dumps(dashboard_json(dashboard), indent=2) + "\n"


def main() -> None:
    """Write all of them."""
    FOLDER.mkdir(exist_ok=True)
    for dashboard in DASHBOARDS:
        (FOLDER / f"{dashboard.uid}.json").write_text(text(dashboard), encoding="utf-8")


if __name__ == "__main__":
    main()
