"""What became of the inputs: totals of each source that add up, and what was lost to which rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from beam_pipeline.report.tables import BROKEN, OUTCOMES, Floats, Ledger, Measured
from beam_pipeline.summary import DECLARED_ABSENT

_EXAMPLES = 3
_NS_PER_S = 1e9


@dataclass(frozen=True)
class Totals:
    """Ledger rows of one source (or of all): `planned` inputs and `children` cut out of them end as `counts`.

    `absent` of the quarantined are declared by metadata and not on disk. Steps and seconds are of rows that were not
    cut up; seconds cover those whose times are known.
    """

    source: str
    planned: int
    children: int
    absent: int
    counts: Mapping[str, int]
    steps: int
    steps_kept: int
    seconds: float
    seconds_kept: float

    @property
    def rows(self) -> int:
        """Rows of the ledger."""
        return sum(self.counts.values())

    @property
    def adds_up(self) -> bool:
        """Whether every input and every child has exactly one outcome."""
        return self.planned + self.children == self.rows

    @property
    def judged(self) -> int:
        """Rows that ended: all but recordings whose children stand for them."""
        return self.rows - self.counts["cut"]

    @property
    def present(self) -> int:
        """Rows that ended and were there to be judged."""
        return self.judged - self.absent


@dataclass(frozen=True)
class Example:
    """One ledger row, to begin looking at."""

    episode_id: str
    source: str
    uri: str
    stage: str
    value: float | None
    threshold: float | None
    unit: str
    detail: str
    duplicate_of: str | None


@dataclass(frozen=True)
class Reason:
    """One rule that took rows out: how many, where, how much time, and the first few by id.

    `broken_by` counts every episode that breaks it, `alone` those that would be kept without it; None where the rule
    is no measured check.
    """

    outcome: str
    rule: str
    unit: str
    count: int
    by_source: Sequence[tuple[str, int]]
    thresholds: Sequence[float]
    least: float | None
    most: float | None
    steps: int
    broken_by: int | None
    alone: int | None
    examples: Sequence[Example]


def seconds_of(ledger: Ledger) -> Floats:
    """(N,) length of each row in s, NaN where its times are unknown."""
    return (ledger.numbers("end_ns") - ledger.numbers("start_ns")) / _NS_PER_S


def totals(ledger: Ledger, sources: Sequence[str]) -> list[Totals]:
    """Totals of every source in order, those without a row too."""
    names = np.asarray([*ledger.sources, ""], object)[ledger.source]
    return [_totals(name, ledger, names == name) for name in sources]


def grand_total(ledger: Ledger) -> Totals:
    """Totals over all sources."""
    return _totals("all", ledger, np.ones(ledger.rows.num_rows, bool))


def _totals(name: str, ledger: Ledger, chosen: NDArray[np.bool_]) -> Totals:
    children = int((chosen & np.asarray(pc.is_valid(ledger.rows["parent_id"]))).sum())
    whole, kept = chosen & ~ledger.is_outcome("cut"), chosen & ledger.is_outcome("kept")
    steps, seconds = np.nan_to_num(ledger.numbers("n_steps")), np.nan_to_num(seconds_of(ledger))
    return Totals(
        source=name,
        planned=int(chosen.sum()) - children,
        children=children,
        absent=int((chosen & np.asarray(pc.equal(ledger.rows["rule"], DECLARED_ABSENT).fill_null(False))).sum()),
        counts={outcome: int((chosen & ledger.is_outcome(outcome)).sum()) for outcome in OUTCOMES},
        steps=int(steps[whole].sum()),
        steps_kept=int(steps[kept].sum()),
        seconds=float(seconds[whole].sum()),
        seconds_kept=float(seconds[kept].sum()),
    )


def reasons(ledger: Ledger, measured: Mapping[str, Measured]) -> list[Reason]:
    """Every rule of what was not kept, most frequent first."""
    lost = ledger.rows.filter(pa.array(~ledger.is_outcome("kept", "cut")))
    if not lost.num_rows:
        return []
    groups = lost.group_by(["outcome", "rule"]).aggregate([([], "count_all"), ("n_steps", "sum")])
    alone = _broken_alone(ledger, measured)
    found = []
    for outcome, rule, count, steps in zip(*groups.to_pydict().values(), strict=True):
        rows = lost.filter(pc.and_(pc.equal(lost["outcome"], outcome), pc.equal(lost["rule"], rule)))
        spread = pc.min_max(rows["value"]).as_py()
        sources = rows.group_by("source").aggregate([([], "count_all")]).to_pydict()
        broken_by, without = alone.get(rule, (None, None)) if outcome == "rejected" else (None, None)
        found.append(
            Reason(
                outcome=outcome,
                rule=rule or outcome,
                unit=next((u for u in rows["unit"].unique().to_pylist() if u), ""),
                count=count,
                by_source=sorted(zip(sources["source"], sources["count_all"], strict=True)),
                thresholds=sorted(t for t in pc.unique(rows["threshold"]).to_pylist() if t is not None)[:2],
                least=spread["min"],
                most=spread["max"],
                steps=int(steps or 0),
                broken_by=broken_by,
                alone=without,
                examples=[_example(row) for row in rows.slice(0, _EXAMPLES).to_pylist()],
            )
        )
    return sorted(found, key=lambda r: (-r.count, r.outcome, r.rule))


def quarantined(ledger: Ledger, of_rule: int) -> list[tuple[str, int, list[Example]]]:
    """(rule, rows, the first `of_rule` of them) of what could not be read, most frequent rule first."""
    rows = ledger.rows.filter(pa.array(ledger.is_outcome("quarantined")))
    found = []
    for rule in pc.unique(rows["rule"]).to_pylist():
        of_it = rows.filter(pc.equal(rows["rule"], rule))
        found.append((rule, of_it.num_rows, [_example(row) for row in of_it.slice(0, of_rule).to_pylist()]))
    return sorted(found, key=lambda entry: (-entry[1], entry[0]))


def _example(row: Mapping[str, object]) -> Example:
    return Example(**{name: row[name] for name in Example.__dataclass_fields__})  # type: ignore[arg-type]


def _broken_alone(ledger: Ledger, measured: Mapping[str, Measured]) -> Mapping[str, tuple[int, int]]:
    """Check -> episodes that break its rule, and those of them that break no other and were rejected for it."""
    breaking = {check: np.unique(m.episode[m.passed == BROKEN]) for check, m in measured.items()}
    times = np.zeros(ledger.rows.num_rows, np.int64)
    for episodes in breaking.values():
        times[episodes] += 1
    rejected = ledger.is_outcome("rejected")
    return {
        check: (len(episodes), int(((times[episodes] == 1) & rejected[episodes]).sum()))
        for check, episodes in breaking.items()
        if len(episodes)
    }
