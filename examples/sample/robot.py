"""The simulated Panda: its MuJoCo model, published limits, and inverse kinematics for a gripper that points down."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RATE_HZ = 20.0
JOINTS = tuple(f"panda_joint{i}" for i in range(1, 8))
FINGERS = ("panda_finger_joint1", "panda_finger_joint2")
Q_MIN_RAD = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
Q_MAX_RAD = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
DQ_MAX_RAD_S = np.array([2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61])
"""The manufacturer's limits, the same as in panda.urdf."""
HOME_RAD = np.array([0.0, -0.3, 0.0, -2.35, 0.0, 2.05, 0.785])
CUBE = slice(0, 7)
ARM = slice(7, 14)
HAND = slice(14, 16)
FINGER_OPEN_M = 0.0385
FINGER_CLOSED_M = 0.001
CUBE_HALF_M = 0.015
FOLDER = Path(__file__).parent


def load_model() -> mujoco.MjModel:
    """The robot, a table and a cube; qpos: cube x y z qw qx qy qz, seven joints (rad), two fingers (m)."""
    return mujoco.MjModel.from_xml_path(str(FOLDER / "panda.xml"))


def pointing_down(yaw_rad: float) -> Floats:
    """(3, 3) rotation of a gripper that points down; its fingers close along the world's y axis at yaw 0."""
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.array([[c, s, 0.0], [s, -c, 0.0], [0.0, 0.0, -1.0]])


def solve(
    model: mujoco.MjModel, data: mujoco.MjData, start: Floats, position: Floats, rotation: Floats, rounds: int
) -> Floats:
    """Joint angles (7,) rad that bring the tool centre point to a pose, by damped least squares from `start`.

    The null space pulls towards HOME_RAD. Buss, "Introduction to inverse kinematics" (2004), eq. 11.
    """
    q = start.copy()
    site = model.site("tcp").id
    jacobian = np.zeros((6, model.nv))
    twist = np.zeros(6)
    wanted, now, back, error = np.zeros(4), np.zeros(4), np.zeros(4), np.zeros(4)
    mujoco.mju_mat2Quat(wanted, rotation.reshape(-1))
    for _ in range(rounds):
        data.qpos[ARM] = q
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], site)
        twist[:3] = position - data.site_xpos[site]
        mujoco.mju_mat2Quat(now, data.site_xmat[site])
        mujoco.mju_negQuat(back, now)
        mujoco.mju_mulQuat(error, wanted, back)
        mujoco.mju_quat2Vel(twist[3:], error, 1.0)
        arm = jacobian[:, 6:13]
        inverse = arm.T @ np.linalg.inv(arm @ arm.T + 1e-4 * np.eye(6))
        q = q + inverse @ twist + 0.05 * (np.eye(7) - inverse @ arm) @ (HOME_RAD - q)
        q = np.clip(q, Q_MIN_RAD + 0.05, Q_MAX_RAD - 0.05)
    return q


def tool_poses(model: mujoco.MjModel, qpos: Floats) -> Floats:
    """(T, 7) tool centre point in the base frame: x y z in m, quaternion w x y z without sign flips."""
    data = mujoco.MjData(model)
    site = model.site("tcp").id
    poses = np.zeros((len(qpos), 7))
    for t, q in enumerate(qpos):
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        poses[t, :3] = data.site_xpos[site]
        mujoco.mju_mat2Quat(poses[t, 3:], data.site_xmat[site])
        if t and poses[t, 3:] @ poses[t - 1, 3:] < 0:
            poses[t, 3:] *= -1
    return poses
