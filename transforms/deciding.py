"""Stored evidence and duplicate edges in, one decision an episode out: rules, people's verdicts, representatives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.deduplication.clusters import clusters
from transforms.episode import Finding
from transforms.evidence import Decision, DuplicateCluster, DuplicateEdge, Evidence, Fingerprint
from transforms.judgement import Judged, findings_at, judge_all
from transforms.measured import Measured
from transforms.representatives import Standing, choose
from transforms.select import SelectParams, bound_component, bound_removed, decide, drop
from transforms.verdicts import Verdict, overrule


@dataclass(frozen=True)
class Decided:
    """All of a run's decisions: `decisions` by row of `measured.episodes`, of those not simply kept; clusters."""

    measured: Measured
    judged: Judged
    decisions: Mapping[int, Decision]
    clusters: tuple[DuplicateCluster, ...]

    def kept(self) -> np.ndarray:
        """Whether each episode (N,) is kept."""
        mask = np.ones(self.measured.episodes.num_rows, np.bool_)
        for row, decision in self.decisions.items():
            mask[row] = decision.outcome == "kept"
        return mask


@dataclass(frozen=True)
class Wanted:
    """A kept episode whose steps must be read again: out of which recording, and which content was measured."""

    episode_id: str
    source: str
    recording_id: str
    content_id: str


def decide_all(
    measured: Measured,
    edges: Iterable[DuplicateEdge],
    params: SelectParams,
    verdicts: Mapping[str, Verdict],
    published: Set[tuple[str, str]] = frozenset(),
) -> Decided:
    """One decision for each measured episode; `published` are (episode id, content id) of the last published run.

    A person's `keep` makes an episode pass and never give way; a `reject` makes it fail, so that another member of its
    cluster may represent. Raises GuardrailExceeded.
    """
    judged = judge_all(measured.findings, params.active_rules())
    stub = _Stubs(measured)
    decisions = _by_rules(measured, judged, params, stub)
    ids = measured.episodes.column("episode_id").to_pylist()
    row_of = {name: row for row, name in enumerate(ids)}
    said = {row_of[name]: verdict for name, verdict in verdicts.items() if name in row_of}
    found = [bound_component(cluster, params.max_component) for cluster in clusters(edges)]
    members = sorted({row_of[member] for cluster in found for member in cluster.members})
    standings = _standings(measured, members, decisions, said, params, published)
    for cluster in found:
        own = [standings[row_of[member]] for member in cluster.members]
        for duplicate in choose(cluster, own, params.drop_relabelled):
            row = row_of[duplicate.episode_id]
            if row in decisions:  # rejected by the rules, kept by a person: what it repeats is still told
                decisions[row] = replace(decisions[row], duplicate_of=duplicate.representative)
            else:
                decisions[row] = drop(Decision(stub(row), "kept"), duplicate)
    for row, verdict in said.items():
        decisions[row] = overrule(decisions.get(row) or Decision(stub(row), "kept"), verdict)
    _bound_removed(measured, decisions, params)
    return Decided(measured, judged, decisions, tuple(found))


class _Stubs:
    """What a decision needs to know of an episode: who it is, its instruction, and the findings in question."""

    def __init__(self, measured: Measured) -> None:
        columns = ("episode_id", "source", "instruction", "instruction_status")
        self._known = [measured.episodes.column(name).to_pylist() for name in columns]

    def __call__(self, row: int, findings: tuple[Finding, ...] = ()) -> Evidence:
        name, source, instruction, status = (column[row] for column in self._known)
        return Evidence(
            episode_id=name,
            source=source,
            uri="",
            content_id="",
            n_steps=0,
            n_transitions=0,
            n_bytes=0,
            staged="",
            fingerprint=Fingerprint(name, "", ""),
            instruction=instruction,
            instruction_status=status,
            findings=findings,
        )


def _by_rules(measured: Measured, judged: Judged, params: SelectParams, stub: _Stubs) -> dict[int, Decision]:
    """The rejected: episodes with a finding that breaks its rule, or with a status that rejects."""
    broken = np.flatnonzero(judged.passed == 0)
    failed: dict[int, list[Finding]] = {}
    for row, finding in zip(measured.owner[broken].tolist(), findings_at(measured.findings, broken), strict=True):
        failed.setdefault(row, []).append(finding)
    status = measured.episodes.column("instruction_status")
    listed = pc.is_in(status, pa.array(params.reject_instruction_status, pa.string()))
    rows = sorted({*failed, *np.flatnonzero(np.asarray(listed)).tolist()})
    return {row: decide(stub(row, tuple(failed.get(row, ()))), params) for row in rows}


def _standings(
    measured: Measured,
    rows: list[int],
    decisions: Mapping[int, Decision],
    said: Mapping[int, Verdict],
    params: SelectParams,
    published: Set[tuple[str, str]],
) -> dict[int, Standing]:
    """Where each member of a cluster stands: by what was published, instruction, lowest quality at six decimals, id."""
    findings = measured.findings
    scored = np.asarray(pc.equal(findings.column("check"), params.quality_check)) & np.asarray(
        pc.equal(findings.column("status"), "measured")
    )
    at = np.flatnonzero(scored & np.asarray(findings.column("value").is_valid()))
    quality = np.full(measured.episodes.num_rows, np.nan)
    np.fmin.at(quality, measured.owner[at], np.asarray(findings.column("value").take(pa.array(at)), np.float64))
    columns = ["episode_id", "content_id", "instruction"]
    known = measured.episodes.select(columns).take(pa.array(rows, pa.int64())).to_pylist()
    return {
        row: Standing(
            unlabelled=not values["instruction"],
            no_quality=bool(np.isnan(quality[row])),
            negative_quality=0.0 if np.isnan(quality[row]) else -round(float(quality[row]), 6),
            episode_id=values["episode_id"],
            passing=said[row].verdict == "keep" if row in said else row not in decisions,
            published=(values["episode_id"], values["content_id"]) in published,
        )
        for row, values in zip(rows, known, strict=True)
    }


def _bound_removed(measured: Measured, decisions: Mapping[int, Decision], params: SelectParams) -> None:
    removed: dict[str, int] = {}
    for decision in decisions.values():
        if decision.outcome == "duplicate":
            removed[decision.evidence.source] = removed.get(decision.evidence.source, 0) + 1
    totals = pc.value_counts(measured.episodes.column("source")).to_pylist()
    for source in sorted(totals, key=lambda row: row["values"]):
        bound_removed(
            (source["values"], (removed.get(source["values"], 0), source["counts"])), params.max_removed_fraction
        )
