"""The distribution of each check over episodes: bins, thresholds, sources side by side, and who is nearest the line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from beam_pipeline.report.tables import BROKEN, PASSED, UNJUDGED, Floats, Ledger, Measured

BINS = 28
SOURCES_SHOWN = 8
LOW_IS_WORSE = frozenset(
    {
        "grounding.status",
        "grounding.text_agreement",
        "grounding.verb_consistency",
        "integrity.transitions",
        "quality.ldlj",
        "quality.sparc",
    }
)
IDEAL: Mapping[str, float] = {"conventions.velocity_scale": 1.0}
"""Checks that are best at a number, and worse the further from it."""
RESOLUTION: Mapping[str, float] = {
    "alignment.jitter_ms": 1.0,
    "alignment.max_gap_ms": 1.0,
    "physics.encoder_noise": 1e-4,
    "physics.quaternion_norm": 1e-3,
}
"""Episodes that differ by no more than this in a check do not differ: rounding of stamps and of float32."""
_TAIL = 5.0
"""Values further out than this many times the width of the middle 99 % are counted at the edge, not drawn to scale."""


@dataclass(frozen=True)
class SourceRange:
    """Where one source's values lie."""

    source: str
    count: int
    least: float
    low: float
    median: float
    high: float
    most: float


@dataclass(frozen=True)
class Nearest:
    """The episode whose value is nearest to the threshold on one side."""

    episode_id: str
    value: float
    passed: bool


@dataclass(frozen=True)
class Distribution:
    """One check: per episode its worst value, counted in equal bins from `low` to `high`.

    `others` and `broken` are counts by bin; `below` and `above` of them lie outside and are counted in the end bins.
    """

    name: str
    unit: str
    count: int
    least: float
    most: float
    median: float
    low: float
    high: float
    others: Sequence[int]
    broken: Sequence[int]
    below: int
    above: int
    thresholds: Sequence[tuple[str, float]]
    sources: Sequence[SourceRange]
    nearest: Sequence[Nearest]

    @property
    def constant(self) -> bool:
        """Whether all episodes have one value, apart from rounding within the rule: there is nothing to draw."""
        if any(self.least <= limit <= self.most for _, limit in self.thresholds):
            return self.least == self.most
        return self.most - self.least <= RESOLUTION.get(self.name, 0.0)

    @property
    def n_broken(self) -> int:
        return sum(self.broken)


def low_is_worse(measured: Measured) -> bool:
    """Which end is bad: as the rule says where there is one, else by what the check measures."""
    judged = measured.passed != UNJUDGED
    below, above = measured.value < measured.threshold, measured.value > measured.threshold
    broken = judged & (measured.passed == BROKEN)
    passed = judged & (measured.passed == PASSED)
    if (broken & above).any() or (passed & below).any():
        return False
    if (broken & below).any() or (passed & above).any():
        return True
    return measured.check in LOW_IS_WORSE


def badness(measured: Measured) -> Floats:
    """(M,) how bad each value is, larger is worse; comparable within a check only."""
    if measured.check in IDEAL and not (measured.passed != UNJUDGED).any():
        return np.abs(measured.value - IDEAL[measured.check])
    return -measured.value if low_is_worse(measured) else measured.value


def worst_of_each(measured: Measured) -> Measured:
    """Of each episode its worst value, one that breaks the rule before others, in order of the ledger's rows."""
    order = np.lexsort((badness(measured), measured.passed == BROKEN, measured.episode))
    worst = order[np.flatnonzero(np.diff(measured.episode[order], append=-1))]
    columns = {name: getattr(measured, name)[worst] for name in ("value", "episode", "passed", "threshold")}
    return replace(measured, **columns)


def distribution(worst: Measured, ledger: Ledger) -> Distribution:
    """The distribution of one check over the episodes that it was made on, given the worst value of each."""
    thresholds = _thresholds(worst)
    return _binned(
        worst.check,
        worst.unit,
        worst.value,
        worst.passed == BROKEN,
        thresholds,
        _ranges(worst.value, ledger.source[worst.episode], ledger.sources, badness(worst)),
        _nearest(worst, ledger) if thresholds else (),
    )


def lengths(name: str, unit: str, values: Floats, lost: NDArray[np.bool_], ledger: Ledger) -> Distribution | None:
    """The distribution of a length over the ledger's rows (N,), NaN left out; what was not kept is told apart."""
    known = np.flatnonzero(np.isfinite(values) & ~ledger.is_outcome("cut"))
    if not len(known):
        return None
    chosen = values[known]
    ranges = _ranges(chosen, ledger.source[known], ledger.sources, -chosen)
    return _binned(name, unit, chosen, lost[known], (), ranges, ())


def _binned(
    name: str,
    unit: str,
    values: Floats,
    broken: NDArray[np.bool_],
    thresholds: Sequence[tuple[str, float]],
    sources: Sequence[SourceRange],
    nearest: Sequence[Nearest],
) -> Distribution:
    low, high = axis(values, [limit for _, limit in thresholds])
    width = (high - low) / BINS
    bins = np.clip(((values - low) / width).astype(np.int64), 0, BINS - 1) if width else np.zeros(len(values), np.int64)
    return Distribution(
        name=name,
        unit=unit,
        count=len(values),
        least=float(values.min()),
        most=float(values.max()),
        median=float(np.median(values)),
        low=low,
        high=high,
        others=np.bincount(bins[~broken], minlength=BINS).tolist(),
        broken=np.bincount(bins[broken], minlength=BINS).tolist(),
        below=int((values < low).sum()),
        above=int((values > high).sum()),
        thresholds=thresholds,
        sources=sources,
        nearest=nearest,
    )


def axis(values: Floats, thresholds: Sequence[float]) -> tuple[float, float]:
    """Ends of the axis: all values and thresholds, but not a tail that would squeeze everything else into one bin."""
    low, high = float(values.min()), float(values.max())
    near, far = (float(q) for q in np.quantile(values, [0.005, 0.995]))
    if far > near:
        low = near if near - low > _TAIL * (far - near) else low
        high = far if high - far > _TAIL * (far - near) else high
    return min([low, *thresholds]), max([high, *thresholds])


def _thresholds(measured: Measured) -> Sequence[tuple[str, float]]:
    """`min` or `max` and the bound, as the verdicts show them; a rule that nothing breaks shows one bound."""
    judged = measured.passed != UNJUDGED
    found = set()
    for limit in np.unique(measured.threshold[judged]).tolist():
        at = judged & (measured.threshold == limit)
        broken_below = (at & (measured.passed == BROKEN) & (measured.value < limit)).any()
        passed_above = (at & (measured.passed == PASSED) & (measured.value > limit)).any()
        found.add(("min" if broken_below or passed_above else "max", limit))
    return sorted(found)


def _nearest(worst: Measured, ledger: Ledger) -> Sequence[Nearest]:
    found = []
    for verdict in (PASSED, BROKEN):
        chosen = np.flatnonzero(worst.passed == verdict)
        if not len(chosen):
            continue
        gaps = np.abs(worst.value[chosen] - worst.threshold[chosen])
        first = chosen[np.lexsort((worst.episode[chosen], gaps))[0]]
        episode_id = ledger.ids[int(worst.episode[first])].as_py()
        found.append(Nearest(episode_id, float(worst.value[first]), verdict == PASSED))
    return found


def _ranges(values: Floats, codes: NDArray[np.int64], sources: Sequence[str], bad: Floats) -> Sequence[SourceRange]:
    """Each source's range; of many sources those with the worst values."""
    found = []
    for code in np.unique(codes).tolist():
        of_source = values[codes == code]
        low, median, high = (float(q) for q in np.quantile(of_source, [0.05, 0.5, 0.95]))
        shown = SourceRange(
            sources[code], len(of_source), float(of_source.min()), low, median, high, float(of_source.max())
        )
        found.append((-float(bad[codes == code].max()), shown))
    worst = sorted(found, key=lambda pair: (pair[0], pair[1].source))[:SOURCES_SHOWN]
    return sorted((shown for _, shown in worst), key=lambda shown: shown.source)
