"""What the simulated robot is asked to do: each task is a path of the tool with the gripper's opening along it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from examples.sample.robot import CUBE_HALF_M, Floats

COLOURS = ("red", "green", "blue", "yellow")
KINDS = ("pick", "place left", "place right", "push", "wave")
ABOVE_M = 0.14
GRASP_M = 0.012


@dataclass(frozen=True)
class Leg:
    """A straight, minimum-jerk move of the tool to `position` (3,) m, then `dwell_s` for the gripper to follow."""

    position: Floats
    yaw_rad: float
    opening: float
    speed_m_s: float
    dwell_s: float = 0.0


@dataclass(frozen=True)
class Task:
    """One episode's job: where the cube and the tool start, the legs, and what the cube must have done at the end."""

    kind: str
    instruction: str
    colour: str
    cube: Floats
    cube_yaw_rad: float
    start: Floats
    start_opening: float
    legs: tuple[Leg, ...]


def draw_task(kind: str, rng: np.random.Generator) -> Task:
    """A task of a kind with goals, speeds, colour and starting pose drawn at random."""
    colour = str(rng.choice(COLOURS))
    cube = np.array([rng.uniform(0.38, 0.6), rng.uniform(-0.18, 0.18), CUBE_HALF_M])
    yaw = float(rng.uniform(-0.6, 0.6))
    start = np.array([rng.uniform(0.35, 0.55), rng.uniform(-0.2, 0.2), rng.uniform(0.28, 0.4)])
    speed = float(rng.uniform(0.22, 0.32))
    above = cube + np.array([0.0, 0.0, ABOVE_M])
    grasp = np.array([cube[0], cube[1], GRASP_M])
    opening = 1.0
    if kind == "pick":
        text = f"pick up the {colour} cube"
        lifted = cube + np.array([rng.uniform(-0.04, 0.04), rng.uniform(-0.04, 0.04), rng.uniform(0.18, 0.28)])
        legs = (*_take(above, grasp, yaw, speed), Leg(lifted, yaw, 0.0, speed, 0.15))
    elif kind in ("place left", "place right"):
        side = 1.0 if kind == "place left" else -1.0
        text = f"place the {colour} cube on the {kind.split()[1]}"
        goal = np.array([rng.uniform(0.4, 0.58), side * rng.uniform(0.24, 0.34), GRASP_M + 0.002])
        over = goal + np.array([0.0, 0.0, ABOVE_M])
        legs = (
            *_take(above, grasp, yaw, speed),
            Leg(above, yaw, 0.0, speed),
            Leg(over, yaw, 0.0, speed * 1.4),
            Leg(goal, yaw, 0.0, speed, 0.1),
            Leg(goal, yaw, 1.0, speed, 0.5),
            Leg(over, yaw, 1.0, speed, 0.1),
        )
    elif kind == "push":
        text = f"push the {colour} cube forward"
        opening, yaw = 0.0, 0.0
        behind = cube - np.array([0.07, 0.0, -0.006])
        ahead = behind + np.array([rng.uniform(0.14, 0.2), 0.0, 0.0])
        legs = (
            Leg(behind + np.array([0.0, 0.0, 0.12]), yaw, 0.0, speed),
            Leg(behind, yaw, 0.0, speed * 0.8),
            Leg(ahead, yaw, 0.0, speed * 0.6),
            Leg(ahead + np.array([-0.03, 0.0, 0.14]), yaw, 0.0, speed, 0.1),
        )
    elif kind == "wave":
        text = "wave the hand left and right"
        reach = rng.uniform(0.12, 0.2)
        height = rng.uniform(0.3, 0.42)
        stops = [(0.0, 1), (0.03, -1), (-0.03, 1), (0.02, -1)]
        legs = tuple(
            Leg(np.array([start[0] + dx, sign * reach * rng.uniform(0.85, 1.1), height]), yaw, 1.0, speed * 1.5)
            for dx, sign in stops
        )
    else:
        raise ValueError(f"task kind {kind!r} is unknown; use one of {KINDS}")
    cube_yaw = yaw if kind != "wave" else float(rng.uniform(-0.6, 0.6))
    return Task(kind, text, colour, cube, cube_yaw, start, opening, legs)


def _take(above: Floats, grasp: Floats, yaw_rad: float, speed_m_s: float) -> tuple[Leg, ...]:
    return (
        Leg(above, yaw_rad, 1.0, speed_m_s),
        Leg(grasp, yaw_rad, 1.0, speed_m_s * 0.8),
        Leg(grasp, yaw_rad, 0.0, speed_m_s, 0.5),
    )


def succeeded(kind: str, cube: Floats) -> bool:
    """Whether the cube's path (T, 3) m is what the task asked for."""
    start, end = cube[0], cube[-1]
    if kind == "pick":
        return bool(end[2] > 0.1)
    if kind == "place left":
        return bool(end[1] > 0.2 and end[2] < 0.03 and cube[:, 2].max() > 0.08)
    if kind == "place right":
        return bool(end[1] < -0.2 and end[2] < 0.03 and cube[:, 2].max() > 0.08)
    if kind == "push":
        return bool(end[0] - start[0] > 0.03 and cube[:, 2].max() < 0.05)
    return bool(np.abs(end - start).max() < 0.005)
