"""Write the rules as the Prometheus operator's resource: `python -m infra.prometheus.make_rule`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
FILE = FOLDER / "kubernetes" / "prometheusrule.yaml"
_HEAD = "# Made of rules/*.yml by python -m infra.prometheus.make_rule\n"


def groups() -> list[dict[str, Any]]:
    """The groups of all rule files."""
    files = sorted((FOLDER / "rules").glob("*.yml"))
    return [group for file in files for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]]


def text() -> str:
    """The file's text."""
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "demosift", "namespace": "monitoring", "labels": {"release": "prometheus"}},
        "spec": {"groups": groups()},
    }
    return _HEAD + yaml.safe_dump(resource, sort_keys=False, width=118)


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
