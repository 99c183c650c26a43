"""One small source of each format that is read from an object store, written without any code of the project."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.aloha_files import write_aloha
from tests.bag_files import Message, header, joints, jpeg, write_mcap
from tests.factories import motion, rlds_example, write_isaac, write_lerobot_v21, write_rlds, write_video
from tests.rosbag_files import write_joints

FOLDERS = ("aloha", "bags", "isaac", "lerobot", "rlds", "video")


def write_sample(folder: Path) -> None:
    """A folder per format."""
    write_isaac(folder / "isaac/demos.hdf5", {0: motion(1), 3: motion(2)})
    write_aloha(folder / "aloha/episode_0.hdf5", steps=20)
    write_lerobot_v21(folder / "lerobot", {0: motion(3), 1: motion(4)})
    write_rlds(folder / "rlds/1.0.0", [[rlds_example(5), rlds_example(6)]])
    write_joints(folder / "bags/old.bag", 60)
    seen = joints("/joint_states", np.asarray(motion(7, 40, 3), float))
    pictures = []
    for index, message in enumerate(seen):
        content = {"header": header(message.stamp_ns), "format": "jpeg", "data": jpeg(5 * index)}
        pictures.append(Message("/wrist/compressed", "sensor_msgs/msg/CompressedImage", message.stamp_ns, content))
    both = [one for pair in zip(seen, pictures, strict=True) for one in pair]
    write_mcap(folder / "bags/new.mcap", both)
    write_video(folder / "video/pick.mp4", 40)
    rows = "".join(f"{index / 20},{0.01 * index}\n" for index in range(40))
    (folder / "video/pick.csv").write_text("timestamp,observation.state[0]\n" + rows, encoding="utf-8")
