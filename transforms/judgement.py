"""Rules over all findings at once, in columns: what `select.judge` says of one, said of millions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms.episode import Finding
from transforms.select import Rule


@dataclass(frozen=True)
class Judged:
    """Of each finding (F,): `passed` 1 or 0, -1 where no rule speaks of it; `threshold` NaN there."""

    passed: NDArray[np.int8]
    threshold: NDArray[np.float64]

    def columns(self) -> Mapping[str, pa.Array]:
        """As columns of the evidence table, null where no rule spoke."""
        unjudged = self.passed < 0
        return {
            "threshold": pa.array(self.threshold, mask=unjudged),
            "passed": pa.array(self.passed == 1, mask=unjudged),
        }


def judge_all(findings: pa.Table, rules: Mapping[str, Rule]) -> Judged:
    """Every finding (F rows of check, value, status) under the rule of its check."""
    checks = pc.dictionary_encode(findings.column("check")).combine_chunks()
    if isinstance(checks, pa.ChunkedArray):
        checks = pa.concat_arrays(checks.chunks) if checks.num_chunks else pa.array([], checks.type)
    names = checks.dictionary.to_pylist()
    code = np.asarray(checks.indices, np.int64)
    ruled = np.array([name in rules for name in names], np.bool_)[code] if names else np.zeros(0, np.bool_)
    low, high, shown = (
        np.array([bound(rules.get(name)) for name in names], np.float64) for bound in (_low, _high, _shown)
    )
    value = findings.column("value")
    judged = ruled & np.asarray(value.is_valid()) & np.asarray(pc.equal(findings.column("status"), "measured"))
    number = np.asarray(value.fill_null(0.0), np.float64)
    passed = np.full(len(code), -1, np.int8)
    threshold = np.full(len(code), np.nan)
    at = np.flatnonzero(judged)
    above, below = number[at] > high[code[at]], number[at] < low[code[at]]
    passed[at] = ~(above | below)
    threshold[at] = np.where(above, high[code[at]], np.where(below, low[code[at]], shown[code[at]]))
    return Judged(passed, threshold)


def _low(rule: Rule | None) -> float:
    return -np.inf if rule is None or rule.min is None else rule.min


def _high(rule: Rule | None) -> float:
    return np.inf if rule is None or rule.max is None else rule.max


def _shown(rule: Rule | None) -> float:
    """The bound that a passing finding is shown with."""
    if rule is None:
        return np.nan
    return rule.max if rule.max is not None else float(rule.min or 0.0)


def findings_at(findings: pa.Table, rows: NDArray[np.int64]) -> list[Finding]:
    """Some findings of the table as values."""
    return [finding_of(row) for row in findings.take(pa.array(rows)).to_pylist()]


def finding_of(row: Mapping[str, object]) -> Finding:
    """A row of stored findings as a value."""
    known: dict[str, object] = {name: row[name] for name in ("stage", "check", "value", "unit", "detail", "status")}
    for name, first, last in (("interval", "start_ns", "end_ns"), ("frames", "first_frame", "last_frame")):
        known[name] = None if row[first] is None else (row[first], row[last])
    return Finding(**known)  # type: ignore[arg-type]


def worst_scores(findings: pa.Table, kept: NDArray[np.bool_], episodes: int) -> Mapping[str, pa.Array]:
    """Check -> a column (episodes,): its value farthest from zero, of equals the positive one, null where none.

    `findings` are in the order of their episodes. `kept` (episodes,) says whose findings count; a check that none of
    them was measured by has no column.
    """
    owner = np.asarray(findings.column("episode"), np.int64)
    value = findings.column("value")
    rows = np.flatnonzero(np.asarray(value.is_valid()) & kept[owner]) if len(owner) else np.zeros(0, np.int64)
    chosen = findings.select(["check"]).take(pa.array(rows)).column("check")
    names = sorted(pc.unique(chosen).to_pylist())
    code = np.asarray(pc.index_in(chosen, pa.array(names, pa.string())), np.int64)
    number = np.asarray(value.fill_null(0.0), np.float64)[rows]
    columns = {}
    for at, name in enumerate(names):
        mine = np.flatnonzero(code == at)
        held, seen = np.zeros(episodes), np.zeros(episodes, np.bool_)
        of = owner[rows[mine]]  # ascends, so an episode's values lie together
        starts = np.flatnonzero(np.diff(of, prepend=-1))
        least, most = (extreme.reduceat(number[mine], starts) for extreme in (np.minimum, np.maximum))
        held[of[starts]] = np.where(np.abs(least) > most, least, most) + 0.0
        seen[of[starts]] = True
        columns[name] = pa.array(held, mask=~seen)
    return columns
