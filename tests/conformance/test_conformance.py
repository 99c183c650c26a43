"""RayRunner against Beam's own tests: the bars of docs/runner.md, and a reason for every failure."""

from __future__ import annotations

import importlib.util

import pytest

from tests.conformance.expected import KNOWN, baseline, contradictions, known_failures
from tests.conformance.result import FAILURES, Ended, Report
from tests.conformance.run import run_suite
from tests.conformance.selection import SUITES

RUNNER = "beam_pipeline.runner.RayRunner"
NO_RUNNER = "apache_beam.runners.runner.PipelineRunner"


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("suite", "tests", "passed"), [("vr", 45, 37), ("fnapi", 76, 71)])
def test_ray_runner_passes_what_a_batch_runner_can(suite: str, tests: int, passed: int) -> None:
    report = run_suite(suite, RUNNER)
    assert not contradictions(report), report.summary()
    assert len(report.results) == tests, report.summary()
    assert report.counts["passed"] >= passed, report.summary()


def test_a_pipeline_that_fails_is_a_failed_test() -> None:
    report = run_suite("fnapi", NO_RUNNER, keyword="test_group_by_key or test_reshuffle")
    assert report.counts == {"failed": 4}
    assert all("NotImplementedError" in result.message for result in report.results)


def test_force_replaces_a_runner_that_a_test_names() -> None:
    test = "BatchElementsTest and test_grows_to_max_batch"
    assert run_suite("core", NO_RUNNER, keyword=test).counts == {"passed": 1}
    assert run_suite("core", NO_RUNNER, keyword=test, force=True).counts == {"failed": 1}


def test_a_process_that_dies_is_an_error_with_its_output() -> None:
    with pytest.raises(RuntimeError, match=r"pytest ended \d+ after 0 tests of ml:\n(.|\n)*NoSuchRunner"):
        run_suite("ml", "beam_pipeline.runner.NoSuchRunner")


def test_a_listed_test_that_passes_and_a_new_failure_contradict_the_list() -> None:
    first, *rest = known_failures("vr")
    passes = Ended(first, "passed", 0.1, "")
    fails = [Ended(test, "failed", 0.1, "TestStream") for test in rest]
    new = Ended("apache_beam.pipeline_test::PipelineTest::test_new", "error", 0.1, "boom")
    report = Report("vr", RUNNER, 1.0, (passes, *fails, new))
    assert contradictions(report) == [
        f"fails and is not listed: {new.test}: boom",
        f"is listed and does not fail: {first}",
    ]
    assert contradictions(report, whole=False) == [f"fails and is not listed: {new.test}: boom"]


@pytest.mark.parametrize("suite", sorted(SUITES))
def test_listed_failures_have_a_reason_and_modules_exist(suite: str) -> None:
    assert all(len(reason) > 20 for reason in known_failures(suite).values()), KNOWN
    assert set(baseline(suite).values()) <= FAILURES | {"skipped", "xfailed"}
    for module in SUITES[suite].modules:
        assert importlib.util.find_spec(module), module
