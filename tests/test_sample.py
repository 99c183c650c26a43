"""The ledger and the published transitions of generated samples against their truth, for several seeds and sizes."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from examples.sample.draw import CAMERAS, Painter
from examples.sample.flaws import FlawSizes
from tests.sample_truth import Curated, Floats, curate_sample, vectors

CASES = {
    7: (12, FlawSizes()),
    1234: (8, FlawSizes(speed_factor=1.2, speed_frames=2, frozen_share=0.6, clock_swap_steps=1, kept_share=0.05)),
    23: (8, FlawSizes(speed_factor=2.0, speed_frames=6, frozen_share=0.95, clock_swap_steps=10, kept_share=0.95)),
}
"""Seed -> whole episodes per format and how large the flaws are: as shipped, the least and the most there may be."""
RATE_HZ = 20.0
STAMP_S = 1e-6
"""LeRobot's stamps are float32; the other sources' are exact. Far within half a sample, 0.025 s."""
CLOSE = 1e-6
OPEN_M = 0.04
FRAME_STRIDE = 9
CODEC_SETTLES_STEPS = 10
"""H.264 refines a picture that stands still until the next key frame; so late its standing can be seen in a video."""
CODED = 6.0
"""Mean error, of 255, that h264 may add to a drawn frame."""
VISIBLE = 2.0
"""Mean change, of 255, from which a frame can be told from its neighbour after coding."""


@pytest.fixture(scope="module", params=list(CASES))
def curated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Curated:
    episodes, sizes = CASES[request.param]
    return curate_sample(tmp_path_factory.mktemp("sample"), request.param, episodes, sizes)


def of_source(curated: Curated, source: str) -> list[str]:
    return [name for name in curated.kept if name.startswith(source)]


def test_every_episode_has_one_row_and_the_counts_agree(curated: Curated) -> None:
    assert curated.status == 0
    assert sorted(curated.ledger) == sorted(curated.rows)
    settings = yaml.safe_load((curated.folder / "in" / "sample.yaml").read_text())
    assert sorted(settings) == ["embodiments", "sources"]  # no threshold but the defaults
    summary = json.loads((curated.output / "run_summary.json").read_text())
    planned = Counter(row["source"] for row in curated.rows.values())
    assert {one["source"]: one["planned"] for one in summary["outcomes"]} == planned


def test_every_outcome_is_the_one_that_was_planted(curated: Curated) -> None:
    wrong = {}
    for episode_id, row in curated.rows.items():
        found = curated.ledger[episode_id]
        rule = found["rule"] or ""
        named = row["rule"] is None or rule.startswith(row["rule"])
        if found["outcome"] not in row["expected"] or not named:
            wrong[episode_id] = (row["expected"], row["rule"], found["outcome"], rule, found["detail"])
    assert not wrong


def test_one_of_each_group_is_kept(curated: Curated) -> None:
    for group in curated.truth["duplicate_groups"]:
        (kept,) = [name for name in group if curated.ledger[name]["outcome"] == "kept"]
        for name in set(group) - {kept}:
            row = curated.ledger[name]
            same_format = name.split("/")[0] == kept.split("/")[0]
            assert row["duplicate_of"] == kept
            assert row["rule"] == ("duplicate.exact" if same_format else "duplicate.trajectory")
    members = {name for group in curated.truth["duplicate_groups"] for name in group}
    assert {name for name, row in curated.ledger.items() if row["outcome"] == "duplicate"} < members


def test_evidence_has_no_other_failed_finding(curated: Curated) -> None:
    failed = {(row["check"], row["episode_id"]) for row in curated.evidence if row["passed"] is False}
    planted = {
        "physics.velocity_ratio": "speed_limit",
        "frames.frozen": "frozen_camera",
        "timestamps.backward": "clock",
    }
    assert failed == {(check, curated.flaw(kind)["episode_id"]) for check, kind in planted.items()}
    cut = curated.flaw("truncated_file")["episode_id"]
    whole = {name for name, row in curated.ledger.items() if row["uri"] == curated.ledger[cut]["uri"]} - {cut}
    disagreeing = {row["episode_id"] for row in curated.evidence if row["check"].startswith("metadata.")}
    assert disagreeing == whole  # the cut shard holds fewer episodes than its metadata says


def test_the_cut_record_is_quarantined(curated: Curated) -> None:
    row = curated.ledger[curated.flaw("truncated_file")["episode_id"]]
    assert (row["outcome"], row["stage"], row["rule"]) == ("quarantined", "load", "truncated")
    assert row["uri"].endswith("panda_sample-train.tfrecord-00002-of-00003")


def test_instruction_is_missing_exactly_where_it_was_left_out(curated: Curated) -> None:
    published = {row["episode_id"]: row for row in curated.table("episodes")}
    assert sorted(published) == curated.kept
    missing = curated.flaw("missing_instruction")["episode_id"]
    for episode_id, row in published.items():
        assert row["instruction"] == curated.rows[episode_id]["instruction"]
        assert row["instruction_status"] == ("missing" if episode_id == missing else "matched")
        assert row["n_steps"] == curated.rows[episode_id]["n_steps"] == row["n_transitions"] + 1


def test_the_violation_is_exact_to_the_frame(curated: Curated) -> None:
    flaw = curated.flaw("speed_limit")
    found = curated.failed("physics.velocity_ratio")
    frames = [frame for row in found for frame in range(row["first_frame"], row["last_frame"] + 1)]
    assert frames == flaw["over_110_percent"] == flaw["over_limit"]
    for row in found:
        assert row["detail"].startswith(f"{flaw['joint']} at ")
        assert row["value"] * 1.1 == pytest.approx(curated.sizes.speed_factor, rel=1e-3)
        stamps = np.array([row["start_ns"], row["end_ns"]]) / 1e9
        np.testing.assert_allclose(stamps * RATE_HZ, [row["first_frame"], row["last_frame"]], atol=STAMP_S * RATE_HZ)


def test_the_frozen_camera_and_its_range(curated: Curated) -> None:
    flaw = curated.flaw("frozen_camera")
    (row,) = curated.failed("frames.frozen")
    assert row["detail"] == flaw["camera"]
    stored = flaw["episode_id"].startswith("sample_rlds")
    settling = 1 if stored else CODEC_SETTLES_STEPS
    assert abs(row["first_frame"] - (flaw["first"] + 1)) <= settling  # `first` itself is a new picture
    assert abs(row["last_frame"] - flaw["last"]) <= 1


def test_the_swapped_clock_is_found_at_its_step(curated: Curated) -> None:
    flaw = curated.flaw("clock")
    (row,) = curated.failed("timestamps.backward")
    assert row["value"] == len(flaw["backward"])
    frames = list(range(row["first_frame"], row["last_frame"] + 1))
    assert frames == flaw["backward"][: len(frames)]  # the first run of them


def test_transitions_are_the_simulators_own(curated: Curated) -> None:
    assert sorted(curated.transitions) == curated.kept
    for episode_id, table in curated.transitions.items():
        truth = curated.arrays(episode_id)
        steps = len(truth["states"])
        assert table.num_rows == steps - 1 == len(truth["rewards"])
        assert table["frame_index"].to_pylist() == list(range(steps - 1))
        stamps = vectors(table, "timestamp_ns") / 1e9
        np.testing.assert_allclose(stamps, truth["times"][:-1], rtol=0, atol=STAMP_S)
        for column, values in (
            ("observation.state", truth["states"][:-1]),
            ("next.observation.state", truth["next_states"]),
            ("observation.joint_position", truth["states"][:-1, :7]),
            ("observation.joint_velocity", truth["velocities"][:-1, :7]),
        ):
            np.testing.assert_array_equal(vectors(table, column), values.astype(np.float32), f"{episode_id} {column}")
        opening = truth["states"][:-1, 7:8] / OPEN_M
        np.testing.assert_allclose(vectors(table, "observation.gripper"), opening, atol=CLOSE)
        np.testing.assert_allclose(vectors(table, "action.gripper"), truth["actions"][:-1, 7:], atol=CLOSE)
        pose = vectors(table, "observation.end_effector_pose")
        np.testing.assert_allclose(pose, truth["tool_pose_xyzw"][:-1], atol=CLOSE)


def test_originals_are_kept_as_each_format_lays_them_out(curated: Curated) -> None:
    for episode_id, table in curated.transitions.items():
        truth = {name: values[:-1].astype(np.float32) for name, values in curated.arrays(episode_id).items()}
        action = truth["actions"]
        if episode_id.startswith("sample_isaac"):
            action = np.column_stack([action[:, :7], 2 * action[:, 7] - 1])
            wxyz = [6, 3, 4, 5]
            expected = {
                "observation.joint_pos": truth["states"],
                "observation.eef_quat": truth["tool_pose_xyzw"][:, wxyz],
                "observation.cube_orientations": truth["cube_pose_xyzw"][:, wxyz],
                "states.articulation.robot.joint_position": truth["states"],
                "states.rigid_object.cube_1.root_pose": truth["cube_pose_xyzw"][:, [0, 1, 2, *wxyz]],
            }
        else:
            expected = {
                "observation.velocity": truth["velocities"],
                "observation.tool_pose": truth["tool_pose_xyzw"],
                "observation.cube_pose": truth["cube_pose_xyzw"],
            }
        np.testing.assert_allclose(vectors(table, "action"), action, rtol=0, atol=CLOSE)
        for column, values in expected.items():
            np.testing.assert_array_equal(vectors(table, column), values, f"{episode_id} {column}")


def test_rewards_and_ends(curated: Curated) -> None:
    for episode_id, table in curated.transitions.items():
        rewards = curated.arrays(episode_id)["rewards"]
        count = table.num_rows
        last = [False] * (count - 1) + [True]
        # LeRobot's table says nothing of how an episode ended; RLDS marks it and Isaac Lab states success.
        terminal = not episode_id.startswith("sample_lerobot")
        assert table["next.done"].to_pylist() == (last if terminal else [False] * count)
        assert table["next.truncated"].to_pylist() == ([False] * count if terminal else last)
        assert table["discount"].to_pylist() == [1.0] * (count - 1) + [0.0 if terminal else 1.0]
        assert table["is_first"].to_pylist() == [True] + [False] * (count - 1)
        assert not any(table["is_last"].to_pylist()) and not any(table["is_terminal"].to_pylist())
        assert all(table["valid"].to_pylist())
        stored = not episode_id.startswith("sample_isaac")  # its recorder writes no rewards
        for column in ("reward", "next.reward"):
            assert table[column].to_pylist() == (rewards.tolist() if stored else [None] * count)


def test_images_are_the_bytes_that_were_written(curated: Curated) -> None:
    episodes = of_source(curated, "sample_rlds")
    assert episodes
    for episode_id in episodes:
        for camera in CAMERAS:
            written = curated.images[episode_id, camera]
            cells = curated.transitions[episode_id][f"observation.images.{camera}"].to_pylist()
            assert [cell["bytes"] for cell in cells] == written[:-1]
        drawn = draw(curated, episode_id, np.array([0, 10]))
        for camera, frames in drawn.items():
            cells = curated.transitions[episode_id][f"observation.images.{camera}"].to_pylist()
            for t, frame in zip((0, 10), frames, strict=True):
                shown = np.asarray(Image.open(io.BytesIO(cells[t]["bytes"])))
                assert error(shown, frame) < CODED


def test_video_references_show_the_step_that_was_drawn(curated: Curated) -> None:
    files: dict[str, dict[float, NDArray[np.uint8]]] = {}
    told_apart = 0
    for episode_id in of_source(curated, "sample_lerobot"):
        table = curated.transitions[episode_id]
        at = np.arange(1, table.num_rows - 1, FRAME_STRIDE)
        drawn = draw(curated, episode_id, np.concatenate([at - 1, at, at + 1]))
        for camera in CAMERAS:
            cells = table[f"observation.images.{camera}"].to_pylist()
            before, now, after = drawn[camera].reshape(3, len(at), *drawn[camera].shape[1:])
            for k, t in enumerate(at):
                path, wanted = cells[t]["path"], cells[t]["timestamp"]
                if path not in files:
                    files[path] = decode(curated.output / path)
                shown = files[path]
                stamp = min(shown, key=lambda one: abs(one - wanted))
                assert abs(stamp - wanted) < STAMP_S
                assert error(shown[stamp], now[k]) < CODED, (episode_id, camera, t)
                for neighbour in (before[k], after[k]):
                    if error(now[k], neighbour) > VISIBLE:
                        told_apart += 1
                        assert error(shown[stamp], now[k]) < error(shown[stamp], neighbour), (episode_id, camera, t)
    assert told_apart > 20, told_apart


def decode(path: Path) -> dict[float, NDArray[np.uint8]]:
    """Seconds in the file -> frame, straight from PyAV."""
    with av.open(str(path)) as container:
        return {float(frame.time or 0.0): frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)}


def draw(curated: Curated, episode_id: str, steps: NDArray[np.int64]) -> dict[str, NDArray[np.uint8]]:
    """The pictures of these steps, drawn again from the simulator's arrays."""
    arrays = curated.arrays(episode_id)
    cube: Floats = arrays["cube_pose_xyzw"][:, [0, 1, 2, 6, 3, 4, 5]]
    qpos = np.concatenate([cube, arrays["states"]], axis=1)
    return Painter().frames(qpos[steps], curated.rows[episode_id]["colour"])


def error(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).mean())
