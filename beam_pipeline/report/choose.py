"""Which few episodes to look at: the worst of each rule, the doubtful duplicates, the worst that were kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from beam_pipeline.report.distributions import RESOLUTION, badness, low_is_worse
from beam_pipeline.report.relabelled import Relabelled
from beam_pipeline.report.tables import UNJUDGED, Ledger, Measured

REJECTED, PAIRS, WORST_KEPT, TYPICAL = 16, 8, 14, 6
"""How many of each are shown with pictures, however large the run is."""
_PAIRS_OF_ONE = 2
_FIRST = ("quality.", "frames.", "physics.", "grounding.", "alignment.")
_ABOUT_FILES = ("metadata.", "conventions.")
"""Checks that say nothing of how an episode looks."""
_WORST_OF_SCORE = 3
LONGEST = "steps, longest"


@dataclass(frozen=True)
class Choice:
    """One episode to show, by its row in the ledger; `why` are the (check, value) it was chosen for."""

    row: int
    episode_id: str
    why: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Worst:
    """The worst kept episodes by one score, worst first: (episode id, value)."""

    check: str
    unit: str
    low_is_worse: bool
    median: float
    episodes: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Pair:
    """A duplicate and the episode that it gave way to; `representative` is None where the ledger lacks that.

    `told` is what each channel said, in words.
    """

    member: Choice
    representative: Choice | None
    similarity: float
    rule: str
    told: str = ""


@dataclass(frozen=True)
class Chosen:
    """All episodes that the report shows with pictures."""

    rejected: Sequence[Choice] = ()
    pairs: Sequence[Pair] = ()
    relabelled: Sequence[Pair] = ()
    worst_kept: Sequence[Choice] = ()
    typical: Sequence[Choice] = ()
    by_score: Sequence[Worst] = ()

    def episodes(self) -> list[Choice]:
        """Each episode once, in the order of the page."""
        pairs = [
            c for pair in (*self.pairs, *self.relabelled) for c in (pair.member, pair.representative) if c is not None
        ]
        found: dict[str, Choice] = {}
        for choice in (*self.rejected, *pairs, *self.worst_kept, *self.typical):
            found.setdefault(choice.episode_id, choice)
        return list(found.values())


def choose(ledger: Ledger, measured: Mapping[str, Measured], relabelled: Sequence[Relabelled] = ()) -> Chosen:
    """The episodes to show, the same for the same tables; `measured` holds the worst value of each episode."""
    worst_kept, by_score = _worst_kept(ledger, {**measured, LONGEST: _lengths(ledger)})
    return Chosen(
        rejected=_rejected(ledger),
        pairs=_pairs(ledger),
        relabelled=_relabelled(ledger, relabelled),
        worst_kept=worst_kept,
        typical=_typical(ledger, {choice.row for choice in worst_kept}),
        by_score=by_score,
    )


def in_turn(queues: Iterable[Sequence[int]], limit: int) -> list[int]:
    """The first of each queue, then the second of each, without repeats."""
    taken: dict[int, None] = {}
    waiting = [list(queue) for queue in queues]
    while waiting and len(taken) < limit:
        for queue in waiting:
            while queue and queue[0] in taken:
                queue.pop(0)
            if queue and len(taken) < limit:
                taken[queue.pop(0)] = None
        waiting = [queue for queue in waiting if queue]
    return list(taken)


def _rejected(ledger: Ledger) -> list[Choice]:
    """Of each rule in turn the episode furthest beyond its threshold; only episodes that were measured whole."""
    chosen = ledger.is_outcome("rejected") & (np.asarray(ledger.rows["content_id"].to_numpy(), object) != "")
    places = np.flatnonzero(chosen)
    value, threshold = ledger.numbers("value"), ledger.numbers("threshold")
    excess = np.nan_to_num(np.abs(value - threshold), nan=-1.0)
    rules = np.asarray(ledger.rows["rule"].to_numpy(), object)
    queues = []
    for rule in sorted(set(rules[places])):
        of_rule = places[rules[places] == rule]
        queues.append(of_rule[np.lexsort((of_rule, -excess[of_rule]))][:REJECTED].tolist())
    return [_choice(ledger, row) for row in in_turn(queues, REJECTED)]


def _pairs(ledger: Ledger) -> list[Pair]:
    """The least similar first: there a mistake is likeliest; few of one representative."""
    places = np.flatnonzero(ledger.is_outcome("duplicate"))
    similarity = np.nan_to_num(ledger.numbers("value"), nan=0.0)
    order = places[np.lexsort((places, similarity[places]))]
    of_one: dict[str, int] = {}
    rows: list[tuple[int, str]] = []
    given_way = ledger.rows["duplicate_of"]
    for row in order.tolist():
        representative = given_way[row].as_py() or ""
        of_one[representative] = of_one.get(representative, 0) + 1
        if of_one[representative] <= _PAIRS_OF_ONE:
            rows.append((row, representative))
        if len(rows) == PAIRS:
            break
    others = ledger.places([representative for _, representative in rows])
    rules, details = ledger.rows["rule"], ledger.rows["detail"]
    return [
        Pair(
            _choice(ledger, row),
            _choice(ledger, other) if other >= 0 else None,
            float(similarity[row]),
            rules[row].as_py(),
            details[row].as_py() or "",
        )
        for (row, _), other in zip(rows, others, strict=True)
    ]


def _relabelled(ledger: Ledger, found: Sequence[Relabelled]) -> list[Pair]:
    """Pairs of equal motion under two texts, both of which the ledger has."""
    rows = [ledger.places([one.a, one.b]) for one in found]
    return [
        Pair(_choice(ledger, a), _choice(ledger, b), one.motion, "relabelled", _told(one))
        for one, (a, b) in zip(found, rows, strict=True)
        if min(a, b) >= 0
    ]


def _told(one: Relabelled) -> str:
    frames = "frames abstain" if one.frames is None else f"frames {one.frames:.4f}"
    texts = f": {one.instruction_a!r} and {one.instruction_b!r}" if one.instruction_a or one.instruction_b else ""
    return f"trajectory similarity {one.motion:.4f}, {frames}, instruction {one.text:.4f}{texts}"


def _worst_kept(ledger: Ledger, measured: Mapping[str, Measured]) -> tuple[list[Choice], list[Worst]]:
    """Of each score in turn the worst kept episode; scores that a rule speaks of come first."""
    kept = ledger.is_outcome("kept")
    queues: list[Sequence[int]] = []
    why: dict[int, list[tuple[str, float]]] = {}
    by_score = []
    for check in sorted((c for c in measured if not c.startswith(_ABOUT_FILES)), key=lambda c: _rank(measured[c])):
        found = measured[check]
        places = np.flatnonzero(kept[found.episode])
        bad = badness(found)[places]
        if not len(places) or bad.max() - bad.min() <= RESOLUTION.get(check, 0.0):
            continue
        worse = bad > np.median(bad)  # what is as good as most is not among the worst
        order = places[worse][np.lexsort((found.episode[places][worse], -bad[worse]))][:_WORST_OF_SCORE]
        if not len(order):
            continue
        rows, values = found.episode[order].tolist(), found.value[order].tolist()
        queues.append(rows)
        for row, value in zip(rows, values, strict=True):
            why.setdefault(row, []).append((check, value))
        episodes = tuple((ledger.ids[row].as_py(), value) for row, value in zip(rows, values, strict=True))
        median = float(np.median(found.value[places]))
        by_score.append(Worst(check, found.unit, low_is_worse(found), median, episodes))
    return [_choice(ledger, row, tuple(why[row])) for row in in_turn(queues, WORST_KEPT)], by_score


def _lengths(ledger: Ledger) -> Measured:
    """Steps of each episode as a score of which much is bad: struggles run long."""
    steps = ledger.numbers("n_steps")
    known = np.flatnonzero(np.isfinite(steps))
    unjudged = np.full(len(known), UNJUDGED, np.int8)
    return Measured(LONGEST, "", "steps", steps[known], known, unjudged, np.full(len(known), np.nan))


def _rank(measured: Measured) -> tuple[bool, int, str]:
    unjudged = not (measured.passed != UNJUDGED).any()
    group = next((i for i, prefix in enumerate(_FIRST) if measured.check.startswith(prefix)), len(_FIRST))
    return unjudged, group, measured.check


def _typical(ledger: Ledger, shown: set[int]) -> list[Choice]:
    """Of each source the kept episode of middle length, or its neighbour where that is shown already."""
    steps, kept = ledger.numbers("n_steps"), ledger.is_outcome("kept")
    found = []
    for code in range(len(ledger.sources)):
        rows = np.flatnonzero(kept & (ledger.source == code))
        order = rows[np.lexsort((rows, steps[rows]))]
        left = [row for row in order.tolist() if row not in shown]
        if left:
            found.append(_choice(ledger, left[len(left) // 2]))
    return found[:TYPICAL]


def _choice(ledger: Ledger, row: int, why: tuple[tuple[str, float], ...] = ()) -> Choice:
    return Choice(row, ledger.ids[row].as_py(), why)
