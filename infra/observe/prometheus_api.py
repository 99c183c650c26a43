"""Values by Prometheus' HTTP API."""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_ANSWER_S = 30.0


@dataclass(frozen=True)
class Series:
    """One series: its labels, and (s since 1970, value) in order."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]

    @property
    def last(self) -> float:
        return self.points[-1][1]


class QueryRefused(Exception):
    """A query that Prometheus does not take."""


class PrometheusApi:
    """Prometheus at an address such as http://127.0.0.1:9090."""

    def __init__(self, address: str) -> None:
        self._address = address

    def now(self, expr: str, at_s: float | None = None) -> list[Series]:
        """What an expression is at a time, by default now."""
        given = {"query": expr, **({} if at_s is None else {"time": f"{at_s:.3f}"})}
        found = self._ask("query", given)["result"]
        return [Series(one["metric"], (_point(one["value"]),)) for one in found]

    def between(self, expr: str, start_s: float, end_s: float, step_s: float) -> list[Series]:
        """What an expression was from a time to another."""
        given = {"query": expr, "start": f"{start_s:.3f}", "end": f"{end_s:.3f}", "step": f"{step_s:.3f}"}
        found = self._ask("query_range", given)["result"]
        return [Series(one["metric"], tuple(map(_point, one["values"]))) for one in found]

    def names(self) -> list[str]:
        """The names of all metrics that were ever scraped or recorded."""
        found: list[str] = self._ask("label/__name__/values", {})
        return found

    def _ask(self, what: str, given: Mapping[str, str]) -> Any:
        place = f"{self._address}/api/v1/{what}?{urllib.parse.urlencode(given)}"
        try:
            with urllib.request.urlopen(place, timeout=_ANSWER_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise QueryRefused(f"{given.get('query', what)}: {error.read().decode(errors='replace')}") from error


def _point(pair: tuple[float, str]) -> tuple[float, float]:
    value = float(pair[1])
    return float(pair[0]), value if math.isfinite(value) else math.nan
