"""HDF5 as Isaac Lab's recorder writes it: a group per demonstration, quaternions w x y z."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from examples.sample.recorded import Recorded
from examples.sample.robot import RATE_HZ, Floats

FILES = ("panda_a", "panda_b")
ENV_NAME = "DemoSift-Cube-Panda-v0"


def write(folder: Path, recorded: Sequence[Recorded]) -> None:
    """Write the demonstrations to one file per name in FILES, each numbered from 0."""
    folder.mkdir(parents=True)
    for name, demos in zip(FILES, split(recorded), strict=True):
        with h5py.File(folder / f"{name}.hdf5", "w") as file:
            data = file.create_group("data")
            data.attrs["total"] = np.int64(sum(len(one.episode.qpos) for one in demos))
            data.attrs["env_args"] = json.dumps({"env_name": ENV_NAME, "type": 2})
            for number, one in enumerate(demos):
                _write_demo(data.create_group(f"demo_{number}"), one)


def split(recorded: Sequence[Recorded]) -> list[Sequence[Recorded]]:
    """The demonstrations by file."""
    half = (len(recorded) + 1) // 2
    return [recorded[:half], recorded[half:]]


def _write_demo(demo: h5py.Group, recorded: Recorded) -> None:
    """`obs` is what the policy saw before each action; `states` is the scene after it, as the recorder has it."""
    episode = recorded.episode
    steps = len(episode.qpos)
    demo.attrs["num_samples"] = np.int64(steps)
    demo.attrs["success"] = np.bool_(True)
    if recorded.instruction is not None:
        demo.attrs["ep_meta"] = json.dumps({"lang": recorded.instruction})
    action = episode.action.copy()
    action[:, 7] = 2 * action[:, 7] - 1  # Isaac Lab's binary gripper action: +1 opens, -1 closes
    tables = {
        "actions": action,
        "obs/actions": np.concatenate([np.zeros((1, 8)), action[:-1]]),
        "obs/joint_pos": episode.position,
        "obs/joint_vel": episode.velocity,
        "obs/eef_pos": episode.tool[:, :3],
        "obs/eef_quat": episode.tool[:, 3:],
        "obs/gripper_pos": episode.position[:, 7:],
        "obs/cube_positions": episode.qpos[:, :3],
        "obs/cube_orientations": episode.qpos[:, 3:7],
    }
    robot, cube = "articulation/robot", "rigid_object/cube_1"
    seen = np.concatenate([episode.qpos, episode.after[None]])
    speeds = np.concatenate([episode.velocity, episode.after_velocity[None]])
    base = np.zeros((steps + 1, 7))
    base[:, 3] = 1.0
    cube_velocity = np.zeros((steps + 1, 6))
    cube_velocity[1:, :3] = np.diff(seen[:, :3], axis=0) * RATE_HZ
    scene: dict[str, Floats] = {
        f"{robot}/joint_position": seen[:, 7:],
        f"{robot}/joint_velocity": speeds,
        f"{robot}/root_pose": base,
        f"{robot}/root_velocity": np.zeros((steps + 1, 6)),
        f"{cube}/root_pose": seen[:, :7],
        f"{cube}/root_velocity": cube_velocity,
    }
    for name, values in scene.items():
        tables[f"initial_state/{name}"] = values[:1]
        tables[f"states/{name}"] = values[1:]
    for name, values in sorted(tables.items()):
        demo.create_dataset(name, data=values.astype(np.float32))
