"""From a folder of recordings to a training run by `curate PATH` and `export`; the sample's is the tutorial's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from beam_pipeline.__main__ import main
from tests.exported import ExportRun, export
from tests.lerobot.conftest import LeRobotRead

FOLDERS = {
    "g1": ("lerobot_v21_g1", (), 2),
    "so101": ("lerobot_v30_so101", (), 4),
    "prismax": ("mcap_prismax", ("--videos", "reencode"), 1),
}
"""Recordings -> their folder, flags of the export, and episodes that are on disk."""
PERIOD_NS = 40_000_000
CAMERA = "observation.images.left_camera"


@pytest.fixture(scope="module")
def two_commands(
    robot_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, pytest.CaptureFixture[str]], ExportRun]:
    """What both commands make of some recordings, made once."""
    made: dict[str, ExportRun] = {}

    def run(name: str, capsys: pytest.CaptureFixture[str]) -> ExportRun:
        if name not in made:
            place, flags, _ = FOLDERS[name]
            folder = tmp_path_factory.mktemp(name)
            assert main(["curate", str(robot_data / place), "--output", str(folder / "curated")]) == 0
            made[name] = export(capsys, folder / "curated", folder / "set", *flags)
        return made[name]

    return run


@pytest.mark.parametrize("name", sorted(FOLDERS))
def test_behaviour_cloning_starts_and_its_loss_falls(
    two_commands: Callable[..., ExportRun],
    capsys: pytest.CaptureFixture[str],
    lerobot: Callable[..., str],
    name: str,
) -> None:
    run = two_commands(name, capsys)
    assert run.status == 0, run.err
    assert run.json("meta/info.json")["total_episodes"] == FOLDERS[name][2]
    said = lerobot("-m", "examples.train_bc", run.folder, "--steps", "200")
    losses = [float(line.split()[-1]) for line in said.splitlines() if line.startswith("step")]
    assert len(losses) == 20 and losses[-1] < losses[0] / 2, said


def test_a_bag_s_commands_and_frames_are_those_of_each_step(
    two_commands: Callable[..., ExportRun],
    robot_data: Path,
    capsys: pytest.CaptureFixture[str],
    read_official: Callable[..., LeRobotRead],
) -> None:
    run = two_commands("prismax", capsys)
    read = read_official(run.folder, CAMERA, 191)
    sent: dict[str, tuple[list[int], list[list[float]]]] = {}
    with (robot_data / "mcap_prismax/100.mcap").open("rb") as file:
        for schema, channel, _, content in make_reader(
            file, decoder_factories=[DecoderFactory()]
        ).iter_decoded_messages():
            if schema is not None and schema.name == "sensor_msgs/msg/JointState":
                stamps, positions = sent.setdefault(channel.topic, ([], []))
                stamps.append(content.header.stamp.sec * 10**9 + content.header.stamp.nanosec)
                positions.append(list(content.position))
    first = {topic: stamps[0] for topic, (stamps, _) in sent.items()}
    led = np.array(sent["/robot/arm_left_lead/joint_states"][0])
    steps = (
        max(first["/robot/arm_left_follow/joint_states"], led[0]) + np.arange(len(read.columns["action"])) * PERIOD_NS
    )
    held = np.searchsorted(led, steps, "right") - 1
    wanted = np.hstack([np.array(sent[f"/robot/arm_{side}_lead/joint_states"][1])[held] for side in ("left", "right")])
    np.testing.assert_array_equal(read.columns["action"], wanted.astype(np.float32))
    assert read.said["fps"] == 25 and len(steps) == 957
    raw = robot_data / "mcap_prismax/100/robot.left_camera.color.image_raw.mp4"
    with av.open(str(raw)) as container:
        frames = [(float(f.pts * f.time_base), f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    times = np.array([time for time, _ in frames])
    for index in range(0, len(steps), 191):
        since = (steps[index] - min(first.values())) / 1e9
        nearest = int(np.abs(times - since).argmin())
        shown = read.columns[f"frame/{index}"].astype(float).transpose(1, 2, 0)
        off, elsewhere = (np.abs(shown - frames[at][1]).mean() for at in (nearest, (nearest + 400) % len(frames)))
        assert off < 3 < elsewhere, (index, off, elsewhere)
