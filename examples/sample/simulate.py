"""Physics: minimum-jerk tool paths, inverse kinematics, position servos in MuJoCo, recorded at 20 Hz."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import mujoco
import numpy as np

from examples.sample.robot import (
    ARM,
    CUBE,
    DQ_MAX_RAD_S,
    FINGER_CLOSED_M,
    FINGER_OPEN_M,
    HAND,
    HOME_RAD,
    Q_MAX_RAD,
    Q_MIN_RAD,
    RATE_HZ,
    Floats,
    load_model,
    pointing_down,
    solve,
    tool_poses,
)
from examples.sample.tasks import KINDS, Leg, Task, draw_task, succeeded

MARGIN = 0.75
"""Share of a joint's speed limit that an episode without a planted violation may use."""
GRIPPER_SPEED = 4.0
"""Largest change of the gripper's opening per second, 0 closed to 1 open."""
ATTEMPTS = 20


@dataclass(frozen=True)
class Simulated:
    """One simulated episode of T steps at 20 Hz; row t of every array is what step t sees, before its action.

    `qpos` (T, 16) is MuJoCo's: cube pose, 7 joints (rad), 2 fingers (m). `velocity` (T, 9) rad/s, m/s.
    `action` (T, 8): absolute joint targets (rad), gripper 0 closed to 1 open. `reward` (T,) results from the
    row's action. `tool` (T, 7) x y z, quaternion w x y z. `after` (16,), `after_velocity` (9,) follow the last action.
    """

    index: int
    kind: str
    instruction: str
    colour: str
    qpos: Floats
    velocity: Floats
    action: Floats
    reward: Floats
    tool: Floats
    after: Floats
    after_velocity: Floats

    @property
    def position(self) -> Floats:
        """(T, 9) joints in rad, fingers in m."""
        return self.qpos[:, 7:]

    @property
    def times_s(self) -> Floats:
        """(T,) s since the first step."""
        return np.arange(len(self.qpos)) / RATE_HZ


def minimum_jerk(steps: int) -> Floats:
    """(steps,) progress in (0, 1] of a minimum-jerk move. Flash and Hogan (1985)."""
    s = np.arange(1, steps + 1) / steps
    return 10 * s**3 - 15 * s**4 + 6 * s**5


def tool_path(task: Task) -> tuple[Floats, Floats, Floats]:
    """Tool position (T, 3) m, yaw (T,) rad and opening (T,) at 20 Hz, the start pose included."""
    points, yaws, openings = [task.start[None]], [np.zeros(1)], [np.full(1, task.start_opening)]
    here, yaw, opening = task.start, 0.0, task.start_opening
    for leg in task.legs:
        distance = float(np.linalg.norm(leg.position - here))
        moving = round(max(distance / leg.speed_m_s, abs(leg.yaw_rad - yaw) / 1.2) * RATE_HZ)
        progress = minimum_jerk(max(moving, 2)) if distance > 1e-6 else np.zeros(0)
        waiting = np.ones(round(leg.dwell_s * RATE_HZ))
        progress = np.concatenate([progress, waiting])
        points.append(here + progress[:, None] * (leg.position - here))
        yaws.append(yaw + progress * (leg.yaw_rad - yaw))
        openings.append(_openings(opening, leg, len(progress)))
        here, yaw, opening = leg.position, leg.yaw_rad, leg.opening
    return np.concatenate(points), np.concatenate(yaws), np.concatenate(openings)


def _openings(before: float, leg: Leg, steps: int) -> Floats:
    travel = np.arange(1, steps + 1) * GRIPPER_SPEED / RATE_HZ
    way = leg.opening - before
    openings: Floats = before + np.sign(way) * np.minimum(travel, abs(way))
    return openings


def joint_path(model: mujoco.MjModel, positions: Floats, yaws: Floats) -> Floats:
    """(T, 7) rad that follow the tool's path, each step solved from the one before."""
    data = mujoco.MjData(model)
    q = solve(model, data, HOME_RAD, positions[0], pointing_down(yaws[0]), 60)
    path = np.zeros((len(positions), 7))
    for t, (position, yaw) in enumerate(zip(positions, yaws, strict=True)):
        q = path[t] = solve(model, data, q, position, pointing_down(float(yaw)), 3)
    return path


def run(model: mujoco.MjModel, task: Task, index: int) -> Simulated | None:
    """Simulate a task; None where it failed or came near a limit, so that the caller draws another."""
    positions, yaws, openings = tool_path(task)
    joints = joint_path(model, positions, yaws)
    fingers = FINGER_CLOSED_M + openings * (FINGER_OPEN_M - FINGER_CLOSED_M)
    targets = np.column_stack([joints, fingers, fingers])
    data = mujoco.MjData(model)
    data.qpos[CUBE] = [*task.cube, np.cos(task.cube_yaw_rad / 2), 0, 0, np.sin(task.cube_yaw_rad / 2)]
    data.qpos[ARM], data.qpos[HAND] = joints[0], fingers[0]
    substeps = round(1 / RATE_HZ / model.opt.timestep)
    rows, speeds = [data.qpos.copy()], [data.qvel[6:].copy()]
    targets = np.concatenate([targets, targets[-1:]])
    for before, after in pairwise(targets):
        for k in range(1, substeps + 1):
            data.ctrl[:] = before + (after - before) * (k / substeps)
            mujoco.mj_step(model, data)
        rows.append(data.qpos.copy())
        speeds.append(data.qvel[6:].copy())
    qpos, velocity = np.array(rows), np.array(speeds)
    speed = np.abs(np.diff(qpos[:, ARM], axis=0)) * RATE_HZ
    within = np.all(qpos[:, ARM] > Q_MIN_RAD + 0.02) and np.all(qpos[:, ARM] < Q_MAX_RAD - 0.02)
    calm = np.all(speed < MARGIN * DQ_MAX_RAD_S) and np.all(np.abs(velocity[:, :7]) < MARGIN * DQ_MAX_RAD_S)
    if not (within and calm and succeeded(task.kind, qpos[:-1, :3])):
        return None
    steps = len(qpos) - 1
    action = np.column_stack([targets[1:, :7], np.concatenate([openings[1:], openings[-1:]])])
    reward = np.zeros(steps)
    reward[steps - 2] = 1.0
    seen = qpos[:-1]
    tool = tool_poses(model, seen)
    return Simulated(
        index,
        task.kind,
        task.instruction,
        task.colour,
        seen,
        velocity[:-1],
        action,
        reward,
        tool,
        qpos[-1],
        velocity[-1],
    )


def simulate(count: int, seed: int) -> list[Simulated]:
    """`count` distinct successful episodes, task kinds in turn; the same for the same seed.

    Raises RuntimeError where a task fails ATTEMPTS times in a row.
    """
    model = load_model()
    episodes = []
    for index in range(count):
        kind = KINDS[index % len(KINDS)]
        rng = np.random.default_rng([seed, index])
        attempts = (run(model, draw_task(kind, rng), index) for _ in range(ATTEMPTS))
        episode = next((e for e in attempts if e is not None), None)
        if episode is None:
            raise RuntimeError(
                f"task {kind!r} of episode {index} failed {ATTEMPTS} times with seed {seed}; use another seed"
            )
        episodes.append(episode)
    return episodes
