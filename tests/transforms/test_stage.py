"""The frame of every stage: what fails becomes a dead letter with its reason, and harms no neighbour."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.error_handling import CollectingErrorHandler

import transforms.coders  # noqa: F401  registers the coders of what flows
from transforms.episode import Episode
from transforms.stage import EpisodeStage, Unreadable, identify


class HalveInstruction(EpisodeStage):
    """Raises on an instruction of odd length, and calls an empty one unreadable."""

    name = "halve"

    def process_element(self, element: Episode) -> Iterable[Episode]:
        text = element.instruction or ""
        if not text:
            raise Unreadable("empty", f"{element.episode_id}: no instruction; write one")
        if len(text) % 2:
            raise ValueError(f"{len(text)} letters cannot be halved")
        return [element]


def episode(name: str, instruction: str) -> Episode:
    steps = pa.RecordBatch.from_pydict({"timestamp_ns": pa.array([0, 1])})
    return Episode(f"s/{name}", "s", "arm", f"{name}.h5", "isaac_hdf5", steps, instruction=instruction)


EPISODES = [episode("even", "pick"), episode("odd", "put"), episode("none", ""), episode("other", "push")]


def check(fail_fast: bool, episodes: list[Episode]) -> None:
    """Run the stage, and hold what passes and what does not to what the episodes say."""
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        with CollectingErrorHandler() as dead:
            passed = (
                pipeline
                | beam.Create(episodes, reshuffle=False)
                | HalveInstruction().with_error_handler(dead, fail_fast)
                | beam.Map(lambda e: e.episode_id)
            )
        letters = dead.output() | beam.Map(lambda d: (d.stage, d.episode_id, d.source, d.uri, d.rule, d.detail))
        assert_that(passed, equal_to(["s/even", "s/other"]))
        expected = [
            ("halve", "s/odd", "s", "odd.h5", "stage_failed", "ValueError: 3 letters cannot be halved"),
            ("halve", "s/none", "s", "none.h5", "empty", "s/none: no instruction; write one"),
        ]
        wanted = [letter for letter in expected if letter[1] in {e.episode_id for e in episodes}]
        assert_that(letters, equal_to(wanted), label="letters")


def test_failures_become_dead_letters_and_neighbours_go_on() -> None:
    check(False, EPISODES)


def test_traceback_of_a_failure_is_kept_and_an_unreadable_input_has_none() -> None:
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        with CollectingErrorHandler() as dead:
            _ = pipeline | beam.Create(EPISODES) | HalveInstruction().with_error_handler(dead)
        traces = dead.output() | beam.Map(lambda d: (d.episode_id, "process_element" in d.traceback, bool(d.traceback)))
        assert_that(traces, equal_to([("s/odd", True, True), ("s/none", False, False)]))


def test_fail_fast_raises_a_failure() -> None:
    logging.disable(logging.ERROR)
    try:
        with pytest.raises(ValueError, match="3 letters cannot be halved"):
            check(True, EPISODES)
    finally:
        logging.disable(logging.NOTSET)


def test_fail_fast_quarantines_what_cannot_be_read() -> None:
    check(True, [e for e in EPISODES if e.episode_id != "s/odd"])


def test_counters_say_what_went_in_out_and_wrong() -> None:
    pipeline = beam.Pipeline(runner=FnApiRunner())
    with CollectingErrorHandler() as dead:
        _ = pipeline | beam.Create(EPISODES) | HalveInstruction().with_error_handler(dead)
    _ = dead.output() | beam.Map(lambda d: d)
    result = pipeline.run()
    result.wait_until_finish()
    found = {c.key.metric.name: c.committed for c in result.metrics().query()["counters"]}
    assert {k: v for k, v in found.items() if k.startswith("halve.")} == {
        "halve.in": 4,
        "halve.out": 2,
        "halve.dead": 2,
    }


def test_without_a_handler_failures_are_raised() -> None:
    logging.disable(logging.ERROR)
    try:
        with (
            pytest.raises(Exception, match="no instruction; write one"),
            TestPipeline(runner=FnApiRunner()) as pipeline,
        ):
            _ = pipeline | beam.Create(EPISODES[2:3]) | HalveInstruction()
    finally:
        logging.disable(logging.NOTSET)


def test_a_stage_names_what_it_takes() -> None:
    assert identify(EPISODES[0]) == ("s/even", "s", "even.h5")
    with pytest.raises(TypeError, match="not int"):
        identify(3)
