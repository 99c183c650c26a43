"""What is wrong with the sample, on purpose: where each flaw goes, and how a sound episode is spoilt."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from examples.sample.draw import CAMERAS, Frames
from examples.sample.robot import (
    DQ_MAX_RAD_S,
    JOINTS,
    Q_MAX_RAD,
    Q_MIN_RAD,
    RATE_HZ,
    Floats,
    load_model,
    tool_poses,
)
from examples.sample.simulate import Simulated

RLDS, ISAAC, LEROBOT = "sample_rlds", "sample_isaac", "sample_lerobot"
LEAST_EPISODES = 8
"""Fewest whole episodes per format that hold every flaw and a sound episode beside them."""
SWEEPING_JOINTS = (0, 4, 6)
"""Joints whose excursion keeps a raised hand clear of the table."""
RAMP = 0.5
CALM = 0.2
CALM_RAMP = 0.9
"""Shares of the limit: the speed on the way to an excursion, the joint's own before it, and at most both together."""
CLEARANCE_M = 0.1
AT_REST_RAD_S = 0.05
"""Largest joint speed of an arm that rests while it grasps or waits."""


@dataclass(frozen=True)
class FlawSizes:
    """How large each planted flaw is.

    `speed_factor`: joint speed over its limit. `speed_frames`: steps out, and again back, at that speed.
    `frozen_share`: part of the steps at which the arm moves through which the camera repeats one frame.
    `clock_swap_steps`: how far apart the two swapped timestamps are. `kept_share`: part of the cut record's bytes that
    is left.
    """

    speed_factor: float = 1.5
    speed_frames: int = 3
    frozen_share: float = 0.7
    clock_swap_steps: int = 1
    kept_share: float = 0.5

    def __post_init__(self) -> None:
        bounds = {
            "speed_factor": (1.2, 2.0),
            "speed_frames": (2, 6),
            "frozen_share": (0.6, 0.95),
            "clock_swap_steps": (1, 10),
            "kept_share": (0.05, 0.95),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} is {getattr(self, name)}; need {low} <= {name} <= {high}")


@dataclass(frozen=True)
class Speeding:
    """A joint driven over its limit; frames t with |q_t - q_(t-1)| * rate over 1.0 and over 1.1 times `limit_rad_s`."""

    joint: str
    limit_rad_s: float
    over_limit: tuple[int, ...]
    over_110_percent: tuple[int, ...]
    peak_rad_s: float


@dataclass(frozen=True)
class Frozen:
    """A camera that shows its frame `first` again up to and including `last`."""

    camera: str
    first: int
    last: int


@dataclass(frozen=True)
class Slot:
    """One episode's place in a dataset and what is wrong with it there; `number` counts from 0 in its source."""

    source: str
    number: int
    simulated: int
    speeding: bool = False
    frozen: Frozen | None = None
    no_instruction: bool = False
    swapped: tuple[int, int] | None = None
    cut: bool = False


@dataclass(frozen=True)
class Plan:
    """Every slot, and the groups of slots that hold the same episode."""

    slots: tuple[Slot, ...]
    duplicates: tuple[tuple[tuple[str, int], ...], ...]


def count_simulated(episodes: int) -> int:
    """Distinct episodes behind three sources of `episodes` each, one lost to the cut and four that are repeats."""
    if episodes < LEAST_EPISODES:
        raise ValueError(f"episodes is {episodes}; the flaws need at least {LEAST_EPISODES} per format")
    return 3 * episodes + 1 - 4


def plan(pool: list[Simulated], episodes: int, seed: int, sizes: FlawSizes) -> Plan:
    """Deal the simulated episodes out to the three sources and choose where each flaw goes.

    One episode is in all three sources, one in two, one twice in RLDS; no other flaw touches those.
    """
    rng = np.random.default_rng([seed, 1_000_003])
    lengths = {RLDS: episodes + 1, ISAAC: episodes, LEROBOT: episodes}
    free = {source: [int(n) for n in rng.permutation(episodes)] for source in lengths}
    sharing = [(RLDS, ISAAC), (RLDS, LEROBOT), (ISAAC, LEROBOT)][int(rng.integers(3))]
    duplicates = tuple(
        tuple(sorted((source, free[source].pop()) for source in group))
        for group in ((RLDS, ISAAC, LEROBOT), sharing, (RLDS, RLDS))
    )
    order = iter(int(n) for n in rng.permutation(len(pool)))
    simulated = {}
    for group in duplicates:
        which = next(order)
        simulated.update(dict.fromkeys(group, which))
    for source, count in lengths.items():
        for number in range(count):
            if (source, number) not in simulated:
                simulated[source, number] = next(order)
    slots = {place: Slot(*place, which) for place, which in sorted(simulated.items())}
    slots[RLDS, episodes] = replace(slots[RLDS, episodes], cut=True)

    def take(sources: tuple[str, ...], fits: NDArray[np.bool_] | None = None) -> tuple[str, int]:
        places = [(s, n) for s in sources for n in sorted(free[s]) if fits is None or fits[simulated[s, n]]]
        if not places:
            raise RuntimeError(
                f"seed {seed} leaves no episode for a flaw of {sizes}; use another seed or more episodes"
            )
        source, number = places[int(rng.integers(len(places)))]
        free[source].remove(number)
        return source, number

    place = take((LEROBOT,))
    steps = len(pool[simulated[place]].qpos)
    first = int(rng.integers(steps // 4, 3 * steps // 4))
    slots[place] = replace(slots[place], swapped=(first, first + sizes.clock_swap_steps))
    place = take((RLDS, ISAAC, LEROBOT), np.array([bool(speed_windows(e, sizes)) for e in pool]))
    slots[place] = replace(slots[place], speeding=True)
    place = take((RLDS, LEROBOT))
    slots[place] = replace(slots[place], no_instruction=True)
    place = take((RLDS, LEROBOT))
    windows = freeze_windows(pool[simulated[place]], sizes)
    first, last = windows[int(rng.integers(len(windows)))]
    slots[place] = replace(slots[place], frozen=Frozen(str(rng.choice(CAMERAS)), first, last))
    return Plan(tuple(slots.values()), duplicates)


def freeze_windows(episode: Simulated, sizes: FlawSizes) -> list[tuple[int, int]]:
    """Every (first, last) that holds `frozen_share` of the steps at which the arm moves, and begins and ends in motion.

    Pictures of an arm at rest are alike without any flaw: they neither count nor lie at an end.
    """
    speed = np.abs(np.diff(episode.position[:, :7], axis=0, prepend=np.nan)).max(axis=1) * RATE_HZ
    moving = np.flatnonzero(speed > AT_REST_RAD_S)
    held = int(np.ceil(sizes.frozen_share * len(moving)))
    return [
        (int(moving[k]), int(moving[k + held])) for k in range(len(moving) - held) if moving[k + 1] == moving[k] + 1
    ]


def freeze(frames: dict[str, Frames], frozen: Frozen | None) -> dict[str, Frames]:
    """The episode's pictures with one camera stuck."""
    if frozen is None:
        return frames
    held = frames[frozen.camera].copy()
    held[frozen.first : frozen.last + 1] = held[frozen.first]
    return frames | {frozen.camera: held}


def speed_profile(sizes: FlawSizes) -> Floats:
    """Velocities, as shares of the limit, of an excursion out and back that ends where it began."""
    out = np.full(sizes.speed_frames, sizes.speed_factor)
    there = np.concatenate([[RAMP], out, [RAMP]])
    return np.concatenate([there, -there])


def _added_velocity(own: Floats, profile: Floats) -> Floats:
    """What to add to a joint's own velocity: all of it undone in the fast frames, made up for in the ramps."""
    fast = np.abs(profile) == np.abs(profile).max()
    extra = profile - np.where(fast, own, 0.0)
    extra[~fast] -= extra.sum() / (~fast).sum()
    return extra


def speed_windows(episode: Simulated, sizes: FlawSizes) -> list[tuple[int, int, int]]:
    """(joint, first step, sign) where an excursion fits: hand raised, cube at rest, the joint itself nearly still."""
    profile = speed_profile(sizes)
    joints = episode.position[:, :7]
    velocity = np.diff(joints, axis=0, prepend=joints[:1]) * RATE_HZ
    cube_still = np.abs(np.diff(episode.qpos[:, :3], axis=0, prepend=episode.qpos[:1, :3])).max(axis=1) < 1e-4
    clear = cube_still & (episode.tool[:, 2] > CLEARANCE_M)
    windows = []
    for joint in SWEEPING_JOINTS:
        limit = DQ_MAX_RAD_S[joint]
        calm = clear & (np.abs(velocity[:, joint]) < CALM * limit)
        for first in range(1, len(joints) - len(profile) - 1):
            span = slice(first, first + len(profile))
            if not calm[span].all():
                continue
            for sign in (1, -1):
                own = velocity[span, joint]
                extra = _added_velocity(own, sign * profile * limit)
                moved = joints[span, joint] + np.cumsum(extra) / RATE_HZ
                within = moved.max() < Q_MAX_RAD[joint] - 0.1 and moved.min() > Q_MIN_RAD[joint] + 0.1
                slow = np.abs(own + extra)[np.abs(profile) == RAMP]
                if within and slow.max() < CALM_RAMP * limit:
                    windows.append((joint, first, sign))
    return windows


def drive_too_fast(episode: Simulated, sizes: FlawSizes, seed: int) -> tuple[Simulated, Speeding]:
    """The episode with one joint swung out and back at exactly `speed_factor` times its limit.

    The arm's own slow motion is undone in the fast frames and made up for in the slower ramps beside them; tool
    pose, velocity (backward difference in the window) and action follow.
    """
    windows = speed_windows(episode, sizes)
    joint, first, sign = windows[int(np.random.default_rng([seed, 2_000_003]).integers(len(windows)))]
    limit = float(DQ_MAX_RAD_S[joint])
    profile = sign * speed_profile(sizes) * limit
    span = slice(first, first + len(profile))
    joints = episode.position[:, :7]
    own = (np.diff(joints[:, joint], prepend=joints[0, joint]) * RATE_HZ)[span]
    extra = _added_velocity(own, profile)
    bump = np.zeros(len(joints) + 1)
    bump[span] = np.cumsum(extra) / RATE_HZ
    qpos, velocity, action = episode.qpos.copy(), episode.velocity.copy(), episode.action.copy()
    qpos[:, 7 + joint] += bump[:-1]
    action[:, joint] += bump[1:]
    speed = np.diff(qpos[:, 7 + joint], prepend=qpos[0, 7 + joint]) * RATE_HZ
    velocity[span, joint] = speed[span]
    spoilt = replace(episode, qpos=qpos, velocity=velocity, action=action, tool=tool_poses(load_model(), qpos))
    over = [tuple(int(t) for t in np.flatnonzero(np.abs(speed) > share * limit)) for share in (1.0, 1.1)]
    return spoilt, Speeding(JOINTS[joint], limit, over[0], over[1], float(np.abs(speed).max()))
