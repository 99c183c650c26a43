"""Demonstrations of an arm for the deduplication benchmark: many trials of few tasks, and copies of some of them.

A task is a list of way points in joint space. A trial passes them as people do: the object and the goal lie elsewhere
each time, way points are met within a hand's imprecision, segments take their own time and follow minimum jerk (Flash,
Hogan: The coordination of arm movements, 1985), and the path sways between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
JOINTS = 7
RATE_HZ = 10.0
_WAYS = 6
"""Home, above the object, at it (closes), lifted, above the goal, at it (opens)."""
_CLOSES, _OPENS = 2, 5


@dataclass(frozen=True)
class Closeness:
    """How much trials of one task vary, standard deviations: what makes them hard to tell from copies.

    `place_rad` is what object and goal positions do to a joint, `hand_rad` how exactly a way point is met, `sway_rad`
    how far the path bends between two, `pace` the spread of a segment's duration (of its logarithm).
    """

    place_rad: float = 0.12
    hand_rad: float = 0.02
    sway_rad: float = 0.02
    pace: float = 0.25

    def scaled(self, factor: float) -> Closeness:
        """Trials `factor` times as far apart in space."""
        return Closeness(self.place_rad * factor, self.hand_rad * factor, self.sway_rad * factor, self.pace)


@dataclass(frozen=True)
class Trial:
    """One demonstration: `joints` (T, 7) rad and `gripper` (T, 1) at RATE_HZ; `task` by number."""

    task: int
    joints: Floats
    gripper: Floats
    text: str

    def at(self, places: Floats) -> Trial:
        """The same motion recorded at other places, in fractional steps, linear between steps."""
        both = np.hstack([self.joints, self.gripper])
        found = np.stack([np.interp(places, np.arange(len(both)), column) for column in both.T], axis=1)
        return Trial(self.task, found[:, :JOINTS], found[:, JOINTS:], self.text)


@dataclass(frozen=True)
class Task:
    """Way points (6, 7) rad, how two object and two goal coordinates move them (6, 7, 4), and what is asked for."""

    number: int
    ways: Floats
    moved: Floats
    text: str


_THINGS = ("red cube", "blue cup", "yellow block", "green bowl", "small box", "brush", "carrot", "can")
_PLACES = ("on the plate", "into the drawer", "next to the stove", "on the blue cube", "into the bin")


def make_task(rng: np.random.Generator, number: int) -> Task:
    """A random task; instructions are of one template, as those of published sets are."""
    ways = np.zeros((_WAYS, JOINTS))
    ways[0] = rng.uniform(-0.6, 0.6, JOINTS)
    for way in range(1, _WAYS):
        near = way in (_CLOSES, _CLOSES + 1, _OPENS)
        ways[way] = ways[way - 1] + rng.normal(0, 0.25 if near else 0.6, JOINTS)
    moved = np.zeros((_WAYS, JOINTS, 4))
    moved[1:4, :, :2] = rng.normal(0, 1, (JOINTS, 2))
    moved[4:, :, 2:] = rng.normal(0, 1, (JOINTS, 2))
    thing, place = _THINGS[number % len(_THINGS)], _PLACES[number % len(_PLACES)]
    return Task(number, ways, moved, f"pick up the {thing} and put it {place}")


def make_trial(rng: np.random.Generator, task: Task, how: Closeness) -> Trial:
    """One demonstration of a task."""
    placed = rng.uniform(-1, 1, 4) * np.sqrt(3) * how.place_rad
    ways = task.ways + task.moved @ placed + rng.normal(0, how.hand_rad, task.ways.shape)
    steps = np.maximum(6, np.rint(RATE_HZ * 1.8 * np.exp(rng.normal(0, how.pace, _WAYS - 1)))).astype(int)
    rests = rng.integers(0, 6, _WAYS - 1)
    joints, gripper = [], []
    for segment in range(_WAYS - 1):
        phase = np.arange(steps[segment]) / steps[segment]
        blend = phase**3 * (10 - 15 * phase + 6 * phase**2)
        bow = np.sin(np.pi * np.outer(phase, [1, 2])) @ rng.normal(0, how.sway_rad, (2, JOINTS))
        path = ways[segment] + blend[:, None] * (ways[segment + 1] - ways[segment]) + bow
        joints += [path, np.repeat(ways[segment + 1][None], rests[segment], axis=0)]
        held = _CLOSES <= segment < _OPENS
        gripper.append(np.full(len(path) + rests[segment], 0.0 if held else 1.0))
    shut = np.concatenate(gripper)
    kernel = np.ones(4) / 4  # a gripper takes time to close
    opening = np.convolve(np.pad(shut, 2, "edge"), kernel, "valid")[: len(shut), None]
    return Trial(task.number, np.vstack(joints), opening, task.text)


def rounded(trial: Trial) -> Trial:
    """Through degrees in float32 and back, as an export of another library writes it."""
    degrees = np.rad2deg(trial.joints).astype(np.float32)
    return Trial(trial.task, np.deg2rad(degrees.astype(np.float64)), trial.gripper.astype(np.float32), trial.text)


def cropped(rng: np.random.Generator, trial: Trial, least: float, most: float = 1.0) -> tuple[Trial, Floats]:
    """A window of the steps of which a share in [least, most] is kept; and the places kept."""
    count = len(trial.joints)
    keep = int(np.ceil(count * rng.uniform(least, most)))
    first = int(rng.integers(0, count - keep + 1))
    places = np.arange(first, first + keep, dtype=np.float64)
    return trial.at(places), places


def resampled(rng: np.random.Generator, trial: Trial, ratio: float) -> tuple[Trial, Floats]:
    """The motion at `ratio` times the rate, begun a part of a step later; and the places recorded."""
    places = np.arange(rng.uniform(0, 1), len(trial.joints) - 1, 1 / ratio)
    return trial.at(places), places


def noisy(rng: np.random.Generator, trial: Trial, noise_rad: float) -> Trial:
    """With noise of an encoder on every joint."""
    return Trial(trial.task, trial.joints + rng.normal(0, noise_rad, trial.joints.shape), trial.gripper, trial.text)
