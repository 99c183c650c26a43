"""Rules, representatives and guardrails."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transforms.deciding import decide_all
from transforms.deduplication.union_find import components
from transforms.episode import Episode, Finding
from transforms.evidence import Decision, DuplicateCluster, DuplicateEdge, Evidence, Fingerprint
from transforms.judgement import judge_all
from transforms.measured import StoredFile, load_measured, write_part
from transforms.output_files import OUT
from transforms.select import (
    DEFAULT_RULES,
    GuardrailExceeded,
    Rule,
    SelectParams,
    bound_component,
    bound_removed,
    decide,
    judge,
)
from transforms.verdicts import Verdict

NO_STEPS = pa.RecordBatch.from_pylist([], schema=pa.schema([]))


def evidence(name: str, *findings: Finding, text: str = "pick", source: str = "s", status: str = "matched") -> Evidence:
    told = {"instruction": text, "instruction_status": status, "content_id": name}
    head = Episode(name, source, "arm", "", "rlds", NO_STEPS, **told)
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
        head=head,
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
    found = decided(rows, group.edges, SelectParams())
    return {name: d.duplicate_of for name, d in found.items() if d.outcome == "duplicate" and d.duplicate_of}


def decided(
    rows: Iterable[Evidence],
    edges: Iterable[DuplicateEdge],
    params: SelectParams,
    verdicts: Mapping[str, Verdict] | None = None,
    published: Set[tuple[str, str]] = frozenset(),
) -> dict[str, Decision]:
    """Every decision by id, out of evidence that was stored and read back."""
    with TemporaryDirectory() as folder:
        reports = [
            report
            for source in sorted({row.source for row in rows})
            for report in write_part(Path(folder), source, 0, [r for r in rows if r.source == source], "")
        ]
        files = [StoredFile(report.source, Path(folder) / OUT / report.path) for report in reports]
        measured = load_measured(files)
    result = decide_all(measured, edges, params, verdicts or {}, published)
    kept = {row.episode_id: Decision(row, "kept") for row in rows}
    ids = measured.episodes.column("episode_id").to_pylist()
    assert len(ids) == len(kept)
    return kept | {ids[row]: decision for row, decision in result.decisions.items()}


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


def test_relabelled_edges_drop_where_configured_and_the_channels_are_told():
    edge = DuplicateEdge("a", "b", "trajectory", 0.91234, True, 0.9375, 0.25)
    found = decided([evidence("a"), evidence("b")], [edge], SelectParams(drop_relabelled=True))
    assert (found["b"].outcome, found["b"].value) == ("duplicate", 0.91234)
    assert found["b"].detail == "trajectory similarity 0.9123, frames 0.9375, instruction 0.2500, relabelled, to a"
    found = decided([evidence("a"), evidence("b")], [near("a", "b")], SelectParams())
    assert found["b"].detail == "trajectory similarity 0.9000, frames abstain, instruction abstain to a"


def test_what_was_published_stays_before_better_copies_that_are_new():
    rows = [evidence("a", ldlj(-8.0)), evidence("b", ldlj(-7.0)), evidence("c", ldlj(-6.0))]
    edges = [near("a", "b"), near("a", "c"), near("b", "c")]

    def stays(*published: tuple[str, str], among: Iterable[Evidence] = rows) -> list[str]:
        found = decided(list(among), edges, SelectParams(), published=set(published))
        return [name for name, decision in found.items() if decision.outcome == "kept"]

    content = {row.episode_id: row.content_id for row in rows}
    assert stays() == ["c"]
    assert stays(("a", content["a"])) == ["a"]
    assert stays(("a", content["a"]), ("b", content["b"])) == ["b"], "of two published ones the better"
    assert stays(("a", "another content")) == ["c"], "a new version is a new episode"
    assert stays(("a", content["a"]), among=[evidence("a", fast(9.0)), *rows[1:]]) == ["c"], "it breaks a rule now"


def test_equal_contents_share_their_edges():
    exact = DuplicateEdge("a", "b", "exact", 1.0), DuplicateEdge("a", "c", "exact", 1.0)
    group = cluster(*exact, near("a", "d", 0.8))
    rejected = [evidence("a", fast(2.0)), *(evidence(name) for name in "bcd")]
    assert chosen(group, *rejected) == {"c": "b", "d": "b"}
    assert chosen(cluster(*exact, near("c", "d", 0.8)), *rejected) == {"c": "b", "d": "b"}


def test_guardrails_name_value_limit_and_remedy():
    with pytest.raises(
        GuardrailExceeded, match=r"above select.max_component 2; look at its edges, raise deduplication\."
    ):
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
    with pytest.raises(GuardrailExceeded, match=r"1 of 2 episodes \(0.500\) are duplicates"):
        decided(rows, [near("a", "b")], SelectParams(max_removed_fraction=0.4))


def said(name: str, word: Literal["keep", "reject"]) -> dict[str, Verdict]:
    return {name: Verdict(name, word, "Ann", "I saw it", "verdicts.csv:2")}


def test_a_verdict_beats_the_rules_and_what_they_say_stays():
    rows = [evidence("a", fast(1.5)), evidence("b")]
    kept = decided(rows, [], SelectParams(), said("a", "keep"))["a"]
    assert (kept.outcome, kept.stage, kept.rule) == ("kept", "verdicts", "verdict.keep")
    assert (kept.value, kept.threshold, kept.unit) == (1.5, 1.0, "ratio")
    reason = "the rules reject it: physics.velocity_ratio 1.5 ratio, limit 1; joint 2"
    assert kept.detail == f"kept by Ann: I saw it; {reason}"
    rejected = decided(rows, [], SelectParams(), said("b", "reject"))["b"]
    assert (rejected.outcome, rejected.rule) == ("rejected", "verdict.reject")
    assert rejected.detail == "rejected by Ann: I saw it; the rules keep it"


def test_a_kept_duplicate_stays_beside_its_representative():
    rows = [evidence("a", ldlj(-1.0)), evidence("b", ldlj(-2.0)), evidence("c", ldlj(-3.0))]
    edges = [near("a", "b"), near("a", "c"), near("b", "c")]
    found = decided(rows, edges, SelectParams(), said("b", "keep"))
    assert {name: d.outcome for name, d in found.items()} == {"a": "kept", "b": "kept", "c": "duplicate"}
    assert found["b"].duplicate_of == "a" and "the rules drop it as a duplicate" in found["b"].detail


def test_a_rejected_representative_gives_its_place_to_another_member():
    rows = [evidence("a", ldlj(-1.0)), evidence("b", ldlj(-2.0)), evidence("c", ldlj(-3.0))]
    edges = [near("a", "b"), near("a", "c"), near("b", "c")]
    found = decided(rows, edges, SelectParams(), said("a", "reject"))
    assert {name: d.outcome for name, d in found.items()} == {"a": "rejected", "b": "kept", "c": "duplicate"}
    assert found["c"].duplicate_of == "b"


def test_an_episode_kept_against_the_rules_may_represent():
    rows = [evidence("a", ldlj(-1.0), fast(2.0)), evidence("b", ldlj(-2.0))]
    found = decided(rows, [near("a", "b")], SelectParams(), said("a", "keep"))
    assert (found["a"].outcome, found["b"].outcome, found["b"].duplicate_of) == ("kept", "duplicate", "a")


@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.floats(-3, 3)), st.booleans()), max_size=12))
def test_judging_in_columns_is_judging_one_by_one(found):
    rules = {"a": Rule(max=1), "b": Rule(min=-1, max=2)}
    findings = [
        Finding("quality", check, value, status="measured" if ran else "not_run") for check, value, ran in found
    ]
    table = pa.table(
        {
            "check": pa.array([f.check for f in findings], pa.string()),
            "value": pa.array([f.value for f in findings], pa.float64()),
            "status": pa.array([f.status for f in findings], pa.string()),
        }
    )
    columns = judge_all(table, rules).columns()
    expected = [judge(finding, rules) for finding in findings]
    assert columns["threshold"].to_pylist() == [one.threshold for one in expected]
    assert columns["passed"].to_pylist() == [one.passed for one in expected]


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


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(situations())
def test_exactly_one_decision_for_each_evidence(situation):
    rows, clusters = situation
    edges = [edge for group in clusters for edge in group.edges]
    direct = {(e.a, e.b) for e in edges if not e.relabelled}
    by_id = decided(rows, edges, SelectParams())
    assert sorted(by_id) == sorted(row.episode_id for row in rows)
    failing = {row.episode_id for row in rows if any(f.check.startswith("physics") for f in row.findings)}
    for name, decision in by_id.items():
        assert (decision.outcome == "rejected") == (name in failing)
        assert (decision.duplicate_of is not None) == (decision.outcome == "duplicate")
        if decision.duplicate_of is not None:
            assert by_id[decision.duplicate_of].outcome == "kept"
            assert tuple(sorted((name, decision.duplicate_of))) in direct
    kept = sorted(name for name, d in by_id.items() if d.outcome == "kept")
    assert not [pair for pair in combinations(kept, 2) if pair in direct]
