"""The rate that is guessed for bags, from stamps and from headers of videos beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from beam_pipeline.config import PipelineConfig
from beam_pipeline.guessing.guess import GuessedConfig, guess_config, render, summary
from tests.bag_files import STEP_NS, Message, header, joints, jpeg, write_mcap
from tests.factories import motion, write_lerobot_v21, write_video


def loaded(guessed: GuessedConfig, folder: Path) -> PipelineConfig:
    (folder / "config.yaml").write_text(render(guessed))
    return PipelineConfig.load(folder / "config.yaml")


def bag(path: Path, camera_ns: int = 0, state_ns: int = STEP_NS) -> Path:
    """A leader and a follower, and a camera where it has a period."""
    positions = np.linspace(0, 1, 36).reshape(12, 3)
    messages = joints("/follow/joint_states", positions, step_ns=state_ns) + joints("/lead/joint_states", positions)
    for index in range(6 if camera_ns else 0):
        stamp = messages[0].stamp_ns + index * camera_ns
        content = {"header": header(stamp), "format": "jpeg", "data": jpeg(index)}
        messages.append(Message("/top/image_raw/compressed", "sensor_msgs/msg/CompressedImage", stamp, content))
    return write_mcap(path, sorted(messages, key=lambda message: message.log_ns))


@pytest.mark.parametrize(
    ("camera_ns", "state_ns", "rate_hz", "stream"),
    [
        (33_300_000, STEP_NS, 30, "camera top"),
        (0, STEP_NS, 50, "action"),
        (10_000_000, STEP_NS, 50, "action"),
        (33_300_000, 2_000_000_000, 0.5, "observation.state"),
    ],
)
def test_bags_are_put_on_the_clock_of_their_slowest_stream(
    tmp_path: Path, camera_ns: int, state_ns: int, rate_hz: float, stream: str
) -> None:
    guessed = guess_config([str(bag(tmp_path / "a.mcap", camera_ns, state_ns))])
    assert loaded(guessed, tmp_path).temporal_alignment.rate_hz == rate_hz
    told = f"  guessed     temporal_alignment.rate_hz: {rate_hz:g}, that of {stream} in a.mcap, the slowest of state"
    assert any(line.startswith(told) for line in summary(guessed))


def test_a_video_beside_a_bag_is_a_camera_with_a_rate(tmp_path: Path) -> None:
    bag(tmp_path / "a.mcap")
    write_video(tmp_path / "a.front.mp4", 8)
    guessed = guess_config([str(tmp_path / "a.mcap")])
    assert guessed.rate is not None and "20, that of camera front in a.mcap" in guessed.rate.why


def test_one_rate_is_for_all_sources_or_for_none(tmp_path: Path) -> None:
    bag(tmp_path / "fast/a.mcap")
    bag(tmp_path / "slow/b.mcap", camera_ns=100_000_000)
    two = guess_config([str(tmp_path / "fast"), str(tmp_path / "slow")])
    told = "'b' has 10 Hz and 'a' 50 Hz; curate them apart"
    assert f"  undeclared  temporal_alignment.rate_hz: it is for all sources, and {told}" in list(summary(two))
    assert f"# Undeclared: temporal_alignment.rate_hz: it is for all sources, and {told}." in render(two)
    assert loaded(two, tmp_path).temporal_alignment.rate_hz is None
    write_lerobot_v21(tmp_path / "set", {0: motion(0)}, video=False)
    mixed = guess_config([str(tmp_path / "fast"), str(tmp_path / "set")])
    told = "it is for all sources, and 'set' keeps its own steps; curate bags apart"
    assert f"  undeclared  temporal_alignment.rate_hz: {told}" in list(summary(mixed))
    assert guess_config([str(tmp_path / "set")]).rate is None
