"""Shingles of a path: by hand, under what must not matter, and on recordings by others."""

import os
from itertools import combinations
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.arrays import list_column
from transforms.deduplication.fingerprint import (
    FingerprintParams,
    crossings,
    fingerprint,
    levels_at,
    path_shingles,
    pose_cells,
    step_shingles,
    text_shingles,
)
from transforms.deduplication.minhash import jaccard
from transforms.episode import Episode, Utterance
from transforms.schema import END_EFFECTOR_POSE, GRIPPER, JOINT_POSITION, STATE

PARAMS = FingerprintParams()


def batch(**columns: np.ndarray) -> pa.RecordBatch:
    names = {"joints": JOINT_POSITION, "pose": END_EFFECTOR_POSE, "gripper": GRIPPER, "state": STATE}
    return pa.RecordBatch.from_pydict({names[name]: list_column(values) for name, values in columns.items()})


def reach(seed: int, steps: int = 200, rate: float = 1.0) -> np.ndarray:
    """(T, 7) rad: a smooth motion through random way points."""
    ways = np.random.default_rng(seed).uniform(-1.5, 1.5, (6, 7))
    phase = np.arange(0, 5, 5 / (steps * rate))
    low = np.minimum(phase.astype(int), 4)
    blend = (1 - np.cos(np.pi * (phase - low)))[:, None] / 2
    return ways[low] * (1 - blend) + ways[low + 1] * blend


def test_crossings_by_hand():
    """Cells are entered a quarter beyond their line, so 0.9 after 2.6 is still cell 1, and 0.7 is cell 0."""
    path = np.array([[0.5, 0.5], [2.6, 0.5], [0.9, 0.5], [0.9, 1.3], [0.7, 1.3]])
    dims, rising, entered, place = crossings(path, 0.25)
    assert place.tolist() == pytest.approx(
        [(1.25 - 0.5) / 2.1, (2.25 - 0.5) / 2.1, 1 + (2.6 - 1.75) / 1.7, 2.9375, 3.75]
    )
    assert dims.tolist() == [0, 0, 0, 1, 0]
    assert rising.tolist() == [True, True, False, True, False]
    assert entered.tolist() == [1, 2, 1, 1, 0]
    levels = levels_at(dims, entered, np.array([0, 0]), np.array([[0, 1]] * 5))
    assert levels.tolist() == [[1, 0], [2, 0], [1, 0], [1, 1], [0, 1]]


def test_noise_about_a_line_crosses_nothing_and_a_jump_crosses_once():
    assert len(crossings(np.array([[0.9], [1.1], [0.8], [1.2]]), 0.25)[0]) == 0
    assert crossings(np.array([[0.5], [1.3], [0.9], [1.3]]), 0.25)[2].tolist() == [1]
    dims, rising, entered, _ = crossings(np.array([[0.5], [1e9], [0.5]]), 0.25)
    assert (dims.tolist(), rising.tolist(), entered.tolist()) == ([0, 0], [True, False], [999_999_999, 0])


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.integers(-80, 80), min_size=4, max_size=4), min_size=2, max_size=15),
    st.lists(st.integers(1, 4), min_size=15, max_size=15),
)
def test_pauses_and_start_time_change_nothing(rows, repeats):
    path = np.array(rows, float) / 8
    paused = np.repeat(path, repeats[: len(path)], axis=0)
    assert np.array_equal(path_shingles(path, PARAMS).hashes, path_shingles(paused, PARAMS).hashes)


@pytest.mark.parametrize("seed", range(5))
def test_copies_match_and_other_motions_do_not(seed):
    motion = reach(seed)
    noise = np.random.default_rng(9).normal(0, 1e-4, motion.shape)
    base = step_shingles(batch(joints=motion), PARAMS)
    assert np.array_equal(base, step_shingles(batch(joints=motion.astype(np.float32)), PARAMS))
    for copy in (reach(seed, rate=1.5), reach(seed, rate=0.7), motion + noise, motion[5:-5]):
        assert jaccard(base, step_shingles(batch(joints=copy), PARAMS)) > 0.85
    assert jaccard(base, step_shingles(batch(joints=reach(seed + 100)), PARAMS)) < 0.05
    assert jaccard(base, step_shingles(batch(joints=motion[::-1]), PARAMS)) < 0.3


def test_joints_that_rest_at_round_numbers_match_across_rounding():
    motion = reach(4)
    motion[:, 3:] = [0.0, 0.5, -1.0, 1.5]
    rounding = np.random.default_rng(1).choice([-1e-7, 1e-7], motion.shape)
    base = step_shingles(batch(joints=motion), PARAMS)
    assert jaccard(base, step_shingles(batch(joints=motion + rounding), PARAMS)) > 0.98


def test_a_motion_done_twice_is_another_motion():
    motion = np.vstack([reach(4), reach(4)[::-1]])
    twice = step_shingles(batch(joints=np.vstack([motion, motion])), PARAMS)
    assert jaccard(step_shingles(batch(joints=motion), PARAMS), twice) < 0.6


def test_the_gripper_tells_equal_arm_motions_apart():
    motion = reach(1)
    closing = np.linspace(1, 0, len(motion))[:, None]
    base = step_shingles(batch(joints=motion, gripper=closing), PARAMS)
    early = step_shingles(batch(joints=motion, gripper=np.zeros_like(closing)), PARAMS)
    assert jaccard(base, early) < 0.5


def test_declared_joints_come_first_then_pose_then_state_and_little_motion_abstains():
    motion, other = reach(1), reach(2)
    joints = step_shingles(batch(joints=motion), PARAMS)
    assert np.array_equal(joints, step_shingles(batch(joints=motion, pose=other, state=other), PARAMS))
    pose = step_shingles(batch(pose=other, state=motion), PARAMS)
    assert np.array_equal(pose, step_shingles(batch(pose=other), PARAMS))
    assert len(step_shingles(batch(state=motion), PARAMS)) > 100
    assert len(step_shingles(batch(state=np.full((50, 6), 0.3)), PARAMS)) == 0
    assert len(step_shingles(pa.RecordBatch.from_pydict({"x": pa.array(["a", "b"])}), PARAMS)) == 0


def test_rows_without_a_pose_are_passed_over():
    motion = reach(3)
    holed = motion.copy()
    holed[[20, 21, 90]] = [[np.nan], [np.inf], [1e300]]
    base = step_shingles(batch(joints=motion), PARAMS)
    assert jaccard(base, step_shingles(batch(joints=holed), PARAMS)) > 0.85
    assert len(step_shingles(batch(joints=np.full((9, 7), np.nan)), PARAMS)) == 0


def test_a_quaternion_and_its_negative_are_one_pose():
    quaternion = np.array([0.0, 0.0, np.sin(0.4), np.cos(0.4)])
    rows = np.array([[0.1, 0.2, 0.3, *quaternion], [0.1, 0.2, 0.3, *-quaternion]])
    cells = pose_cells(rows, PARAMS)
    assert np.array_equal(cells[0], cells[1])
    assert cells[0, :3] == pytest.approx([10.0, 20.0, 30.0])  # of 1 cm
    assert cells[0, 3:5] == pytest.approx([np.cos(0.8) / 0.05, np.sin(0.8) / 0.05])  # a turn of 0.8 rad about z


def test_text_is_compared_by_words_and_word_pairs():
    assert np.array_equal(text_shingles("Pick up, the CUBE!"), text_shingles("pick up the cube"))
    assert len(text_shingles("pick up the cube")) == 7
    red, blue = text_shingles("pick up the red cube"), text_shingles("pick up the blue cube")
    assert jaccard(red, blue) == 6 / 12
    assert len(text_shingles("")) == 0


def test_an_episode_without_instruction_or_motion_abstains():
    steps = batch(joints=reach(1))
    episode = Episode("a", "s", "e", "", "rlds", steps, utterances=(Utterance("lift"),), content_id="c")
    found = fingerprint(episode, PARAMS)
    assert (found.episode_id, found.content_id, found.instruction, found.instruction_shingles) == ("a", "c", "", b"")
    assert found.trajectory_shingles == step_shingles(steps, PARAMS).astype("<u8").tobytes()


def test_params_name_what_is_wrong():
    with pytest.raises(ValueError, match=r"fingerprint.joint_step_rad is 0; need a positive, finite number"):
        FingerprintParams(joint_step_rad=0)
    with pytest.raises(ValueError, match=r"fingerprint.hysteresis is 0.5; need 0 <= hysteresis < 0.5"):
        FingerprintParams(hysteresis=0.5)


ROBOT_DATA = os.environ.get("ROBOT_DATA")


def resampled(motion: np.ndarray, rate: float, phase: float) -> np.ndarray:
    place = np.arange(phase, len(motion) - 1, 1 / rate)
    return np.stack([np.interp(place, np.arange(len(motion)), column) for column in motion.T], axis=1)


def isaac() -> list[pa.RecordBatch]:
    episodes = []
    for path in sorted(Path(ROBOT_DATA, "isaaclab_hdf5").glob("*.hdf5")):
        with h5py.File(path) as file:
            states = [file["data"][demo]["states/articulation/robot/joint_position"][:] for demo in file["data"]]
            episodes += [batch(joints=s[:, :7], gripper=np.clip(s[:, 7:8] / 0.04, 0, 1)) for s in states]
    return episodes


def lerobot(folder: str) -> list[pa.RecordBatch]:
    episodes = []
    for path in sorted(Path(ROBOT_DATA, folder).glob("data/*/*.parquet")):
        table = pq.read_table(path)
        of = table["episode_index"].to_numpy()
        state = np.array(table["observation.state"].to_pylist(), np.float32)
        episodes += [batch(state=state[of == index]) for index in np.unique(of)]
    return episodes


@pytest.mark.skipif(ROBOT_DATA is None, reason="ROBOT_DATA names no folder of real recordings")
@pytest.mark.parametrize("source", ["isaac", "lerobot_v21_g1", "gr00t/robot_sim.PickNPlace", "lerobot_v30_so101"])
def test_real_demonstrations_of_one_task_differ_and_their_copies_match(source):
    episodes = isaac() if source == "isaac" else lerobot(source)
    shingles = [step_shingles(steps, PARAMS) for steps in episodes]
    assert max(jaccard(a, b) for a, b in combinations(shingles, 2)) < 0.2
    for steps, own in zip(episodes, shingles, strict=True):
        columns = {name: np.array(steps.column(name).to_pylist()) for name in steps.schema.names}
        for change in (
            lambda x: resampled(x, 1.5, 0.0),
            lambda x: resampled(x, 1.0, 0.5),
            lambda x: x[2:-2],
            lambda x: (x * 57.29578).astype(np.float32) / np.float32(57.29578),
        ):
            copy = pa.RecordBatch.from_pydict({name: list_column(change(x)) for name, x in columns.items()})
            assert jaccard(own, step_shingles(copy, PARAMS)) > 0.75
