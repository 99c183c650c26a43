"""The KUKA arm's ROS 1 bag as it is published, against rosbags' reading of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from numpy.typing import NDArray
from rosbags.rosbag1 import Reader
from rosbags.typesys import Stores, get_typestore

from tests.test_real_data import KUKA, column, db, matrix, measured

__all__ = ["db"]


@pytest.fixture(scope="session")
def joint_states(robot_data: Path) -> dict[str, NDArray[Any]]:
    store = get_typestore(Stores.ROS1_NOETIC)
    columns: dict[str, list[Any]] = {name: [] for name in ("stamp", "log", "position", "velocity", "effort")}
    with Reader(robot_data / "ros1/kuka_honeypot_test.bag") as reader:
        for connection, log_ns, raw in reader.messages():
            message = store.deserialize_ros1(raw, connection.msgtype)
            stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
            values = (stamp, log_ns, message.position, message.velocity, message.effort)
            for name, value in zip(columns, values, strict=True):
                columns[name].append(value)
    return {name: np.array(values) for name, values in columns.items()}


def test_kuka_values(db: duckdb.DuckDBPyConnection, joint_states: dict[str, NDArray[Any]]) -> None:
    (episode,) = KUKA
    position = joint_states["position"]
    assert position.shape == (4101, 7)
    np.testing.assert_array_equal(matrix(db, episode, "observation.state"), position[:-1])
    np.testing.assert_array_equal(matrix(db, episode, "next.observation.state"), position[1:])
    np.testing.assert_array_equal(matrix(db, episode, "observation.joint_position"), position[:-1])
    np.testing.assert_array_equal(matrix(db, episode, "observation.velocity"), joint_states["velocity"][:-1])
    np.testing.assert_array_equal(matrix(db, episode, "observation.effort"), joint_states["effort"][:-1])
    assert column(db, episode, "timestamp_ns") == joint_states["stamp"][:-1].tolist()
    late_ms = (joint_states["log"] - joint_states["stamp"]) / 1e6
    assert late_ms.max() < 0, "the bag's clock runs behind the robot's: every message is logged before its stamp"
    assert measured(db, "timestamps.log_delay_ms", "kuka")[episode] == pytest.approx(late_ms.min())


def test_kuka_moves_between_two_long_rests(
    db: duckdb.DuckDBPyConnection, joint_states: dict[str, NDArray[Any]]
) -> None:
    (episode,) = KUKA
    position, seconds = joint_states["position"], (joint_states["stamp"] - joint_states["stamp"][0]) / 1e9
    speed = np.abs(np.diff(position, axis=0)).max(axis=1) / np.diff(seconds)
    assert np.ptp(position, axis=0).min() > 0.48 and speed.max() > 1.7, "every joint moves, in rad and rad/s"
    moving = np.flatnonzero(speed > 0.01)
    assert seconds[moving[0]] == pytest.approx(7.22) and seconds[moving[-1]] == pytest.approx(31.84)
    assert np.ptp(position[: moving[0] - 30], axis=0).max() < 1e-2 > np.ptp(position[moving[-1] + 30 :], axis=0).max()
    assert measured(db, "quality.idle_fraction", "kuka")[episode] == pytest.approx((speed <= 0.01).mean(), abs=0.02)
    assert measured(db, "quality.longest_pause_s", "kuka")[episode] == pytest.approx(8.11, abs=0.01)
    derived, logged = np.diff(position, axis=0) / np.diff(seconds)[:, None], joint_states["velocity"]
    middle = (logged[1:] + logged[:-1]) / 2
    scale = (derived * middle).sum() / (middle**2).sum()
    assert scale == pytest.approx(1, abs=1e-6), "the logged velocity is that of the positions: rad and seconds agree"
    assert measured(db, "conventions.velocity_scale", "kuka")[episode] == pytest.approx(scale, abs=1e-3)
