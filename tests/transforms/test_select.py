"""Rules, representatives and guardrails."""

from dataclasses import replace
from itertools import combinations

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline as Pipeline
from apache_beam.testing.util import assert_that
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transforms.episode import Finding
from transforms.evidence import Decision, DuplicateCluster, DuplicateEdge, Evidence, Fingerprint
from transforms.representatives import choose
from transforms.select import (
    DEFAULT_RULES,
    GuardrailExceeded,
    Rule,
    Select,
    SelectParams,
    bound_component,
    bound_removed,
    decide,
    standing,
)
from transforms.union_find import components


def evidence(name: str, *findings: Finding, text: str = "pick", source: str = "s", status: str = "matched") -> Evidence:
    return Evidence(
        episode_id=name,
        source=source,
        uri="",
        content_id=name,
        n_steps=2,
        n_transitions=1,
        n_bytes=0,
        staged="",
        fingerprint=Fingerprint(name, name, text),
        instruction=text,
        instruction_status=status,
        findings=findings,
    )


def ldlj(value: float) -> Finding:
    return Finding("quality", "quality.ldlj", value)


def fast(value: float) -> Finding:
    return Finding("physics", "physics.velocity_ratio", value, unit="ratio", frames=(3, 4), detail="joint 2")


def cluster(*edges: DuplicateEdge) -> DuplicateCluster:
    members = tuple(sorted({m for e in edges for m in (e.a, e.b)}))
    return DuplicateCluster(members[0], members, edges)


def near(a: str, b: str, similarity: float = 0.9, relabelled: bool = False) -> DuplicateEdge:
    return DuplicateEdge(a, b, "trajectory", similarity, relabelled)


def chosen(group: DuplicateCluster, *rows: Evidence) -> dict[str, str]:
    params = SelectParams()
    return {d.episode_id: d.representative for d in choose(group, (standing(decide(r, params), params) for r in rows))}


def test_the_earliest_stage_that_fails_decides_and_all_findings_are_judged():
    nan = Finding("load", "integrity.nan", 3.0, unit="values")
    other = Finding("quality", "quality.sparc", -2.0)
    absent = Finding("physics", "physics.position_excess", detail="no URDF", status="not_run")
    decision = decide(evidence("a", fast(1.2), other, absent, nan), SelectParams())
    assert (decision.outcome, decision.stage, decision.rule) == ("rejected", "load", "integrity.nan")
    assert (decision.value, decision.threshold, decision.unit) == (3.0, 0, "values")
    assert [(j.threshold, j.passed) for j in decision.judged] == [(1.0, False), (None, None), (None, None), (0, False)]


def test_of_one_check_the_worst_finding_is_named_and_bounds_are_inclusive():
    decision = decide(evidence("a", fast(1.0), fast(1.2), fast(1.7)), SelectParams())
    assert (decision.value, decision.detail) == (1.7, "joint 2")
    assert decide(evidence("a", fast(1.0)), SelectParams()).outcome == "kept"


def test_configured_rules_replace_extend_and_remove():
    params = SelectParams(
        rules={"physics.velocity_ratio": Rule(max=2), "quality.ldlj": Rule(min=-9), "integrity.nan": None}
    )
    assert set(params.active_rules()) == {*DEFAULT_RULES, "quality.ldlj"} - {"integrity.nan"}
    assert decide(evidence("a", fast(1.9), Finding("load", "integrity.nan", 5.0)), params).outcome == "kept"
    low = decide(evidence("a", ldlj(-9.5)), params)
    assert (low.rule, low.value, low.threshold) == ("quality.ldlj", -9.5, -9)


def test_a_missing_instruction_rejects_only_where_configured():
    row = evidence("a", fast(2.0), status="missing")
    assert decide(replace(row, findings=()), SelectParams()).outcome == "kept"
    decision = decide(row, SelectParams(reject_instruction_status=("missing",)))
    assert (decision.stage, decision.rule) == ("instruction_grounding", "instruction.status")
    nan = Finding("load", "integrity.nan", 1.0)
    assert (
        decide(evidence("a", nan, status="missing"), SelectParams(reject_instruction_status=("missing",))).stage
        == "load"
    )


def test_the_best_passing_member_represents_and_a_rejected_one_never():
    group = cluster(near("a", "b"), near("a", "c"), near("b", "c"))
    rows = evidence("a", ldlj(-8.0)), evidence("b", ldlj(-7.0)), evidence("c", ldlj(-5.0), fast(3.0))
    assert chosen(group, *rows) == {"a": "b"}
    equal = evidence("a", ldlj(-7.0000001)), evidence("b", ldlj(-7.0)), evidence("c")
    assert chosen(group, *equal) == {"b": "a", "c": "a"}  # equal at six decimals: the smaller id; none is last
    assert chosen(group, evidence("a", text=""), evidence("b"), evidence("c")) == {"a": "b", "c": "b"}
    assert chosen(group, *(evidence(name, fast(2.0)) for name in "abc")) == {}


def test_chains_keep_their_ends():
    group = cluster(near("a", "b"), near("b", "c"), near("c", "d"))
    assert chosen(group, *(evidence(name) for name in "abcd")) == {"b": "a", "d": "c"}
    middle = [evidence(name, ldlj(1.0 if name == "b" else 0.0)) for name in "abcd"]
    assert chosen(group, *middle) == {"a": "b", "c": "b"}


def test_relabelled_edges_drop_nothing():
    group = cluster(near("a", "b", 1.0, relabelled=True), near("b", "c"))
    assert chosen(group, *(evidence(name) for name in "abc")) == {"c": "b"}


def test_equal_contents_share_their_edges():
    exact = DuplicateEdge("a", "b", "exact", 1.0), DuplicateEdge("a", "c", "exact", 1.0)
    group = cluster(*exact, near("a", "d", 0.8))
    rejected = [evidence("a", fast(2.0)), *(evidence(name) for name in "bcd")]
    assert chosen(group, *rejected) == {"c": "b", "d": "b"}
    assert chosen(cluster(*exact, near("c", "d", 0.8)), *rejected) == {"c": "b", "d": "b"}


def test_guardrails_name_value_limit_and_remedy():
    with pytest.raises(GuardrailExceeded, match=r"cluster a has 3 members, above select.max_component 2; look"):
        bound_component(cluster(near("a", "b"), near("b", "c")), 2)
    with pytest.raises(GuardrailExceeded, match=r"source s: 3 of 4 episodes \(0.750\) are duplicates, above .* 0.5"):
        bound_removed(("s", (3, 4)), 0.5)
    with pytest.raises(ValueError, match=r"max None and min None; give one or both as finite numbers"):
        Rule()
    with pytest.raises(ValueError, match=r"min 2 above max 1"):
        Rule(max=1, min=2)
    with pytest.raises(ValueError, match=r"select.max_removed_fraction is 2; need 0 to 1"):
        SelectParams(max_removed_fraction=2)


def test_a_guardrail_fails_the_run():
    rows = [evidence("a"), evidence("b")]
    with (
        pytest.raises(Exception, match=r"1 of 2 episodes \(0.500\) are duplicates"),
        Pipeline(FnApiRunner()) as pipeline,
    ):
        select(pipeline, rows, [cluster(near("a", "b"))], SelectParams(max_removed_fraction=0.4))


def select(pipeline: Pipeline, rows: list, clusters: list, params: SelectParams) -> beam.PCollection[Decision]:
    measured = pipeline | "Evidence" >> beam.Create(rows, reshuffle=False).with_output_types(Evidence)
    found = pipeline | "Clusters" >> beam.Create(clusters, reshuffle=False).with_output_types(DuplicateCluster)
    return (measured, found) | "Select" >> Select(params)


@st.composite
def situations(draw):
    """Episodes of two sources, some failing, with random verified edges among them cut into components."""
    count = draw(st.integers(1, 18))
    rows = [
        evidence(
            f"{source}/{i:02d}",
            *([ldlj(draw(st.sampled_from([-9.0, -7.0])))] if draw(st.booleans()) else []),
            *([fast(2.0)] if draw(st.integers(0, 3)) == 0 else []),
            source=source,
        )
        for i in range(count)
        for source in [draw(st.sampled_from("st"))]
    ]
    names = sorted(row.episode_id for row in rows)
    edges = [near(a, b, 0.9, draw(st.booleans())) for a, b in combinations(names, 2) if draw(st.integers(0, 5)) == 0]
    roots = components((e.a, e.b) for e in edges)
    clusters = [cluster(*(e for e in edges if roots[e.a] == r)) for r in sorted(set(roots.values()))]
    return draw(st.permutations(rows)), draw(st.permutations(clusters))


@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(situations())
def test_exactly_one_decision_for_each_evidence(situation):
    rows, clusters = situation
    direct = {(e.a, e.b) for c in clusters for e in c.edges if not e.relabelled}

    def hold(decisions: list[Decision]) -> None:
        assert sorted(d.evidence.episode_id for d in decisions) == sorted(row.episode_id for row in rows)
        by_id = {d.evidence.episode_id: d for d in decisions}
        for name, decision in by_id.items():
            assert (decision.outcome == "rejected") == any(
                f.check.startswith("physics") for f in decision.evidence.findings
            )
            assert (decision.duplicate_of is not None) == (decision.outcome == "duplicate")
            if decision.duplicate_of is not None:
                assert by_id[decision.duplicate_of].outcome == "kept"
                assert tuple(sorted((name, decision.duplicate_of))) in direct
        kept = sorted(name for name, d in by_id.items() if d.outcome == "kept")
        assert not [pair for pair in combinations(kept, 2) if pair in direct]

    with Pipeline(FnApiRunner()) as pipeline:
        assert_that(select(pipeline, rows, clusters, SelectParams()), hold)
