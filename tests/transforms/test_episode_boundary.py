"""Boundaries: what cuts, what does not, and that the tiles account for every step and every instruction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.error_handling import ErrorHandler
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transforms.recordings import batch, clock, recording
from transforms.children import Segment, children
from transforms.episode import Episode, Finding, ImageRef, Recording, Utterance, VideoRef
from transforms.episode_boundary import EpisodeBoundaryDetector, EpisodeBoundaryParams, segment
from transforms.evidence import LedgerRow
from transforms.stage import DeadLetter, Unreadable

MS = 1_000_000
S = 1_000_000_000
PARAMS = EpisodeBoundaryParams()
URDF = """<robot name="r"><link name="a"/><link name="b"/><joint name="j" type="revolute"><parent link="a"/>
<child link="b"/><limit lower="-3" upper="3" velocity="2" effort="1"/></joint></robot>"""


def unmarked(steps: pa.RecordBatch, **fields: Any) -> Recording:
    return recording({"steps": steps}, explicit=False, **fields)


def ranges(segments: list[Segment]) -> list[tuple[int, int, str, str]]:
    return [(s.start, s.end, s.kind, s.reason) for s in segments]


def swing(rows: int, width: int = 3) -> np.ndarray:
    return np.sin(np.arange(rows)[:, None] / 10 + np.arange(width))


def test_an_explicit_recording_is_cut_by_nothing() -> None:
    times = np.array([0, 1, 2, 500]) * S
    steps = batch(times, observation__state=np.array([[0.0], [0], [0], [900]]))
    assert ranges(segment(recording({"steps": steps}), PARAMS)) == [(0, 4, "episode", "explicit")]


def test_marks_cut_and_what_lies_between_is_reset() -> None:
    steps = batch(clock(10, 10), observation__state=swing(10))
    marks = json.dumps([[600 * MS, 800 * MS], [0, 300 * MS]])
    result = segment(unmarked(steps, attributes={"episodes": marks}), PARAMS)
    assert ranges(result) == [
        (0, 4, "episode", "recording_start"),
        (4, 6, "reset", "mark"),
        (6, 9, "episode", "mark"),
        (9, 10, "reset", "mark"),
    ]
    with pytest.raises(Unreadable, match=r"lab/000000: attribute `episodes` is .* not a list of \[start_ns, end_ns\]"):
        segment(unmarked(steps, attributes={"episodes": '{"a": 1}'}), PARAMS)


def test_a_time_gap_cuts_where_it_is_longer_than_a_second_and_five_periods() -> None:
    times = np.concatenate([clock(20, 10), clock(20, 10, 2900 * MS + 1)])
    steps = batch(times, observation__state=swing(40))
    result = segment(unmarked(steps), PARAMS)
    assert ranges(result) == [(0, 20, "episode", "recording_start"), (20, 40, "episode", "time_gap")]
    assert result[1].confidence == pytest.approx(0)
    close = batch(np.concatenate([clock(20, 10), clock(20, 10, 2900 * MS)]), observation__state=swing(40))
    assert len(segment(unmarked(close), PARAMS)) == 1
    slow = batch(np.array([0, 1, 2, 3, 7]) * S, observation__state=swing(5))
    assert len(segment(unmarked(slow), PARAMS)) == 1


def test_steps_without_data_inside_a_gap_are_a_reset() -> None:
    valid = np.ones(60, bool)
    valid[20:40] = False
    steps = batch(clock(60, 10), observation__state=swing(60), valid=valid)
    assert ranges(segment(unmarked(steps), PARAMS)) == [
        (0, 20, "episode", "recording_start"),
        (20, 40, "reset", "time_gap"),
        (40, 60, "episode", "time_gap"),
    ]


def joints(q: np.ndarray, urdf: Path | None = None) -> Recording:
    steps = batch(clock(len(q), 10), observation__joint_position=q)
    conventions = {} if urdf is None else {"urdf": str(urdf), "joint_names": '["j"]'}
    return unmarked(steps, conventions=conventions)


def test_a_joint_faster_than_twice_its_limit_cuts(tmp_path: Path) -> None:
    urdf = tmp_path / "r.urdf"
    urdf.write_text(URDF)
    just = np.concatenate([np.linspace(0, 0.5, 20), np.linspace(0.899, 0.5, 20)])[:, None]
    assert len(segment(joints(just, urdf), PARAMS)) == 1  # 3.99 rad/s
    over = np.concatenate([np.linspace(0, 0.5, 20), np.linspace(0.901, 0.5, 20)])[:, None]
    result = segment(joints(over, urdf), PARAMS)
    assert ranges(result) == [(0, 20, "episode", "recording_start"), (20, 40, "episode", "joint_velocity")]
    assert result[1].confidence == pytest.approx(1 - 4.0 / 4.01, abs=1e-6)
    declared = EpisodeBoundaryParams(velocity_limits=(2.0,))
    assert ranges(segment(joints(over), declared)) == ranges(result)


def test_a_reset_jump_cuts_but_a_snapping_gripper_or_a_wrapping_angle_does_not() -> None:
    rng = np.random.default_rng(3)
    state = np.cumsum(rng.normal(0, 0.01, (200, 6)), axis=0)
    state[:, 5] = np.where(np.arange(200) % 60 < 30, 0.0, 1.0)
    assert len(segment(unmarked(batch(clock(200, 10), observation__state=state)), PARAMS)) == 1
    state[100:, :5] += 2.0
    result = segment(unmarked(batch(clock(200, 10), observation__state=state)), PARAMS)
    assert ranges(result) == [(0, 100, "episode", "recording_start"), (100, 200, "episode", "state_jump")]


def test_an_idle_or_a_short_tile_is_a_reset() -> None:
    times = np.concatenate([clock(20, 10), clock(15, 10, 10 * S), clock(1, 10, 20 * S), clock(20, 10, 30 * S)])
    state = np.concatenate([swing(20), np.full((15, 3), 0.3), swing(1), swing(20)])
    assert [s.kind for s in segment(unmarked(batch(times, observation__state=state)), PARAMS)] == [
        "episode",
        "reset",
        "reset",
        "episode",
    ]


def two_parts() -> Recording:
    times = np.concatenate([clock(4, 10), clock(4, 10, 5 * S)])
    steps = batch(times, observation__state=swing(8))
    steps = steps.append_column("observation.images.front.pts_ns", pa.array(times + 100 * MS))
    return unmarked(
        steps,
        videos={"front": VideoRef("a.mp4", 100 * MS, 9 * S, 0, "aa"), "raw": ImageRef("a.h5", "x", 8)},
        utterances=(Utterance("pick", 0, 400 * MS), Utterance("place", 300 * MS, 6 * S), Utterance("tidy")),
        findings=(
            Finding("load", "metadata.frames", 1.0),
            Finding("physics", "physics.teleport", 1.0, frames=(3, 5)),
            Finding("physics", "physics.frozen", 1.0, frames=(6, 7)),
        ),
        success=True,
    )


def test_children_carry_their_own_part_of_everything() -> None:
    whole = two_parts()
    first, second = children(whole, segment(whole, PARAMS))
    assert isinstance(first, Episode)
    assert isinstance(second, Episode)
    assert (first.episode_id, second.episode_id) == ("lab/000000/0", f"lab/000000/{5 * S}")
    assert (second.parent_id, second.start_ns, second.end_ns) == ("lab/000000", 5 * S, 5 * S + 300 * MS)
    assert second.steps.num_rows == 4
    assert [u.text for u in first.utterances] == ["pick", "place", "tidy"]
    assert [u.text for u in second.utterances] == ["place", "tidy"]
    assert [(f.check, f.frames) for f in first.findings] == [("metadata.frames", None), ("physics.teleport", (3, 3))]
    assert [(f.check, f.frames) for f in second.findings] == [
        ("metadata.frames", None),
        ("physics.teleport", (0, 1)),
        ("physics.frozen", (2, 3)),
    ]
    assert second.videos["front"] == VideoRef("a.mp4", 5100 * MS, 5400 * MS, 5 * S, "aa")
    assert second.videos["raw"] == whole.videos["raw"]
    assert json.loads(second.attributes["boundary"])["reason"] == "time_gap"
    assert second.success is None


def test_children_that_share_a_start_time_or_have_none_still_differ() -> None:
    state = np.concatenate([swing(20), swing(20) + 40])
    steps = batch([None] * 40, observation__state=state)
    ids = [child.episode_id for child in children(unmarked(steps), segment(unmarked(steps), PARAMS))]
    assert ids == ["lab/000000/step-000000", "lab/000000/step-000020"]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-200, 3000), st.floats(-50, 50) | st.just(float("nan"))), max_size=40),
    st.none() | st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000)), max_size=4),
)
def test_tiles_cover_every_step_once(rows: list[tuple[int, float]], marks: list[tuple[int, int]] | None) -> None:
    times = np.cumsum([gap for gap, _ in rows]).astype(np.int64) * MS
    state = np.array([[value, value] for _, value in rows]).reshape(-1, 2)
    spans = None if marks is None else json.dumps([[a * MS, b * MS] for a, b in marks])
    source = unmarked(batch(times, observation__state=state), attributes={} if spans is None else {"episodes": spans})
    result = segment(source, PARAMS)
    assert [s.start for s in result] == [0, *[s.end for s in result[:-1]]]
    assert result[-1].end == len(rows)
    assert all(s.end > s.start for s in result) or not rows
    assert all(0 <= s.confidence <= 1 for s in result)
    made = list(children(source, result)) if rows else []
    assert len({child.episode_id for child in made}) == len(made)
    assert sum((c.n_steps or 0) if isinstance(c, LedgerRow) else c.steps.num_rows for c in made) == len(rows)


def test_a_gap_limited_by_the_period_cuts_into_episodes_that_can_be_written() -> None:
    times = np.array([0, 1, 202, 1208]) * MS
    source = unmarked(batch(times, observation__state=np.zeros((4, 2))))
    for child in children(source, segment(source, PARAMS)):
        if not isinstance(child, LedgerRow):
            assert type(json.loads(child.attributes["boundary"])["confidence"]) is float


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_gap_s": 0.0}, r"max_gap_s is 0\.0; need more than 0"),
        ({"idle_fraction": 2.0}, r"idle_fraction is 2\.0; need 0 to 1"),
        ({"min_steps": 0}, "min_steps is 0; need at least 1"),
        ({"velocity_limits": (1.0, 0.0)}, "each needs more than 0 rad/s"),
    ],
)
def test_parameters_are_checked(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EpisodeBoundaryParams(**fields)


def test_the_stage_in_a_graph_with_a_ledger_and_a_dead_letter() -> None:
    times = np.concatenate([clock(20, 10), clock(1, 10, 10 * S), clock(20, 10, 20 * S)])
    cut = unmarked(batch(times, observation__state=swing(41)))
    plain = unmarked(batch(clock(5, 10), observation__state=swing(5)), recording_id="lab/000001")
    bad = unmarked(
        batch(clock(5, 10), observation__state=swing(5)), recording_id="lab/000002", attributes={"episodes": "no"}
    )
    with TestPipeline(FnApiRunner()) as pipeline:
        with ErrorHandler(_Letters()) as handler:
            out = pipeline | beam.Create([cut, plain, bad]) | EpisodeBoundaryDetector().with_error_handler(handler)
        episodes = out["episodes"] | "Name episodes" >> beam.Map(lambda e: (e.episode_id, e.parent_id))
        rows = out["ledger"] | "Name rows" >> beam.Map(
            lambda r: (r.episode_id, r.outcome, r.rule, r.parent_id, r.n_children, r.n_steps)
        )
        children_of = [("lab/000000/0", "lab/000000"), (f"lab/000000/{20 * S}", "lab/000000")]
        assert_that(episodes, equal_to([*children_of, ("lab/000001", None)]), "episodes")
        expected = [
            ("lab/000000", "cut", "cut", None, 3, 41),
            (f"lab/000000/{10 * S}", "rejected", "reset_interval", "lab/000000", None, 1),
        ]
        assert_that(rows, equal_to(expected), "ledger")
        assert_that(handler.output(), equal_to([("lab/000002", "corrupt")]), "dead")


class _Letters(beam.PTransform):
    def expand(self, letters: beam.PCollection[DeadLetter]) -> beam.PCollection[tuple[str, str]]:
        return letters | "Name letters" >> beam.Map(lambda letter: (letter.episode_id, letter.rule))
