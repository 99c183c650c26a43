"""The one place that decides: rules over findings, then one representative for each set of duplicates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

from transforms.episode import Finding, InstructionStatus
from transforms.evidence import Decision, DuplicateCluster, Evidence, JudgedFinding
from transforms.representatives import Duplicate

STAGES = (
    "load",
    "temporal_alignment",
    "episode_boundary",
    "transition_alignment",
    "instruction_grounding",
    "quality",
    "physics",
)
"""Order in which failures are named, by `Finding.stage`: the earliest stage's decides. Others come after, by name."""
GROUNDING = "instruction_grounding"
DEDUPLICATION = "deduplication"


@dataclass(frozen=True)
class Rule:
    """Bounds, both inclusive, on every measured value of one check."""

    max: float | None = None
    min: float | None = None

    def __post_init__(self) -> None:
        bounds = [bound for bound in (self.max, self.min) if bound is not None]
        if not bounds or not all(isfinite(bound) for bound in bounds):
            raise ValueError(f"rule has max {self.max} and min {self.min}; give one or both as finite numbers")
        if self.max is not None and self.min is not None and self.min > self.max:
            raise ValueError(f"rule has min {self.min} above max {self.max}; nothing could pass")

    def broken_bound(self, value: float) -> float | None:
        """The bound that a value breaks; None where it passes."""
        if self.max is not None and value > self.max:
            return self.max
        return self.min if self.min is not None and value < self.min else None


DEFAULT_RULES: Mapping[str, Rule] = {
    "conventions.column_absent": Rule(max=0),  # what is declared is not there: its limits would go unchecked unnoticed
    "timestamps.backward": Rule(max=0),  # steps that run back in time: order is lost, no derivative holds
    "timestamps.equal": Rule(max=0),  # steps that share a stamp: one of them was never sampled
    "timestamps.missing": Rule(max=0),  # steps without a stamp: cannot be aligned
    "integrity.nan": Rule(max=0),  # NaN or infinity in a transition: poisons a training batch
    "integrity.column_type": Rule(max=0),  # a column typed unlike the source's others: one folder has one schema
    "frames.black": Rule(max=0.5),  # share of the shown frames: a camera dark for half of an episode shows no task
    "frames.frozen": Rule(max=0.5),  # share of the moving steps whose frame stands still
    "physics.position_excess": Rule(max=0),  # beyond a joint limit and its margin
    "physics.velocity_ratio": Rule(max=1.0),  # of the limit and its noise margin
}


@dataclass(frozen=True)
class SelectParams:
    """Rules by check, over the defaults: another rule replaces a default's, None removes it.

    `reject_instruction_status` lists statuses that reject (none by default). `quality_check` names the finding
    that orders duplicates, higher first. Equal motion under another text is told and stays, unless `drop_relabelled`.
    The run fails where a cluster has more than `max_component` members, or where duplicates are more than
    `max_removed_fraction` of any source.
    """

    rules: Mapping[str, Rule | None] = field(default_factory=dict)
    reject_instruction_status: tuple[InstructionStatus, ...] = ()
    quality_check: str = "quality.ldlj"
    drop_relabelled: bool = False
    max_component: int = 10_000
    max_removed_fraction: float = 1.0

    def __post_init__(self) -> None:
        if self.max_component < 2:
            raise ValueError(f"select.max_component is {self.max_component}; need at least 2")
        if not 0 <= self.max_removed_fraction <= 1:
            raise ValueError(f"select.max_removed_fraction is {self.max_removed_fraction}; need 0 to 1")

    def active_rules(self) -> Mapping[str, Rule]:
        """Defaults and the configured rules, without the removed."""
        merged = {**DEFAULT_RULES, **self.rules}
        return {check: rule for check, rule in merged.items() if rule is not None}


class GuardrailExceeded(RuntimeError):
    """Deduplication would remove more than the configuration allows: nothing may be published."""


def judge(finding: Finding, rules: Mapping[str, Rule]) -> JudgedFinding:
    """The finding under its rule; unjudged where no rule speaks of it, it was not run, or it holds no value."""
    rule = rules.get(finding.check)
    if rule is None or finding.status != "measured" or finding.value is None:
        return JudgedFinding(finding)
    broken = rule.broken_bound(finding.value)
    if broken is not None:
        return JudgedFinding(finding, broken, False)
    return JudgedFinding(finding, rule.max if rule.max is not None else rule.min, True)


def _place(stage: str) -> tuple[int, str]:
    return (STAGES.index(stage) if stage in STAGES else len(STAGES)), stage


def _by_stage(judged: JudgedFinding) -> Any:
    """Stage, check, farthest from the threshold first, then place: a total order for any order of findings."""
    found = judged.finding
    excess = abs((found.value or 0.0) - (judged.threshold or 0.0))
    return *_place(found.stage), found.check, -excess, found.interval or (), found.frames or (), found.detail


def decide(evidence: Evidence, params: SelectParams) -> Decision:
    """Kept, or rejected by the first rule in stage order that a finding breaks."""
    rules = params.active_rules()
    judged = tuple(judge(finding, rules) for finding in evidence.findings)
    failed = sorted((j for j in judged if j.passed is False), key=_by_stage)
    status = evidence.instruction_status
    if status in params.reject_instruction_status and not (
        failed and _place(failed[0].finding.stage) <= _place(GROUNDING)
    ):
        detail = f"instruction status is {status!r}, which select.reject_instruction_status lists"
        return Decision(evidence, "rejected", judged, GROUNDING, "instruction.status", detail=detail)
    if not failed:
        return Decision(evidence, "kept", judged)
    first = failed[0].finding
    return Decision(
        evidence,
        "rejected",
        judged,
        first.stage,
        first.check,
        first.value,
        failed[0].threshold,
        first.unit,
        first.detail,
    )


def drop(decision: Decision, duplicate: Duplicate) -> Decision:
    """The decision of a member that gives way."""
    said = f"{duplicate.channel} similarity {duplicate.similarity:.4f}"
    if duplicate.channel != "exact":
        others = {"frames": duplicate.frames, "instruction": duplicate.instruction}
        said += "".join(f", {name} {'abstain' if v is None else format(v, '.4f')}" for name, v in others.items())
    if duplicate.relabelled:
        said += ", relabelled,"
    return replace(
        decision,
        outcome="duplicate",
        stage=DEDUPLICATION,
        rule=f"duplicate.{duplicate.channel}",
        value=round(duplicate.similarity, 9),
        unit="jaccard",
        detail=f"{said} to {duplicate.representative}",
        duplicate_of=duplicate.representative,
    )


def bound_component(cluster: DuplicateCluster, limit: int) -> DuplicateCluster:
    """The cluster; raises GuardrailExceeded where it is larger than the limit."""
    if len(cluster.members) > limit:
        raise GuardrailExceeded(
            f"cluster {cluster.cluster_id} has {len(cluster.members)} members, above select.max_component {limit}; "
            "look at its edges, raise deduplication.trajectory_jaccard, or raise the limit"
        )
    return cluster


def bound_removed(row: tuple[str, tuple[int, int]], limit: float) -> None:
    """Raises GuardrailExceeded where duplicates are more of a source than the limit."""
    source, (removed, total) = row
    if removed > limit * total:
        raise GuardrailExceeded(
            f"source {source}: {removed} of {total} episodes ({removed / total:.3f}) are duplicates, above "
            f"select.max_removed_fraction {limit}; look at the clusters, or raise the limit"
        )
