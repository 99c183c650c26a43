"""DataQualityScorer: integrity of values and frames, and what ranks episodes: smoothness, idling, tracking.

Smoothness is taken of the whole episode, not yet of its phases, and every measure here moves with length: compare
episodes of one task and of like length.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from transforms.arrays import Floats, column_matrix, times_ns
from transforms.episode import Episode, Finding
from transforms.frames import FrameParams, ReadImages, Seen, look
from transforms.measure import Flags, Times, in_transitions, longest_run, measured, not_run, transition_starts
from transforms.media import MediaParams, limit_shared_decoder
from transforms.motion import Motion, MotionParams, measure_motion
from transforms.schema import (
    ACTION,
    ACTION_GRIPPER,
    END_EFFECTOR_POSE,
    GRIPPER,
    JOINT_POSITION,
    JOINT_VELOCITY,
    STATE,
)
from transforms.smoothness import MIN_SAMPLES, ldlj, sparc, uniform
from transforms.stage import EpisodeStage

NAME = "quality"
VALUES = (STATE, ACTION, JOINT_POSITION, JOINT_VELOCITY, END_EFFECTOR_POSE, GRIPPER, ACTION_GRIPPER)


@dataclass(frozen=True)
class DataQualityParams:
    """Thresholds of what is measured; whether an episode passes is `select.rules`' to say.

    A gripper counts as closed below `gripper_closed` and open above `gripper_open`. Tracking is the best over lags of
    0 to `max_lag_steps`.
    """

    frames: FrameParams = field(default_factory=FrameParams)
    motion: MotionParams = field(default_factory=MotionParams)
    gripper_closed: float = 0.35
    gripper_open: float = 0.65
    max_lag_steps: int = 10

    def __post_init__(self) -> None:
        if not 0 < self.gripper_closed < self.gripper_open < 1:
            limits = f"{self.gripper_closed} and {self.gripper_open}"
            raise ValueError(f"gripper_closed and gripper_open are {limits}; need 0 < closed < open < 1")
        if self.max_lag_steps < 0:
            raise ValueError(f"max_lag_steps is {self.max_lag_steps}; need 0 or more")


def nan_finding(episode: Episode, times: Times | None) -> Finding:
    """`integrity.nan`: how many values of the transitions' states, actions and canonical columns are not finite.

    States count at every step that is s or s' of a transition, commands where one starts: the action of a last step
    (RLDS leaves it undefined), and steps that a stream's data does not reach, enter no training batch.
    """
    counts: dict[str, int] = {}
    rows: Flags = np.zeros(episode.steps.num_rows, bool)
    seen = False
    observed, acted = in_transitions(episode.steps), transition_starts(episode.steps)
    for name in VALUES:
        values = column_matrix(episode.steps, name)
        if values is None:
            continue
        seen = True
        used = acted if name in (ACTION, ACTION_GRIPPER) else observed
        bad = ~np.isfinite(values) & used[:, None]
        if bad.any():
            counts[name] = int(bad.sum())
            rows |= bad.any(axis=1)
    if not seen:
        return not_run(NAME, "integrity.nan", f"none of {', '.join(VALUES)} is there", "count")
    detail = ", ".join(f"{name}: {count}" for name, count in counts.items())
    span = np.flatnonzero(rows)
    frames = (int(span[0]), int(span[-1])) if len(span) else None
    return measured(NAME, "integrity.nan", sum(counts.values()), "count", frames, times, detail)


def smoothness_findings(motion: Motion | str, times: Times | None) -> list[Finding]:
    """`quality.sparc` and `quality.ldlj` of the whole episode's speed profile."""
    checks = ("quality.sparc", "quality.ldlj")
    if isinstance(motion, str):
        return [not_run(NAME, check, motion) for check in checks]
    if motion.speed is None or times is None:
        reason = "no joints or end-effector pose with declared units and time"
        return [not_run(NAME, check, reason) for check in checks]
    profile, rate_hz = uniform(motion.speed, times)
    if len(profile) < MIN_SAMPLES or not profile.any():
        reason = f"{len(profile)} samples of speed, or no movement; need {MIN_SAMPLES}"
        return [not_run(NAME, check, reason) for check in checks]
    detail = f"whole episode, {motion.basis} at {rate_hz:.6g} Hz"
    values = zip(checks, (sparc(profile, rate_hz), ldlj(profile, rate_hz)), strict=True)
    return [
        measured(NAME, check, value, "1", detail=detail)
        if np.isfinite(value)
        else not_run(NAME, check, "the profile's spectrum or jerk is empty")
        for check, value in values
    ]


def idle_findings(motion: Motion | str, times: Times | None) -> list[Finding]:
    """`quality.idle_fraction`, share of the steps into which nothing moves, and `quality.longest_pause_s`."""
    checks = ("quality.idle_fraction", "quality.longest_pause_s")
    if isinstance(motion, str) or not motion.known.any():
        reason = motion if isinstance(motion, str) else "no two consecutive steps are finite"
        return [not_run(NAME, check, reason) for check in checks]
    share = motion.still.sum() / motion.known.sum()
    found = [measured(NAME, checks[0], share, "fraction", detail=f"by {motion.basis}")]
    if times is None:
        return [*found, not_run(NAME, checks[1], "no timestamps: declare `rate_hz` of the embodiment", "s")]
    pause = longest_run(motion.still)
    if pause is None:
        return [*found, measured(NAME, checks[1], 0.0, "s")]
    start = max(0, pause[0] - 1)  # a still step repeats the one before it: the pause begins there
    seconds = float(times[pause[1]] - times[start]) / 1e9
    return [*found, measured(NAME, checks[1], seconds, "s", (start, pause[1]), times)]


def count_flips(opening: Floats, closed: float, opened: float) -> int:
    """Changes between closed and open of (T,) openings; what lies between the two thresholds keeps the last state."""
    state = np.where(opening > opened, 1, np.where(opening < closed, -1, 0))
    decided = state[state != 0]
    return int(np.count_nonzero(np.diff(decided)))


def gripper_finding(episode: Episode, params: DataQualityParams) -> Finding:
    """`quality.gripper_flips`: of the commanded opening where there is one, else of the measured."""
    for name in (ACTION_GRIPPER, GRIPPER):
        values = column_matrix(episode.steps, name)
        if values is not None and np.isfinite(values).any():
            flips = count_flips(values[np.isfinite(values[:, 0]), 0], params.gripper_closed, params.gripper_open)
            return measured(NAME, "quality.gripper_flips", flips, "count", detail=f"by {name}")
    return not_run(NAME, "quality.gripper_flips", "no gripper is declared", "count")


def tracking_residual(action: Floats, state: Floats, max_lag: int) -> tuple[float, int]:
    """Smallest root mean square of action[t] - state[t + lag], in ranges of each element, and its lag in steps.

    action, state: (T, D). The range is the larger of both. Elements of which either never moves do not count: a
    constant command, such as a hand held shut beyond its stop, is not tracked. NaN where none counts.
    """
    commanded, reached = (np.nanmax(x, axis=0) - np.nanmin(x, axis=0) for x in (action, state))
    moved = (commanded > 0) & (reached > 0)
    spread = np.fmax(commanded, reached)
    best, at = float("nan"), 0
    for lag in range(min(max_lag, len(state) - 2) + 1):
        error = (action[: len(action) - lag] - state[lag:])[:, moved] / spread[moved]
        error = error[np.isfinite(error)]
        value = float(np.sqrt(np.mean(error**2))) if error.size else float("nan")
        if np.isfinite(value) and not value >= best:
            best, at = value, lag
    return best, at


def tracking_finding(episode: Episode, params: DataQualityParams) -> Finding:
    """`quality.action_state_residual`: how far the state stays from absolute joint commands, at the best lag."""
    check = "quality.action_state_residual"
    kind = episode.conventions.get("action_kind", "unknown")
    if kind != "absolute_joint":
        return not_run(NAME, check, f"the action is declared as {kind}, not absolute_joint", "range")
    action, state = column_matrix(episode.steps, ACTION), column_matrix(episode.steps, STATE)
    if action is None or state is None or action.shape != state.shape or len(state) < 2:
        return not_run(NAME, check, "action and state do not have the same elements", "range")
    if not (np.isfinite(state).any(axis=0) & np.isfinite(action).any(axis=0)).all():
        return not_run(NAME, check, "an element of the state or the action is never finite", "range")
    residual, lag = tracking_residual(action, state, params.max_lag_steps)
    if not np.isfinite(residual):
        return not_run(NAME, check, "no element of both state and action moves", "range")
    return measured(NAME, check, residual, "range", detail=f"at a lag of {lag} steps")


def score(episode: Episode, read_images: ReadImages, params: DataQualityParams) -> Seen:
    """Every quality finding of one episode, and its frames' hashes."""
    times = times_ns(episode.steps)
    motion = measure_motion(episode, params.motion)
    seen = look(episode, motion, read_images, params.frames)
    found = [
        nan_finding(episode, times),
        *seen.findings,
        *smoothness_findings(motion, times),
        *idle_findings(motion, times),
        gripper_finding(episode, params),
        tracking_finding(episode, params),
    ]
    return replace(seen, findings=found)


class DataQualityScorer(EpisodeStage):
    """Appends an episode's quality findings and its frames' hashes; `read_images` gives images of a container."""

    name = NAME

    def __init__(self, params: DataQualityParams, read_images: ReadImages, media: MediaParams | None = None) -> None:
        super().__init__()
        self._params = params
        self._read_images = read_images
        self._media = media or MediaParams()

    def setup(self) -> None:
        limit_shared_decoder(self._media)

    def process_element(self, element: Episode) -> Iterable[Episode]:
        seen = score(element, self._read_images, self._params)
        return [replace(element.with_findings(*seen.findings), frame_hashes=seen.hashes)]
