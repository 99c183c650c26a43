"""PrismaX's bag as it is published, against mcap-ros2-support's reading of it and PyAV's of the video beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import duckdb
import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from tests.test_real_data import PRISMAX, column, db, matrix, measured

__all__ = ["db"]

(EPISODE,) = PRISMAX
STEPS, TRANSITIONS = 1870, 1868
Rows = Sequence[tuple[int, int, Any]]


@pytest.fixture(scope="session")
def topics(robot_data: Path) -> dict[str, Rows]:
    """Header stamp, log time and message of every JointState, by topic."""
    found: dict[str, list[tuple[int, int, Any]]] = {}
    with (robot_data / "mcap_prismax/100.mcap").open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        for schema, channel, message, content in reader.iter_decoded_messages():
            if schema is not None and schema.name == "sensor_msgs/msg/JointState":
                stamp = content.header.stamp.sec * 10**9 + content.header.stamp.nanosec
                found.setdefault(channel.topic, []).append((stamp, message.log_time, content))
    return dict(found)


def arm(topics: dict[str, Rows], side: str, role: str) -> Rows:
    return topics[f"/robot/arm_{side}_{role}/joint_states"]


def joined(topics: dict[str, Rows], role: str, name: str) -> np.ndarray:
    return np.hstack([[getattr(m, name) for _, _, m in arm(topics, side, role)] for side in ("left", "right")])


def stamps(rows: Rows) -> np.ndarray:
    return np.array([stamp for stamp, _, _ in rows])


def test_every_value_is_the_bag_s(db: duckdb.DuckDBPyConnection, topics: dict[str, Rows]) -> None:
    state = joined(topics, "follow", "position")
    assert state.shape == (STEPS, 14)
    np.testing.assert_array_equal(matrix(db, EPISODE, "observation.state"), state[:TRANSITIONS])
    np.testing.assert_array_equal(matrix(db, EPISODE, "next.observation.state"), state[1 : TRANSITIONS + 1])
    for name in ("velocity", "effort"):
        values = joined(topics, "follow", name)
        np.testing.assert_array_equal(matrix(db, EPISODE, f"observation.{name}"), values[:TRANSITIONS])
        assert all(not getattr(m, name) for side in ("left", "right") for _, _, m in arm(topics, side, "lead"))
    followed, led = stamps(arm(topics, "left", "follow")), stamps(arm(topics, "left", "lead"))
    assert column(db, EPISODE, "timestamp_ns") == followed[:TRANSITIONS].tolist()
    logged = [log for _, log, _ in arm(topics, "left", "follow")]
    assert column(db, EPISODE, "log_time_ns.observation.state") == logged[:TRANSITIONS]
    latest = np.searchsorted(led, followed, "right") - 1
    commanded = joined(topics, "lead", "position")[latest]
    np.testing.assert_array_equal(matrix(db, EPISODE, "action"), commanded[:TRANSITIONS])
    assert led[-1] < followed[-1], "the last step is after the last command: no transition leads to it"


def test_gaps_delays_and_skew(db: duckdb.DuckDBPyConnection, topics: dict[str, Rows]) -> None:
    delays, gaps = [], []
    for rows in topics.values():
        late = np.array([log - stamp for stamp, log, _ in rows]) / 1e6
        assert late.min() > 3.6 and late.max() < 37.5
        delays.append(late.max())
        gaps.append(np.diff(stamps(rows)).max() / 1e6)
    assert measured(db, "timestamps.log_delay_ms", "prismax")[EPISODE] == pytest.approx(max(delays))
    assert min(gaps) > 41.6 and max(gaps) < 42.3
    query = """select max(value) from evidence where "check" = 'alignment.max_gap_ms' and source = 'prismax'
        and detail in ('stream observation.state', 'stream action')"""
    followed, led = stamps(arm(topics, "left", "follow")), stamps(arm(topics, "left", "lead"))
    widest = max(np.diff(followed).max(), np.diff(led).max()) / 1e6
    assert db.execute(query).fetchone() == (pytest.approx(widest),)
    for role, skew in (("follow", 0.681472), ("lead", 0.889306)):
        apart = np.abs(stamps(arm(topics, "left", role)) - stamps(arm(topics, "right", role))).max() / 1e6
        assert apart == pytest.approx(skew)


def test_the_instruction_says_nothing_and_is_called_so(db: duckdb.DuckDBPyConnection) -> None:
    query = "select instruction, instruction_status from episodes where episode_id = ?"
    assert db.execute(query, [EPISODE]).fetchone() == ("do some thing", "generic")


def test_frames_are_the_nearest_of_the_video(
    db: duckdb.DuckDBPyConnection, topics: dict[str, Rows], robot_data: Path, curated_recordings: Path
) -> None:
    raw = robot_data / "mcap_prismax/100/robot.left_camera.color.image_raw.mp4"
    with av.open(str(raw)) as container:
        pts = np.sort([float(p.pts * p.time_base) for p in container.demux(video=0) if p.pts is not None])
    assert len(pts) == 958
    followed = stamps(arm(topics, "left", "follow"))
    since = (followed - min(stamps(rows)[0] for rows in topics.values()))[:TRANSITIONS] / 1e9
    shown = column(db, EPISODE, "observation.images.left_camera")
    (copied,) = {frame["path"] for frame in shown if frame is not None}
    assert (curated_recordings / copied).read_bytes() == raw.read_bytes()
    nearest = pts[np.abs(pts[None] - since[:, None]).argmin(axis=1)]
    times = np.array([np.nan if frame is None or frame["timestamp"] is None else frame["timestamp"] for frame in shown])
    assert np.isnan(times).sum() <= 1
    good = ~np.isnan(times)
    np.testing.assert_allclose(np.abs(times - since)[good], np.abs(nearest - since)[good], atol=1e-6)
