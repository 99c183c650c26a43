"""All that a report tells, gathered from a run's tables: the page only lays it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow.compute as pc

from beam_pipeline.curated import CuratedSet
from beam_pipeline.report.choose import Choice, Chosen, choose
from beam_pipeline.report.distributions import Distribution, distribution, lengths, worst_of_each
from beam_pipeline.report.frames import Album
from beam_pipeline.report.joints import JointTable, joint_tables
from beam_pipeline.report.looks import Look, Wish
from beam_pipeline.report.outcomes import (
    Example,
    Reason,
    Totals,
    grand_total,
    quarantined,
    reasons,
    seconds_of,
    totals,
)
from beam_pipeline.report.relabelled import read_relabelled
from beam_pipeline.report.tables import (
    UNJUDGED,
    FoundOf,
    Ledger,
    Measured,
    NotRun,
    read_findings,
    read_ledger,
    read_measures,
    read_statuses,
)
from beam_pipeline.summary import RunSummary
from transforms.output_files import EPISODES

QUARANTINED_OF_RULE, INSTRUCTIONS, NOT_RUN = 10, 40, 150
"""How many rows of each the page shows."""


@dataclass(frozen=True)
class Subject:
    """One episode that the page shows: its ledger row, its findings, its look."""

    choice: Choice
    row: Mapping[str, object]
    findings: Sequence[FoundOf]
    wish: Wish

    @property
    def broken(self) -> Sequence[FoundOf]:
        """Findings that break their rule, the deciding one first."""
        failed = [found for found in self.findings if found.passed is False]
        return sorted(failed, key=lambda found: found.check != self.row["rule"])


@dataclass(frozen=True)
class Instruction:
    """One instruction of kept episodes, with how many have it by status."""

    text: str
    count: int
    statuses: Sequence[tuple[str, int]]


@dataclass(frozen=True)
class Facts:
    """What is told of a run."""

    summary: RunSummary
    total: Totals
    sources: Sequence[Totals]
    reasons: Sequence[Reason]
    quarantined: Sequence[tuple[str, int, Sequence[Example]]]
    distributions: Sequence[Distribution]
    constant: Sequence[Distribution]
    lengths: Sequence[Distribution]
    joints: Sequence[JointTable]
    not_run: Sequence[NotRun]
    statuses: Mapping[str, Mapping[str, int]]
    instructions: Sequence[Instruction]
    n_instructions: int
    chosen: Chosen
    n_relabelled: int
    subjects: Mapping[str, Subject]
    looks: Mapping[str, Look]
    disagreements: Sequence[str]


@dataclass(frozen=True)
class Tables:
    """What is read of whole tables: ledger, the worst value of each check and episode, what was not run, statuses."""

    ledger: Ledger
    measured: Mapping[str, Measured]
    not_run: Sequence[NotRun]
    statuses: Mapping[str, Mapping[str, int]]


def read_tables(curated: CuratedSet) -> Tables:
    """Read ledger and evidence, a part file at a time."""
    ledger = read_ledger(curated)
    everything, not_run = read_measures(curated, ledger)
    measured = {check: worst_of_each(found) for check, found in everything.items()}
    return Tables(ledger, measured, not_run, read_statuses(curated, ledger))


def gather(curated: CuratedSet, tables: Tables, summary: RunSummary, album: Album) -> Facts:
    """Read the rest; what is read of episodes themselves is bounded, whatever the size of the run."""
    ledger, measured = tables.ledger, tables.measured
    n_relabelled, relabelled = read_relabelled(curated)
    chosen = choose(ledger, measured, relabelled)
    findings = read_findings(curated, [choice.episode_id for choice in chosen.episodes()])
    subjects = {c.episode_id: _subject(ledger, c, findings.get(c.episode_id, ())) for c in chosen.episodes()}
    drawn = [distribution(found, ledger) for found in sorted(measured.values(), key=_in_order_of_interest)]
    named = sorted({*(source.source for source in summary.outcomes), *ledger.sources})
    of_sources = totals(ledger, named)
    instructions, n_instructions = _instructions(curated)
    lost = ~ledger.is_outcome("kept")
    lengths_s = lengths("duration", "s", seconds_of(ledger), lost, ledger)
    lengths_steps = lengths("length", "steps", ledger.numbers("n_steps"), lost, ledger)
    return Facts(
        summary=summary,
        total=grand_total(ledger),
        sources=of_sources,
        reasons=reasons(ledger, measured),
        quarantined=quarantined(ledger, QUARANTINED_OF_RULE),
        distributions=[d for d in drawn if not d.constant],
        constant=[d for d in drawn if d.constant],
        lengths=[d for d in (lengths_s, lengths_steps) if d is not None and not d.constant],
        joints=joint_tables(curated, summary.joints, measured, ledger),
        not_run=tables.not_run,
        statuses=tables.statuses,
        instructions=instructions,
        n_instructions=n_instructions,
        chosen=chosen,
        n_relabelled=n_relabelled,
        subjects=subjects,
        looks=album.looks([subject.wish for subject in subjects.values()]),
        disagreements=_disagreements(summary, of_sources),
    )


def _in_order_of_interest(measured: Measured) -> tuple[int, str, str]:
    """Rules that something breaks, then other rules, then what no rule speaks of; by stage and name."""
    broken, ruled = (measured.passed == 0).any(), (measured.passed != UNJUDGED).any()
    return (0 if broken else 1 if ruled else 2), measured.stage, measured.check


def _subject(ledger: Ledger, choice: Choice, findings: Sequence[FoundOf]) -> Subject:
    row = ledger.row(choice.row)
    deciding = [f for f in findings if f.check == row["rule"] and f.passed is False]
    about = deciding or [f for check, _ in choice.why for f in findings if f.check == check]
    first = max(about, key=lambda f: (f.first_frame is not None, abs(f.value or 0.0)), default=None)
    interval = None
    if first is not None and first.first_frame is not None and first.last_frame is not None:
        interval = (first.first_frame, first.last_frame)
    camera = first.detail.partition(":")[0] if first is not None and first.check.startswith("frames.") else ""
    wish = Wish(choice.episode_id, str(row["source"]), str(row["content_id"]), interval, camera)
    return Subject(choice, row, findings, wish)


def _instructions(curated: CuratedSet) -> tuple[list[Instruction], int]:
    """Instructions of kept episodes, most frequent first, and how many there are in all."""
    if not curated.files(EPISODES):
        return [], 0
    rows = curated.rows(EPISODES, columns=["instruction", "instruction_status"])
    counts = rows.group_by(["instruction", "instruction_status"]).aggregate([([], "count_all")])
    by_text: dict[str | None, list[tuple[str, int]]] = {}
    texts = counts.group_by("instruction").aggregate([("count_all", "sum")])
    top = texts.sort_by([("count_all_sum", "descending"), ("instruction", "ascending")]).slice(0, INSTRUCTIONS)
    wanted = top["instruction"].combine_chunks()
    shown = counts.filter(pc.is_valid(pc.index_in(counts["instruction"], value_set=wanted)))
    for text, status, count in zip(*shown.to_pydict().values(), strict=True):
        by_text.setdefault(text, []).append((status, count))
    found = [
        Instruction(text if text is not None else "", count, sorted(by_text.get(text, [])))
        for text, count in zip(*top.to_pydict().values(), strict=True)
    ]
    return found, texts.num_rows


def _disagreements(summary: RunSummary, sources: Sequence[Totals]) -> list[str]:
    """Where the ledger does not add up, or the run counted otherwise than the ledger says."""
    said = {source.source: source for source in summary.outcomes}
    found = []
    for total in sources:
        if not total.adds_up:
            found.append(
                f"{total.source}: {total.planned} inputs and {total.children} children have {total.rows} outcomes"
            )
        counted = said.get(total.source)
        pairs = [("planned", total.planned), *total.counts.items()]
        for name, count in pairs if counted is not None else ():
            other = getattr(counted, name)
            if other != count:
                found.append(f"{total.source}: the ledger has {count} {name}, run_summary.json says {other}")
    return found
