"""What a dashboard is made of: panels, and what they ask Prometheus for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["stat", "bars", "lines"]
"""One number a series; a bar a series; a line a series over time."""
Unit = Literal["short", "s", "bytes", "percentunit", "percent", "decmbytes"]
"""Grafana's names: counts, seconds, bytes, a share of 1, a share of 100, megabytes."""


@dataclass(frozen=True)
class Query:
    """PromQL and the name of each series it gives; `$set`, `$command` and `$stage` are the dashboard's variables."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One graph. `gpu`: shows something only where a GPU is."""

    title: str
    kind: Kind
    unit: Unit
    queries: tuple[Query, ...]
    note: str
    gpu: bool = False


@dataclass(frozen=True)
class Dashboard:
    """`variables`: names and the PromQL that lists their values."""

    uid: str
    title: str
    panels: tuple[Panel, ...]
    variables: tuple[tuple[str, str], ...] = ()
