"""Transitions by hand: what is complete, what is terminal, what bootstraps, what crosses nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.error_handling import ErrorHandler
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.recordings import batch, clock, episode
from transforms.episode import Episode
from transforms.stage import DeadLetter, Unreadable
from transforms.transition_alignment import (
    TransitionAlignmentParams,
    TransitionAlignmentStage,
    align_transitions,
    transitions,
    with_transitions,
)

MS = 1_000_000


def four(**columns: Any) -> pa.RecordBatch:
    state, action = np.arange(4.0)[:, None], np.arange(10.0, 14.0)[:, None]
    return batch(clock(4, 10), observation__state=state, action=action, **columns)


def values(steps: pa.RecordBatch, name: str) -> list[Any]:
    return steps.column(name).to_pylist()


def test_four_steps_make_three_transitions() -> None:
    steps = with_transitions(four(reward=[1.0, 2.0, None, 4.0]), None)
    assert values(steps, "next.observation.state") == [[1.0], [2.0], [3.0], None]
    assert values(steps, "next.reward") == [1.0, 2.0, None, None]
    assert values(steps, "is_first") == [True, False, False, False]
    assert values(steps, "is_last") == [False, False, False, True]
    assert values(steps, "valid") == [True, True, True, False]
    rows = transitions(steps)
    assert rows.num_rows == 3
    assert values(rows, "action") == [[10.0], [11.0], [12.0]]
    assert rows.column("next.done").null_count == rows.column("next.truncated").null_count == 0


@pytest.mark.parametrize(
    ("columns", "success", "terminal"),
    [
        ({"is_terminal": [False, False, False, True]}, None, True),
        ({"is_terminal": [False] * 4}, True, False),
        ({"is_terminal": pa.nulls(4, pa.bool_())}, True, True),
        ({"next.done": [False, False, False, True]}, None, True),
        ({"next.done": [False, False, True, False]}, None, True),
        ({"next.done": [False] * 4}, True, False),
        ({}, True, True),
        ({}, False, False),
        ({}, None, False),
    ],
)
def test_a_terminal_state_ends_the_discount_and_a_truncation_bootstraps(
    columns: dict[str, Any], success: bool | None, terminal: bool
) -> None:
    steps = with_transitions(four(**columns), success)
    assert values(steps, "is_terminal") == [False, False, False, terminal]
    assert values(steps, "next.done") == [False, False, terminal, None]
    assert values(steps, "next.truncated") == [False, False, not terminal, None]
    assert values(steps, "discount") == [1.0, 1.0, 0.0 if terminal else 1.0, None]


def test_the_source_keeps_its_own_discount_but_never_a_zero_before_a_truncation() -> None:
    steps = with_transitions(four(discount=[0.5, 0.5, 0.0, 0.0]), None)
    assert values(steps, "discount") == [0.5, 0.5, 1.0, None]


def test_nothing_crosses_a_gap() -> None:
    times = np.array([0, 100, 200, 600, 700]) * MS
    steps = with_transitions(batch(times, observation__state=np.arange(5.0)[:, None]), True)
    assert values(steps, "valid") == [True, True, False, True, False]
    assert values(steps, "next.truncated") == [False, True, None, False, None]
    assert values(steps, "next.done") == [False, False, None, True, None]
    assert values(with_transitions(steps.select([0, 1]), None, 500e6 * 1.0), "valid") == [True, True, True, True, False]


def test_nothing_touches_an_invalid_step_or_leaves_an_end_inside() -> None:
    state = np.arange(5.0)[:, None]
    gone = batch(clock(5, 10), observation__state=state, valid=[True, True, False, True, True])
    assert values(with_transitions(gone, None), "valid") == [True, False, False, True, False]
    two = batch(clock(5, 10), observation__state=state, is_last=[False, True, False, False, True])
    assert values(with_transitions(two, None), "valid") == [True, False, True, True, False]
    fresh = batch(clock(5, 10), observation__state=state, is_first=[True, False, True, False, False])
    assert values(with_transitions(fresh, None), "valid") == [True, False, True, True, False]


def test_a_backward_stamp_connects_nothing_and_equal_or_absent_stamps_do() -> None:
    state = np.arange(4.0)[:, None]
    backward = batch(np.array([0, 100, 50, 150]) * MS, observation__state=state)
    assert values(with_transitions(backward, None), "valid") == [True, False, True, False]
    equal = batch(np.array([0, 100, 100, 200]) * MS, observation__state=state)
    assert values(with_transitions(equal, None), "valid") == [True, True, True, False]
    absent = batch([None] * 4, observation__state=state)
    assert values(with_transitions(absent, None), "valid") == [True, True, True, False]


def test_counts_and_the_reward_that_is_in_no_transition_are_findings() -> None:
    result = align_transitions(episode(four(reward=[0.0, 0.0, 0.0, 1.0])), TransitionAlignmentParams())
    found = {f.check: (f.value, f.frames) for f in result.findings}
    assert found == {
        "integrity.transitions": (3.0, None),
        "integrity.broken_transitions": (0.0, None),
        "integrity.reward_of_last_step": (1.0, (3, 3)),
    }


def test_an_episode_without_a_transition_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="lab/000000 has 1 steps; a transition needs at least 2") as error:
        align_transitions(episode(four().slice(0, 1)), TransitionAlignmentParams())
    assert error.value.problem.rule == "too_short"
    with pytest.raises(ValueError, match=r"max_gap_s is 0\.0; need more than 0"):
        TransitionAlignmentParams(max_gap_s=0.0)


@given(
    st.lists(st.tuples(st.integers(-50, 400), st.booleans()), min_size=1, max_size=30),
    st.booleans(),
)
def test_every_transition_is_two_neighbouring_valid_steps(rows: list[tuple[int, bool]], success: bool) -> None:
    times = np.concatenate([[0], np.cumsum([gap for gap, _ in rows])]) * MS
    good = np.array([True] + [flag for _, flag in rows])
    state = np.arange(float(len(times)))[:, None]
    steps = with_transitions(batch(times, observation__state=state, valid=good), success)
    out = transitions(steps)
    before = np.array([v[0] for v in values(out, "observation.state")], int)
    after = np.array([v[0] for v in values(out, "next.observation.state")], int)
    assert (after == before + 1).all()
    assert good[before].all()
    assert good[after].all()
    assert (times[after] >= times[before]).all()
    done = np.array(values(out, "next.done"), bool)
    cut = np.array(values(out, "next.truncated"), bool)
    assert not (done & cut).any()
    assert (np.array(values(out, "discount")) == np.where(done, 0, 1)).all()
    assert (done == ((after == len(times) - 1) & success)).all()


def test_the_stage_in_a_graph_with_a_dead_letter() -> None:
    good = episode(four())
    short = replace(episode(four().slice(0, 1)), episode_id="lab/000001")
    with TestPipeline(FnApiRunner()) as pipeline:
        with ErrorHandler(_Letters()) as handler:
            aligned = pipeline | beam.Create([good, short]) | TransitionAlignmentStage().with_error_handler(handler)
        assert_that(aligned | beam.Map(_count), equal_to([("lab/000000", 3)]), "aligned")
        assert_that(handler.output(), equal_to([("lab/000001", "too_short")]), "dead")


def _count(done: Episode) -> tuple[str, int]:
    return done.episode_id, transitions(done.steps).num_rows


class _Letters(beam.PTransform):
    def expand(self, letters: beam.PCollection[DeadLetter]) -> beam.PCollection[tuple[str, str]]:
        return letters | "Name letters" >> beam.Map(lambda letter: (letter.episode_id, letter.rule))
