"""The usual type of a column by hand-worked counts, and the finding of an episode that does not go with it."""

from __future__ import annotations

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given
from hypothesis import strategies as st

import transforms.coders  # noqa: F401  registers the coders of what flows
from transforms.column_types import CheckColumnTypes, UsualType, check_types, usual_types
from transforms.evidence import Evidence, Fingerprint, StagedColumn
from transforms.output_schema import join_types


def evidence(name: str, source: str = "s", **columns: str) -> Evidence:
    kinds = tuple(StagedColumn(column, kind) for column, kind in columns.items())
    return Evidence(name, source, "", "", 2, 1, 10, "", Fingerprint(name, "", ""), columns=kinds)


def test_numbers_outvote_text_together() -> None:
    counts = {("s", "x", "string"): 3, ("s", "x", "int64"): 2, ("s", "x", "double"): 2, ("t", "x", "string"): 1}
    assert usual_types(counts) == {("s", "x"): UsualType("double", 4, 7), ("t", "x"): UsualType("string", 1, 1)}


def test_columns_without_a_value_go_with_any_type() -> None:
    assert usual_types({("s", "x", "null"): 9, ("s", "x", "string"): 1}) == {("s", "x"): UsualType("string", 10, 10)}
    assert usual_types({("s", "x", "null"): 2}) == {("s", "x"): UsualType("null", 2, 2)}


def test_finding_says_what_is_usual() -> None:
    odd = check_types(
        evidence("a", x="string", y="bool"),
        {("s", "x"): UsualType("double", 4, 7), ("s", "y"): UsualType("int64", 7, 7)},
    )
    (finding,) = odd.findings
    assert (finding.check, finding.value, finding.unit) == ("integrity.column_type", 1.0, "columns")
    assert finding.detail == (
        "column 'x' is string, and double in 4 of 7 episodes of source 's': write it as those do, or rename it"
    )


def test_sources_are_compared_with_themselves() -> None:
    rows = [
        evidence("a", x="double"),
        evidence("b", x="float"),
        evidence("c", x="string"),
        evidence("d", "t", x="string"),
    ]
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        checked = pipeline | beam.Create(rows) | CheckColumnTypes()
        found = checked | beam.Map(lambda e: (e.episode_id, [f.check for f in e.findings]))
        assert_that(found, equal_to([("a", []), ("b", []), ("c", ["integrity.column_type"]), ("d", [])]))


def test_no_episode_is_no_error() -> None:
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        checked = pipeline | beam.Create([], reshuffle=False).with_output_types(Evidence) | CheckColumnTypes()
        assert_that(checked, equal_to([]))


KINDS = st.sampled_from(["null", "bool", "int64", "float", "double", "string", "list<item: float>", "binary"])


@given(st.dictionaries(KINDS, st.integers(1, 9), min_size=1))
def test_at_least_the_commonest_type_goes_with_the_usual_one(kinds: dict[str, int]) -> None:
    (usual,) = usual_types({("s", "x", kind): count for kind, count in kinds.items()}).values()
    agreeing = sum(count for kind, count in kinds.items() if join_types(usual.type, kind) is not None)
    assert usual.agreeing == agreeing >= max(kinds.values()) and usual.total == sum(kinds.values())
