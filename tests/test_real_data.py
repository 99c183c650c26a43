"""The published recordings of examples/real_data.yaml, curated once: every known defect, values against raw files.

The raw files are read with h5py, protobuf, pyarrow, PyAV and XML; no code of the project reads them here.
"""

from __future__ import annotations

import json
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import duckdb
import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tests.factories import EXAMPLE

FINGERS_OPEN_M = 0.04
HAND_TO_TOOL_M = 0.1034
Values = NDArray[np.float64]


@pytest.fixture(scope="session")
def db(curated_recordings: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        for table in ("episodes", "transitions", "evidence", "ledger"):
            files = (
                f"read_parquet('{curated_recordings}/{table}/*/*.parquet', hive_partitioning=true, union_by_name=true)"
            )
            connection.execute(f"create view {table} as select * from {files}")
        yield connection


def column(db: duckdb.DuckDBPyConnection, episode: str, name: str) -> list[Any]:
    rows = db.execute(f'select "{name}" from transitions where episode_id = ? order by frame_index', [episode])
    return [row[0] for row in rows.fetchall()]


def matrix(db: duckdb.DuckDBPyConnection, episode: str, name: str) -> Values:
    return np.array(column(db, episode, name), np.float64)


def measured(db: duckdb.DuckDBPyConnection, check: str, source: str) -> dict[str, float]:
    query = 'select episode_id, max(value) from evidence where "check" = ? and source = ? group by 1 order by 1'
    return dict(db.execute(query, [check, source]).fetchall())


# ---- the ledger


def test_every_input_has_one_outcome(db: duckdb.DuckDBPyConnection) -> None:
    query = "select source, outcome, rule, count(*) from ledger group by all order by all"
    assert db.execute(query).fetchall() == [
        ("bridge", "kept", "", 25),
        ("g1", "kept", "", 2),
        ("g1", "quarantined", "declared_absent", 98),
        ("gr00t", "kept", "", 3),
        ("gr00t", "quarantined", "declared_absent", 2),
        ("isaac", "kept", "", 20),
        ("kuka", "kept", "", 1),
        ("prismax", "kept", "", 1),
        ("so101", "kept", "", 4),
    ]
    present = "select string_agg(episode_id, ' ' order by episode_id) from ledger where source = ? and outcome = 'kept'"
    assert db.execute(present, ["g1"]).fetchall() == [("g1/train/000001 g1/train/000002",)]
    assert db.execute(present, ["gr00t"]).fetchall() == [("gr00t/train/000000 gr00t/train/000001 gr00t/train/000002",)]


def test_transitions_are_one_fewer_than_the_steps_of_each_episode_but_where_the_leaders_end_first(
    db: duckdb.DuckDBPyConnection,
) -> None:
    query = "select source, sum(n_steps), sum(n_transitions) from episodes group by 1 order by 1"
    assert db.execute(query).fetchall() == [
        ("bridge", 250, 225),
        ("g1", 736, 734),
        ("gr00t", 1356, 1353),
        ("isaac", 2163 + 2328, 2163 + 2328 - 20),
        ("kuka", 4101, 4100),
        ("prismax", 1870, 1868),
        ("so101", 1492, 1488),
    ]
    total = 225 + 734 + 1353 + 4471 + 4100 + 1868 + 1488
    assert db.execute("select count(*) from transitions").fetchone() == (total,)


def test_nothing_names_the_machine(db: duckdb.DuckDBPyConnection, curated_recordings: Path, robot_data: Path) -> None:
    for table in ("episodes", "evidence", "ledger"):
        query = f"select count(*) from {table} as t where contains(cast(t as varchar), ?)"
        assert db.execute(query, [str(robot_data)]).fetchone() == (0,), table
    for name in ("run_summary.json", "_manifest.json", "report.html"):
        assert str(robot_data) not in (curated_recordings / name).read_text()


# ---- what disagrees, and where

BRIDGE = tuple(f"bridge/train/{i:06d}" for i in range(25))
GR00T = tuple(f"gr00t/train/{i:06d}" for i in range(3))
TELEOPERATED = tuple(f"isaac/dataset/{i:06d}" for i in (0, 1, 2, 6, 8, 9, 12, 13, 14, 16))
KUKA = ("kuka/kuka_honeypot_test",)
PRISMAX = ("prismax/100",)
SO101 = tuple(f"so101/train/{i:06d}" for i in range(4))
DEFECTS: list[tuple[str, tuple[str, ...], list[float], str, str]] = [
    ("alignment.topic_skew_ms", PRISMAX, [0.681472, 0.889306], "ms", "observation.state: /robot/arm_right_follow"),
    ("integrity.camera_absent", GR00T, [1.0], "cameras", "egoview: videos/chunk-000/observation.images.egoview/"),
    ("integrity.camera_absent", SO101, [1.0, 1.0], "cameras", "top: videos/observation.images.top/chunk-000/file-000"),
    (
        "metadata.clocks_apart",
        PRISMAX,
        [1769692472.341606752],
        "s",
        "left_camera: robot.left_camera.color.image_raw.mp4",
    ),
    ("metadata.demo_numbers", TELEOPERATED, [7.0], "demos", "not in the file (3, 4, 5, 7, 10, 11, 15)"),
    ("metadata.has_image", BRIDGE, [1.0, 1.0, 1.0], "fraction", "has_image_2 is False and 100% of its images hold"),
    ("metadata.is_last", BRIDGE, [1.0], "steps", "set on 0 of 10 steps and wrong on 1, the first of them step 9"),
    ("metadata.splits", GR00T, [100.0], "episodes", "split 'train' is '0:100'; 5 episodes are listed"),
    ("metadata.splits_alike", BRIDGE, [2.0], "splits", "train and val each state 25 episodes in 3474742 bytes"),
    (
        "metadata.topics_unused",
        PRISMAX,
        [2.0],
        "topics",
        "env_camera/image_raw/compressed/camera_info, /robot/right_camera",
    ),
    ("metadata.total", TELEOPERATED, [1738.0], "steps", "3901 samples, those of the 10 demos sum to 2163"),
    ("metadata.total_chunks", GR00T, [0.0], "chunks", "declared 0; the listed episodes lie in 1"),
    ("metadata.total_videos", GR00T, [2.0], "videos", "declared 2; 5 episodes x 2 cameras make 10"),
    ("timestamps.log_delay_ms", KUKA, [-4.862858], "ms", "/joint_states: logged -4.86286 to -2.26664 ms after the"),
    (
        "metadata.trailing_bytes",
        PRISMAX,
        [1870.0, 1870.0],
        "messages",
        "arm_left_lead/joint_states: 1870 of 1870 messages",
    ),
    (
        "timestamps.log_delay_ms",
        PRISMAX,
        [37.07824, 37.210011, 37.289952, 37.442366],
        "ms",
        "logged 3.67605 to 37.0782",
    ),
    ("timestamps.start_offset", GR00T, [0.049999952], "s", "the first step is not at 0"),
]


def test_each_contradiction_is_named_where_it_is_and_nowhere_else(db: duckdb.DuckDBPyConnection) -> None:
    query = """select "check", source, episode_id, list(value order by value), any_value(unit), string_agg(detail, '; ')
        from evidence where stage = 'load' and status = 'measured' and "check" <> 'conventions.gripper_range'
        group by 1, 2, 3"""
    found = {(check, episode): rest for check, _, episode, *rest in db.execute(query).fetchall()}
    expected = {(check, episode): rest for check, episodes, *rest in DEFECTS for episode in episodes}
    assert found.keys() == expected.keys()
    for key, (values, unit, words) in expected.items():
        assert found[key][0] == pytest.approx(values) and found[key][1] == unit and words in found[key][2], key


def test_a_blank_camera_is_told_from_black_frames(db: duckdb.DuckDBPyConnection) -> None:
    blank = """select episode_id, detail from evidence where "check" = 'frames.placeholder' and value = 1 order by 1"""
    assert db.execute(blank).fetchall() == [(e, "image_3: every frame is one flat colour, luma 0") for e in BRIDGE]
    assert db.execute("select max(value) from evidence where \"check\" = 'frames.black'").fetchone() == (0.0,)


NOT_RUN = [
    ("bridge", "physics.position_excess", "no `joints` are declared"),
    ("bridge", "physics.quaternion_norm", "declared as rpy, not quaternion"),
    ("bridge", "grounding.verb_consistency", "1.8 s may be a crop"),
    ("isaac", "physics.acceleration_ratio", "a URDF states none"),
    ("isaac", "quality.action_state_residual", "delta_end_effector, not absolute_joint"),
    ("gr00t", "physics.position_excess", "no `joints` are declared"),
    ("gr00t", "physics.velocity_ratio", "no `joints` are declared"),
    ("gr00t", "conventions.state", "[0:44] of the 44 elements"),
    ("gr00t", "quality.sparc", "no joints or end-effector pose with declared units"),
    ("g1", "conventions.state", "[14:26] of the 26 elements"),
    ("g1", "conventions.gripper", "gripper is not declared"),
    ("kuka", "physics.position_excess", "no `urdf` is declared"),
    ("kuka", "quality.action_state_residual", "declared as unknown, not absolute_joint"),
    ("kuka", "grounding.verb_consistency", "no instruction"),
    ("so101", "physics.position_excess", "the joints' unit is unknown"),
    ("so101", "physics.velocity_ratio", "the joints' unit is unknown"),
    ("so101", "conventions.end_effector_pose", "not declared: end_effector"),
    ("prismax", "physics.position_excess", "no `joints` are declared"),
    ("prismax", "conventions.state", "[0:14] of the 14 elements"),
    ("prismax", "grounding.verb_consistency", "the instruction names no deed"),
]


@pytest.mark.parametrize(("source", "check", "words"), NOT_RUN)
def test_what_cannot_be_checked_says_so(db: duckdb.DuckDBPyConnection, source: str, check: str, words: str) -> None:
    query = 'select status, value, detail from evidence where source = ? and "check" = ?'
    rows = db.execute(query, [source, check]).fetchall()
    kept = db.execute("select count(*) from episodes where source = ?", [source]).fetchone()
    assert (len(rows),) == kept
    assert all(status == "not_run" and value is None and words in detail for status, value, detail in rows)


# ---- bridge: TFRecord by offsets, Example by protobuf


@pytest.fixture(scope="session")
def examples(robot_data: Path) -> list[Any]:
    folder = robot_data / "rlds/bridge_dataset/1.0.0"
    data = (folder / "bridge_dataset-train.tfrecord-00000-of-00001").read_bytes()
    found, place = [], 0
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        found.append(EXAMPLE.FromString(data[place + 12 : place + 12 + length]).features.feature)
        place += length + 16
    return found


def floats(features: Any, name: str, width: int) -> Values:
    return np.array(features[name].float_list.value, np.float64).reshape(-1, width)


def test_bridge_values(db: duckdb.DuckDBPyConnection, examples: list[Any]) -> None:
    assert len(examples) == 25
    for episode, features in zip(BRIDGE, examples, strict=True):
        state = floats(features, "steps/observation/state", 7)
        action = floats(features, "steps/action", 7)
        np.testing.assert_array_equal(matrix(db, episode, "observation.state"), state[:-1])
        np.testing.assert_array_equal(matrix(db, episode, "next.observation.state"), state[1:])
        np.testing.assert_array_equal(matrix(db, episode, "action"), action[:-1])
        np.testing.assert_allclose(matrix(db, episode, "observation.gripper"), state[:-1, 6:], rtol=1e-6)
        np.testing.assert_array_equal(matrix(db, episode, "action.gripper"), action[:-1, 6:])
        assert column(db, episode, "timestamp_ns") == [200_000_000 * i for i in range(9)]
        assert column(db, episode, "next.truncated") == [False] * 8 + [True]
        assert not any(column(db, episode, "next.done"))
        for camera in range(4):
            stored = list(features[f"steps/observation/image_{camera}"].bytes_list.value)
            shown = column(db, episode, f"observation.images.image_{camera}")
            assert [image["bytes"] for image in shown] == stored[:-1]
        text = features["steps/language_instruction"].bytes_list.value[0].decode()
        query = "select instruction, instruction_status from episodes where episode_id = ?"
        assert db.execute(query, [episode]).fetchone() == (text, "matched")


def test_bridge_pose_is_roll_pitch_yaw(db: duckdb.DuckDBPyConnection, examples: list[Any]) -> None:
    x, y, z, roll, pitch, yaw = floats(examples[7], "steps/observation/state", 7)[4, :6]
    (cr, sr), (cp, sp), (cy, sy) = ((np.cos(a / 2), np.sin(a / 2)) for a in (roll, pitch, yaw))
    quaternion = [
        sr * cp * cy - cr * sp * sy,
        cr * sp * cy + sr * cp * sy,
        cr * cp * sy - sr * sp * cy,
        cr * cp * cy + sr * sp * sy,
    ]
    pose = matrix(db, BRIDGE[7], "observation.end_effector_pose")[4]
    np.testing.assert_allclose(pose[:3], [x, y, z], atol=1e-7)
    assert abs(pose[3:] @ quaternion) == pytest.approx(1.0, abs=1e-6)


def test_bridge_flags_grippers_and_sizes(db: duckdb.DuckDBPyConnection, examples: list[Any], robot_data: Path) -> None:
    shard = robot_data / "rlds/bridge_dataset/1.0.0/bridge_dataset-train.tfrecord-00000-of-00001"
    assert shard.stat().st_size - 16 * len(examples) == 3474742
    over = {}
    for episode, features in zip(BRIDGE, examples, strict=True):
        assert not any(features["steps/is_last"].int64_list.value)
        assert not any(features[f"episode_metadata/has_image_{i}"].int64_list.value[0] for i in range(4))
        highest = floats(features, "steps/observation/state", 7)[:, 6].max()
        if highest > 1:
            over[episode] = highest - 1
    assert len(over) == 13
    assert measured(db, "conventions.gripper_range", "bridge") == pytest.approx(over, rel=1e-6)


# ---- Isaac Lab: h5py, and the Panda's kinematics from its URDF


def isaac_demo(robot_data: Path, episode: str) -> dict[str, Any]:
    _, file, number = episode.split("/")
    with h5py.File(robot_data / f"isaaclab_hdf5/{file}.hdf5") as opened:
        demo, robot = opened[f"data/demo_{int(number)}"], "articulation/robot"
        names = ("joint_position", "joint_velocity")
        before = {n: np.vstack([demo[f"initial_state/{robot}/{n}"], demo[f"states/{robot}/{n}"]]) for n in names}
        rest = {n: demo[n][()] for n in ("actions", "obs/joint_pos", "obs/joint_vel", "obs/eef_pos", "obs/eef_quat")}
        return {**before, **rest}


ISAAC = ("isaac/dataset/000000", "isaac/dataset/000016", "isaac/generated_dataset_small/000003")


@pytest.mark.parametrize("episode", ISAAC)
def test_isaac_values(db: duckdb.DuckDBPyConnection, robot_data: Path, episode: str) -> None:
    demo = isaac_demo(robot_data, episode)
    q = demo["joint_position"].astype(np.float64)
    count = len(demo["actions"])
    assert len(q) == count + 1
    np.testing.assert_array_equal(matrix(db, episode, "observation.state"), q[: count - 1])
    np.testing.assert_array_equal(matrix(db, episode, "next.observation.state"), q[1:count])
    np.testing.assert_array_equal(matrix(db, episode, "action"), demo["actions"][:-1])
    np.testing.assert_array_equal(matrix(db, episode, "observation.joint_position"), q[: count - 1, :7])
    velocity = matrix(db, episode, "observation.joint_velocity")
    np.testing.assert_array_equal(velocity, demo["joint_velocity"][: count - 1, :7])
    gripper = matrix(db, episode, "observation.gripper")
    np.testing.assert_allclose(gripper, q[: count - 1, 7:8] / FINGERS_OPEN_M, rtol=1e-6)
    assert 0.4 < gripper.min() < 0.6 and gripper.max() == pytest.approx(1, abs=1e-4)
    np.testing.assert_array_equal(matrix(db, episode, "action.gripper"), (demo["actions"][:-1, 6:] + 1) / 2)
    assert column(db, episode, "timestamp_ns") == [50_000_000 * i for i in range(count - 1)]
    query = "select success, attributes from episodes where episode_id = ?"
    row = db.execute(query, [episode]).fetchone()
    assert row is not None and row[0] is True
    attributes = {one["key"]: one["value"] for one in row[1]}
    assert json.loads(attributes["final_state.articulation.robot.joint_position"]) == q[count].tolist()


@pytest.mark.parametrize("episode", ISAAC)
def test_isaac_states_are_written_after_the_step(robot_data: Path, episode: str) -> None:
    demo = isaac_demo(robot_data, episode)
    at_step, after_step = demo["joint_position"][:-1], demo["joint_position"][1:]
    assert np.ptp(at_step - demo["obs/joint_pos"], axis=0).max() < 1e-6
    assert np.ptp(after_step - demo["obs/joint_pos"], axis=0).max() > 0.05
    np.testing.assert_array_equal(demo["joint_velocity"][:-1], demo["obs/joint_vel"])


def panda_tool(urdf: Path, q: Values) -> tuple[Values, Rotation]:
    """Position (T, 3) m and rotation of the tool in the base, from (T, 7) rad."""
    root = ElementTree.parse(urdf).getroot()
    joints = {joint.attrib["name"]: joint for joint in root.findall("joint")}
    position, rotation = np.zeros((len(q), 3)), Rotation.identity(len(q))
    for index, name in enumerate([*(f"panda_joint{i}" for i in range(1, 9)), "panda_hand_joint"]):
        origin, axis = joints[name].find("origin"), joints[name].find("axis")
        assert origin is not None
        position = position + rotation.apply([float(x) for x in origin.get("xyz", "0 0 0").split()])
        rotation = rotation * Rotation.from_euler("xyz", [float(x) for x in origin.get("rpy", "0 0 0").split()])
        if index < 7:
            assert axis is not None
            rotation = rotation * Rotation.from_rotvec(
                q[:, index, None] * [float(x) for x in axis.attrib["xyz"].split()]
            )
    return position + rotation.apply([0, 0, HAND_TO_TOOL_M]), rotation


@pytest.mark.parametrize("episode", ISAAC)
def test_isaac_pose_is_the_joints_forward_kinematics(
    db: duckdb.DuckDBPyConnection, robot_data: Path, episode: str
) -> None:
    q = matrix(db, episode, "observation.joint_position")
    position, rotation = panda_tool(robot_data / "models/panda.urdf", q)
    pose = matrix(db, episode, "observation.end_effector_pose")
    assert np.linalg.norm(pose[:, :3] - position, axis=1).max() < 2e-6
    assert (Rotation.from_quat(pose[:, 3:]) * rotation.inv()).magnitude().max() < 1e-5
    raw = isaac_demo(robot_data, episode)["obs/eef_quat"][:-1]
    np.testing.assert_allclose(pose[:, 3:], raw[:, [1, 2, 3, 0]], atol=1e-6)
    assert (Rotation.from_quat(raw) * rotation.inv()).magnitude().min() > 1, "read as x y z w it is another rotation"
    late, _ = panda_tool(robot_data / "models/panda.urdf", matrix(db, episode, "next.observation.state")[:, :7])
    assert np.linalg.norm(pose[:, :3] - late, axis=1).max() > 0.01, "unshifted the tool is elsewhere"


def test_isaac_speeds_reach_the_limit_at_20_hz_and_positions_keep_theirs(
    db: duckdb.DuckDBPyConnection, robot_data: Path
) -> None:
    root = ElementTree.parse(robot_data / "models/panda.urdf").getroot()
    found = {j.attrib["name"]: j.find("limit") for j in root.findall("joint")}
    limits = [found[f"panda_joint{i}"] for i in range(1, 8)]
    speed, low, high = (np.array([float(limit.attrib[k]) for limit in limits]) for k in ("velocity", "lower", "upper"))
    ratios, excesses = {}, []
    query = "select episode_id from episodes where source = 'isaac' order by 1"
    for (episode,) in db.execute(query).fetchall():
        q = isaac_demo(robot_data, episode)["joint_position"][:-1, :7].astype(np.float64)
        ratio = np.abs(np.diff(q, axis=0)) * 20 / speed
        ratios[episode] = np.minimum(ratio[1:], ratio[:-1]).max() / 1.1
        excesses.append(np.maximum(q - high, low - q).max())
    assert 0 < max(excesses) < 1e-6, "joint 7 passes its limit by rounding alone"
    assert set(measured(db, "physics.position_excess", "isaac").values()) == {0.0}
    published = measured(db, "physics.velocity_ratio", "isaac")
    assert published.keys() == ratios.keys()
    assert all(published[e] <= ratios[e] * (1 + 1e-6) for e in ratios)
    assert max(published.values()) == pytest.approx(1 / 1.1, rel=1e-3)
    assert max(ratios.values()) * 30 / 20 > 1, "at 30 Hz the limit would be broken"


# ---- LeRobot: pyarrow and PyAV

LEROBOT = [
    ("gr00t", "gr00t/robot_sim.PickNPlace", "ego_view", (0, 1, 2), "h264", (256, 256)),
    ("g1", "lerobot_v21_g1", "cam_high", (1, 2), "av1", (640, 480)),
]


def stacked(table: Any, name: str) -> Values:
    return np.array(table.column(name).to_pylist(), np.float64)


@pytest.mark.parametrize(("source", "folder", "camera", "numbers", "codec", "size"), LEROBOT)
def test_lerobot_v2_values(
    db: duckdb.DuckDBPyConnection,
    curated_recordings: Path,
    robot_data: Path,
    source: str,
    folder: str,
    camera: str,
    numbers: tuple[int, ...],
    codec: str,
    size: tuple[int, int],
) -> None:
    for number in numbers:
        episode = f"{source}/train/{number:06d}"
        table = pq.read_table(robot_data / folder / f"data/chunk-000/episode_{number:06d}.parquet")
        state = stacked(table, "observation.state")
        np.testing.assert_array_equal(matrix(db, episode, "observation.state"), state[:-1])
        np.testing.assert_array_equal(matrix(db, episode, "next.observation.state"), state[1:])
        np.testing.assert_array_equal(matrix(db, episode, "action"), stacked(table, "action")[:-1])
        seconds = stacked(table, "timestamp")
        np.testing.assert_allclose(matrix(db, episode, "timestamp_ns"), seconds[:-1] * 1e9, atol=1)
        raw = robot_data / folder / f"videos/chunk-000/observation.images.{camera}/episode_{number:06d}.mp4"
        frames = column(db, episode, f"observation.images.{camera}")
        (copied,) = {frame["path"] for frame in frames}
        assert (curated_recordings / copied).read_bytes() == raw.read_bytes()
        with av.open(str(raw)) as container:
            stream = container.streams.video[0]
            pts = [float(p.pts * p.time_base) for p in container.demux(stream) if p.pts is not None]
            assert stream.codec_context.codec.canonical_name == codec
            assert (stream.width, stream.height) == size
        assert len(pts) == len(state)
        np.testing.assert_allclose([f["timestamp"] for f in frames], sorted(pts)[:-1], atol=1e-6)
        meta = (robot_data / folder / "meta/episodes.jsonl").read_text().splitlines()
        query = "select instruction, instruction_status, n_steps from episodes where episode_id = ?"
        expected = (json.loads(meta[number])["tasks"][0], "matched", json.loads(meta[number])["length"])
        assert db.execute(query, [episode]).fetchone() == expected


def test_gr00t_done_reward_and_held_hand(db: duckdb.DuckDBPyConnection, robot_data: Path) -> None:
    for number, episode in enumerate(GR00T):
        table = pq.read_table(robot_data / f"gr00t/robot_sim.PickNPlace/data/chunk-000/episode_{number:06d}.parquet")
        assert table.column("next.done").to_pylist() == [False] * (table.num_rows - 1) + [True]
        assert table.column("next.reward").to_pylist() == [0.0] * (table.num_rows - 1) + [1.0]
        assert column(db, episode, "next.done") == [False] * (table.num_rows - 2) + [True]
        state, action = stacked(table, "observation.state"), stacked(table, "action")
        assert np.ptp(action[:, 7:13], axis=0).max() == 0 and 0 < np.ptp(state[:, 7:11], axis=0).max() < 2e-3
    assert measured(db, "integrity.reward_of_last_step", "gr00t") == dict.fromkeys(GR00T, 1.0)
    residual = measured(db, "quality.action_state_residual", "gr00t")
    assert all(0.2 < value < 0.3 for value in residual.values()), residual


def test_g1_arms_and_camera(db: duckdb.DuckDBPyConnection, robot_data: Path) -> None:
    repeated = {}
    for number in (1, 2):
        episode = f"g1/train/{number:06d}"
        arms = matrix(db, episode, "observation.state")[:, :14]
        np.testing.assert_array_equal(matrix(db, episode, "observation.joint_position"), arms)
        name = f"lerobot_v21_g1/videos/chunk-000/observation.images.cam_high/episode_{number:06d}.mp4"
        same, count, before = 0, 0, None
        with av.open(str(robot_data / name)) as container:
            for frame in container.decode(video=0):
                luma = frame.to_ndarray(format="gray")
                same += before is not None and bool((luma == before).all())
                count, before = count + 1, luma
        repeated[episode] = same / (count - 1)
    assert measured(db, "frames.repeated", "g1") == pytest.approx(repeated, rel=1e-6)
    assert repeated["g1/train/000001"] == pytest.approx(100 / 392)
    assert set(measured(db, "physics.position_excess", "g1").values()) == {0.0}


def test_so101_values_and_stillness(db: duckdb.DuckDBPyConnection, robot_data: Path) -> None:
    table = pq.read_table(robot_data / "lerobot_v30_so101/data/chunk-000/file-000.parquet")
    number = np.array(table.column("episode_index"))
    state, action = stacked(table, "observation.state"), stacked(table, "action")
    still, steps, shares = 0, 0, {}
    for index, episode in enumerate(SO101):
        rows = state[number == index]
        np.testing.assert_array_equal(matrix(db, episode, "observation.state"), rows[:-1])
        np.testing.assert_array_equal(matrix(db, episode, "next.observation.state"), rows[1:])
        np.testing.assert_array_equal(matrix(db, episode, "action"), action[number == index][:-1])
        np.testing.assert_allclose(matrix(db, episode, "observation.gripper"), rows[:-1, 5:] / 100, rtol=1e-6)
        seconds = stacked(table, "timestamp")[number == index]
        np.testing.assert_allclose(matrix(db, episode, "timestamp_ns"), seconds[:-1] * 1e9, atol=1)
        alike = (np.diff(rows, axis=0) == 0).all(axis=1)
        shares[episode] = alike.mean()
        still, steps = still + int(alike.sum()), steps + len(alike)
    assert measured(db, "quality.idle_fraction", "so101") == pytest.approx(shares, rel=1e-6)
    assert (still, steps) == (549, 1488) and round(still / steps, 2) == 0.37
    assert set(measured(db, "grounding.verb_consistency", "so101").values()) == {1.0}
