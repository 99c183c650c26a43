"""Facts to HTML: templates with autoescape, so that no text of a data set is ever markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from beam_pipeline.report import text
from beam_pipeline.report.charts import Histogram, Spark, histogram, sparks
from beam_pipeline.report.choose import Pair
from beam_pipeline.report.distributions import Distribution
from beam_pipeline.report.gather import NOT_RUN, Facts, Subject
from beam_pipeline.report.joints import shown_of
from beam_pipeline.report.looks import Look
from beam_pipeline.report.outcomes import Totals

_ABSENT = "absent"


@dataclass(frozen=True)
class Card:
    """One episode with its pictures and curves."""

    subject: Subject
    look: Look
    sparks: Sequence[Spark]
    seconds: float | None


@dataclass(frozen=True)
class PairCard:
    """A duplicate beside the episode that it gave way to, or two of one motion; `told` is what each channel said."""

    member: Card
    representative: Card | None
    similarity: float
    rule: str
    told: str


@dataclass(frozen=True)
class Segment:
    """A part of a bar, in per cent of its width."""

    kind: str
    count: int
    start: float
    width: float


def render(facts: Facts, failures: Sequence[str] = ()) -> bytes:
    """The whole page, the same bytes for the same facts; `failures` of gates say that nothing was published."""
    chosen = facts.chosen
    page = (
        _environment()
        .get_template("report.html")
        .render(
            facts=facts,
            failures=failures,
            percent=text.percent,
            segments=segments,
            rejected=[_card(facts, c.episode_id) for c in chosen.rejected],
            worst_kept=[_card(facts, c.episode_id) for c in chosen.worst_kept],
            typical=[_card(facts, c.episode_id) for c in chosen.typical],
            pairs=[_pair(facts, pair) for pair in chosen.pairs],
            relabelled=[_pair(facts, pair) for pair in chosen.relabelled],
            lengths=_charts(facts.lengths),
            histograms=_charts(facts.distributions),
            joints=shown_of(facts.joints),
            not_run=facts.not_run[:NOT_RUN],
            n_rejected=facts.total.counts["rejected"],
        )
    )
    return page.encode()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("beam_pipeline.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=text.visible,
    )
    environment.filters |= {
        "number": text.number,
        "shorten": text.shorten,
        "duration": text.duration,
        "instant": text.instant,
        "data_uri": text.data_uri,
    }
    return environment


def segments(total: Totals) -> list[Segment]:
    """One source's outcomes side by side; what metadata declares and the disk lacks comes last."""
    counts = {
        "kept": total.counts["kept"],
        "duplicate": total.counts["duplicate"],
        "rejected": total.counts["rejected"],
        "quarantined": total.counts["quarantined"] - total.absent,
        _ABSENT: total.absent,
    }
    whole, found, start = max(1, total.judged), [], 0.0
    for kind, count in counts.items():
        if count:
            width = 100.0 * count / whole
            found.append(Segment(kind, count, round(start, 3), round(width, 3)))
            start += width
    return found


def _charts(distributions: Sequence[Distribution]) -> list[Histogram]:
    return [histogram(found) for found in distributions]


def _card(facts: Facts, episode_id: str, beside: Look | None = None) -> Card:
    subject, look = facts.subjects[episode_id], facts.looks[episode_id]
    return Card(
        subject,
        look,
        sparks(look, subject.wish.interval, beside),
        text.seconds(subject.row["start_ns"], subject.row["end_ns"]),
    )


def _pair(facts: Facts, pair: Pair) -> PairCard:
    other = pair.representative
    look = facts.looks[other.episode_id] if other is not None else None
    member = _card(facts, pair.member.episode_id, look)
    return PairCard(member, _card(facts, other.episode_id) if other else None, pair.similarity, pair.rule, pair.told)
