"""The tables of docs/observability.md, from the code: `python -m infra.observe.reference` writes them there."""

from __future__ import annotations

from pathlib import Path

from beam_pipeline.metrics import PUSHED
from beam_pipeline.runner.live_metrics import LIVE
from infra.prometheus.make_rule import groups

PAGE = Path(__file__).parents[2] / "docs" / "observability.md"


def tables() -> dict[str, list[str]]:
    """Rows of each table by its name."""
    alerts = [rule for group in groups() for rule in group["rules"] if "alert" in rule]
    return {
        "pushed": [f"| `{m.name}` | {', '.join(m.labels)} | {m.help} ({m.unit}) |" for m in PUSHED],
        "live": [f"| `{m.exported}` | {', '.join(m.tags)} | {m.help} ({m.unit}) |" for m in LIVE],
        "alerts": [f"| {rule['alert']} | `{_cell(rule['expr'])}`{_for(rule)} |" for rule in alerts],
    }


def _cell(expr: str) -> str:
    return " ".join(expr.split()).replace("|", "\\|")


def _for(rule: dict[str, str]) -> str:
    return f", for {rule['for']}" if "for" in rule else ""


def text(page: str) -> str:
    """The page with the tables of the code: rows stand between `|---|` and the mark `<!-- NAME -->`."""
    for name, rows in tables().items():
        mark = f"<!-- {name} -->"
        head, between = page.split(mark, 1)[0].rpartition("|---|\n")[:2]
        page = f"{head}{between}" + "".join(f"{row}\n" for row in rows) + mark + page.split(mark, 1)[1]
    return page


if __name__ == "__main__":
    PAGE.write_text(text(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
