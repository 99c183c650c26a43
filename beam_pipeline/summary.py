"""What a run came to: outcomes per source, files, bytes and times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from beam_pipeline.joint_limits import JointLimits
from transforms.output_files import OutcomeCount, PartReport

DECLARED_ABSENT = "declared_absent"
"""Rule of inputs that metadata names and the disk lacks: they are counted, but gates do not divide by them."""


@dataclass(frozen=True)
class SourceOutcomes:
    """Ledger rows of one source by outcome; `reasons` are (rule, count) of what was not kept, most frequent first.

    `planned` counts inputs; where recordings were cut, the outcomes count them and their children.
    """

    source: str
    planned: int = 0
    kept: int = 0
    rejected: int = 0
    duplicate: int = 0
    quarantined: int = 0
    cut: int = 0
    declared_absent: int = 0
    reasons: tuple[tuple[str, int], ...] = ()

    @property
    def present(self) -> int:
        """Inputs that were there to be judged: without absent ones, and children in place of what was cut."""
        return self.kept + self.rejected + self.duplicate + self.quarantined - self.declared_absent

    @property
    def quarantined_present(self) -> int:
        """Quarantined inputs that were there."""
        return self.quarantined - self.declared_absent


@dataclass(frozen=True)
class TableSize:
    """All files of one table of one source; videos belong to no source."""

    table: str
    source: str
    files: int
    rows: int
    bytes: int


@dataclass(frozen=True)
class StageCount:
    """Elements that a stage took in, put out and sent to the dead letters, over all sources."""

    stage: str
    taken: int
    put_out: int
    dead: int


@dataclass(frozen=True)
class RunSummary:
    """One run; times live only here, ISO 8601 in UTC, and the path of its configuration on this machine."""

    started: str
    ended: str
    wall_s: float
    config_hash: str
    code_version: str
    runner: str
    outcomes: tuple[SourceOutcomes, ...]
    counts: tuple[OutcomeCount, ...]
    sizes: tuple[TableSize, ...]
    stages: tuple[StageCount, ...] = ()
    config: str = ""
    joints: tuple[JointLimits, ...] = ()


def summarise(counts: Sequence[OutcomeCount], sources: Sequence[str]) -> list[SourceOutcomes]:
    """Outcomes of every source by name, those without a single row too."""
    return [_of_source(name, [c for c in counts if c.source == name]) for name in sorted(sources)]


def _of_source(name: str, counts: list[OutcomeCount]) -> SourceOutcomes:
    reasons: dict[str, int] = {}
    for entry in counts:
        if entry.outcome not in ("kept", "cut"):
            rule = entry.rule or entry.outcome
            reasons[rule] = reasons.get(rule, 0) + entry.count

    def total(outcome: str) -> int:
        return sum(c.count for c in counts if c.outcome == outcome)

    return SourceOutcomes(
        source=name,
        planned=sum(c.count for c in counts if not c.child),
        kept=total("kept"),
        rejected=total("rejected"),
        duplicate=total("duplicate"),
        quarantined=total("quarantined"),
        cut=total("cut"),
        declared_absent=sum(c.count for c in counts if c.rule == DECLARED_ABSENT),
        reasons=tuple(sorted(reasons.items(), key=lambda r: (-r[1], r[0]))),
    )


def stage_counts(counters: Mapping[str, int]) -> list[StageCount]:
    """What each stage counted, from Beam's committed counters `demosift:STAGE.in|out|dead`."""
    stages = sorted({name.removeprefix("demosift:").rpartition(".")[0] for name in counters if name.endswith(".in")})
    return [
        StageCount(stage, *(counters.get(f"demosift:{stage}.{end}", 0) for end in ("in", "out", "dead")))
        for stage in stages
    ]


def table_sizes(files: Sequence[PartReport]) -> list[TableSize]:
    """Files, rows and bytes of each table and source."""
    sizes: dict[tuple[str, str], list[PartReport]] = {}
    for file in files:
        sizes.setdefault((file.path.partition("/")[0], file.source), []).append(file)
    return [
        TableSize(table, source, len(group), sum(f.rows for f in group), sum(f.bytes for f in group))
        for (table, source), group in sorted(sizes.items())
    ]
