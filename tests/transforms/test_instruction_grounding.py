"""Grounding: pairing by time, the four statuses, and verbs judged only where the gripper's evidence is complete."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that
from apache_beam.transforms.error_handling import CollectingErrorHandler
from hypothesis import given
from hypothesis import strategies as st

from transforms.arrays import list_column
from transforms.episode import TIMESTAMP, Episode, Finding, Utterance
from transforms.instruction_grounding import (
    InstructionGroundingParams,
    InstructionGroundingStage,
    ground,
    is_generic,
    pair,
)
from transforms.schema import ACTION_GRIPPER, GRIPPER
from transforms.sources.tf_example import parse_example
from transforms.sources.tfrecord import iter_records

PARAMS = InstructionGroundingParams()
S = 1_000_000_000
OPEN, CLOSED = [1.0] * 20, [0.0] * 20
PICK_AND_PLACE = [*[1.0] * 5, 0.6, *[0.2] * 9, *[0.9] * 5]
PICK = [*[1.0] * 5, 0.6, *[0.2] * 14]


def episode(
    text: str | None, opening: Sequence[float] | None = None, command: Sequence[float] | None = None, dt_s: float = 0.2
) -> Episode:
    count = 20 if opening is None else len(opening)
    columns: dict[str, pa.Array] = {TIMESTAMP: pa.array([round(i * dt_s * S) for i in range(count)], pa.int64())}
    for name, values in ((GRIPPER, opening), (ACTION_GRIPPER, command)):
        if values is not None:
            columns[name] = list_column(np.asarray(values)[:, None])
    steps = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    said = () if text is None else (Utterance(text),)
    return Episode("s/0", "s", "arm", "file", "test", steps, utterances=said, start_ns=0, end_ns=4 * S)


def verb(one: Episode) -> Finding:
    return ground(one, PARAMS).findings[1]


@pytest.mark.parametrize(
    ("utterances", "text", "reason"),
    [
        ((), None, "no utterance"),
        ((Utterance("open the drawer"),), "open the drawer", "for the whole episode"),
        ((Utterance("open the drawer"), Utterance("Open the drawer ")), "open the drawer", "whole"),
        ((Utterance("open the drawer"), Utterance("valid")), "open the drawer", "whole"),
        ((Utterance("open the drawer"), Utterance("close the drawer")), None, "ambiguous: 2"),
        ((Utterance(" "),), None, "empty utterance"),
        (
            (Utterance("lift lid", 0, 11 * S), Utterance("wipe table", 11 * S, 30 * S)),
            "wipe table",
            "in the episode's time",
        ),
        ((Utterance("lift lid", 0, 15 * S), Utterance("wipe table", 15 * S, 30 * S)), None, "ambiguous: 2"),
        ((Utterance("lift lid", 1 * S, 4 * S), Utterance("wipe table", 5 * S, 6 * S)), "wipe table", "4 s before"),
        ((Utterance("lift lid", 0, 10 * S), Utterance("wipe table")), "wipe table", "for the whole episode"),
        ((Utterance("lift lid", -30 * S, -20 * S),), None, "30 s before, more than 10 s"),
        ((Utterance("lift lid", 25 * S, 26 * S),), None, "no utterance in or before"),
        ((Utterance("lift lid", 5 * S, None),), "lift lid", "in the episode's time"),
    ],
)
def test_pairing(utterances: tuple[Utterance, ...], text: str | None, reason: str) -> None:
    paired = pair(utterances, 10 * S, 20 * S, PARAMS)
    assert paired.text == text
    assert reason in paired.reason


def test_times_without_a_clock_stay_unpaired() -> None:
    assert "the episode has none" in pair((Utterance("lift lid", 0, S),), None, None, PARAMS).reason


@pytest.mark.parametrize(
    "text", ["do some thing", "Do something.", "task", "task_0", "valid", "Test 3", "TODO", "perform the task", "it"]
)
def test_generic(text: str) -> None:
    assert is_generic(text, PARAMS)


@pytest.mark.parametrize(
    "text", ["Pick up the yellow bottle on the table.", "close drawer", "把杯子放在盘子里", "do the dishes with soap"]
)
def test_telling(text: str) -> None:
    assert not is_generic(text, PARAMS)


@pytest.mark.parametrize(
    ("text", "opening", "value"),
    [
        ("pick up the cup", PICK, 1.0),
        ("pick up the cup", OPEN, 0.0),
        ("put the cup on the plate", PICK_AND_PLACE, 1.0),
        ("put the cup on the plate", PICK, 0.0),
        ("put the cup on the plate", OPEN, 0.0),
        ("move over and grasp the cup", OPEN, 0.0),
        ("open the gripper", CLOSED, 0.0),
        ("open the gripper", PICK_AND_PLACE, 1.0),
        ("close your hand", OPEN, 0.0),
        ("close your hand", PICK, 1.0),
    ],
)
def test_verbs(text: str, opening: list[float], value: float) -> None:
    found = ground(episode(text, opening), PARAMS)
    assert found.findings[1].value == value
    assert found.instruction_status == ("matched" if value else "mismatch")
    assert found.instruction == text


@pytest.mark.parametrize(
    ("text", "opening", "reason"),
    [
        ("close the drawer", OPEN, "no verb"),
        ("sweep into the pick place pile", OPEN, "no verb"),
        ("fold the cloth", OPEN, "no verb"),
        ("put the cup on the plate", CLOSED, "may begin in mid-deed"),
        ("pick up the cup", None, "no gripper opening"),
        ("pick up the cup", OPEN[:10], "may be a crop"),
    ],
)
def test_without_complete_evidence_nothing_is_judged(text: str, opening: list[float] | None, reason: str) -> None:
    found = ground(episode(text, opening), PARAMS)
    assert found.findings[1].status == "not_run"
    assert reason in found.findings[1].detail
    assert found.instruction_status == "matched"


def test_a_large_object_stops_the_gripper_above_half() -> None:
    assert verb(episode("stack the cubes", [*[1.0] * 8, *[0.58] * 6, *[1.0] * 6])).value == 1.0
    assert verb(episode("pick up the box", [1.0] * 20, [*[1.0] * 8, *[0.0] * 12])).value == 1.0


def test_a_gripper_that_rests_closed_and_never_opens_far() -> None:
    deed = [*[0.02] * 4, *[0.36] * 4, *[0.1] * 4, *[0.33] * 4, *[0.02] * 4]
    assert verb(episode("place it in the box", deed, deed)).value == 1.0
    held = [*[0.02] * 4, *[0.36] * 4, *[0.1] * 12]
    assert verb(episode("place it in the box", held, held)).value == 0.0


@pytest.mark.parametrize(
    ("text", "status"), [(None, "missing"), ("do some thing", "generic"), ("open drawer", "matched")]
)
def test_status(text: str | None, status: str) -> None:
    found = ground(episode(text), PARAMS)
    assert found.instruction_status == status
    assert found.findings[0].detail.startswith(f"{status}: ")
    assert found.findings[0].value == (1.0 if status == "matched" else 0.0)


def test_a_wrong_pattern_is_named() -> None:
    with pytest.raises(ValueError, match=r"'\(' is no regular expression"):
        InstructionGroundingParams(generic_patterns=("(",))
    with pytest.raises(ValueError, match=r"instruction_grounding\.max_gap_s is -1; need 0 or more"):
        InstructionGroundingParams(max_gap_s=-1)
    with pytest.raises(ValueError, match=r"instruction_grounding\.gripper_change is 0; need above 0, at most 1"):
        InstructionGroundingParams(gripper_change=0)


@given(st.lists(st.tuples(st.text(max_size=12), st.integers(-50, 50), st.integers(1, 30)), max_size=5))
def test_the_text_is_one_of_the_utterances_unchanged(said: list[tuple[str, int, int]]) -> None:
    utterances = tuple(Utterance(text, at * S, (at + length) * S) for text, at, length in said)
    found = ground(replace(episode(None), utterances=utterances), PARAMS)
    assert found.instruction is None or found.instruction in {u.text for u in utterances}
    assert (found.instruction is None) == (found.instruction_status == "missing")
    assert pair(utterances[::-1], 0, 4 * S, PARAMS).reason == pair(utterances, 0, 4 * S, PARAMS).reason


def test_in_a_pipeline_with_one_dead_letter() -> None:
    good = episode("pick up the cup", PICK)
    wrong = pa.RecordBatch.from_pydict({TIMESTAMP: ["x"], GRIPPER: [0.5]})
    broken = replace(good, episode_id="s/1", steps=wrong)

    def check_good(out: list[Episode]) -> None:
        assert [(e.episode_id, e.instruction_status) for e in out] == [("s/0", "matched")]

    def check_dead(rows: list[tuple[str, str, str]]) -> None:
        assert rows == [("instruction_grounding", "s/1", "stage_failed")]

    with TestPipeline(runner=FnApiRunner()) as p:
        handler = CollectingErrorHandler()
        with handler:
            stage = InstructionGroundingStage(PARAMS).with_error_handler(handler)
            out = p | beam.Create([good, broken], reshuffle=False).with_output_types(Episode) | "Ground" >> stage
        assert_that(out, check_good)
        dead = handler.output() | beam.Map(lambda letter: (letter.stage, letter.episode_id, letter.rule))
        assert_that(dead, check_dead, label="dead")


@pytest.mark.skipif("ROBOT_DATA" not in os.environ, reason="ROBOT_DATA is not set")
def test_no_false_alarm_on_bridge_crops() -> None:
    folder = Path(os.environ["ROBOT_DATA"]) / "rlds/bridge_dataset/1.0.0"
    statuses = []
    for record in iter_records(folder / "bridge_dataset-train.tfrecord-00000-of-00001"):
        features = parse_example(record)
        opening = np.asarray(features["steps/observation/state"], np.float64).reshape(-1, 7)[:, 6]
        command = np.asarray(features["steps/action"], np.float64).reshape(-1, 7)[:, 6]
        text = bytes(features["steps/language_instruction"][0]).decode()
        statuses.append(ground(episode(text, list(opening), list(command)), PARAMS).instruction_status)
    assert statuses == ["matched"] * 25
