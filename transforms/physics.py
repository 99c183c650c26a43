"""PhysicsValidator: joint limits, derivatives by true time, quaternions and encoders against what was declared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from transforms.arrays import Floats, column_matrix, times_ns
from transforms.conventions import Embodiment
from transforms.encoders import declared_quaternion, encoder_findings, quaternion_findings
from transforms.episode import Episode, Finding
from transforms.kinematics import (
    NOISE_GAIN,
    Excess,
    backward_derivative,
    backward_velocity,
    intervals,
    noise_sigma,
    sustained,
    violating,
)
from transforms.measure import Times, in_transitions, measured, not_run
from transforms.schema import JOINT_POSITION, JOINT_VELOCITY
from transforms.stage import EpisodeStage
from transforms.urdf import UrdfLimits, load_limits

NAME = "physics"
TWO_PI = 2 * np.pi
JOINT_CHECKS = (
    "physics.position_excess",
    "physics.velocity_ratio",
    "physics.jump_ratio",
    "physics.acceleration_ratio",
    "physics.jerk_ratio",
    "physics.frozen_encoder",
    "physics.encoder_noise",
    "conventions.joint_unit",
)


@dataclass(frozen=True)
class PhysicsParams:
    """What counts as beyond a limit: beyond `limit_factor` times it, and `noise_sigmas` of the noise, for `min_frames`.

    A URDF states no acceleration or jerk; without the `max_` of either, its check is not run. At most
    `max_intervals` of the worst intervals are listed per check. `max_noise_rad` caps the estimated standard deviation
    of an encoder, so that glitches in a large share of the steps do not excuse themselves as noise.
    """

    limit_factor: float = 1.1
    noise_sigmas: float = 6.0
    position_tolerance_rad: float = 1e-4
    max_noise_rad: float = 2e-3
    min_frames: int = 2
    max_acceleration_rad_s2: float | None = None
    max_jerk_rad_s3: float | None = None
    max_intervals: int = 50

    def __post_init__(self) -> None:
        if self.min_frames < 1 or self.max_intervals < 1:
            raise ValueError(f"min_frames {self.min_frames} and max_intervals {self.max_intervals} must be at least 1")
        if not self.limit_factor >= 1:
            raise ValueError(f"limit_factor is {self.limit_factor}; below 1 it would flag what the limit allows")
        for name in ("noise_sigmas", "position_tolerance_rad", "max_noise_rad"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"physics.{name} is {getattr(self, name)}; need 0 or more")
        for name in ("max_acceleration_rad_s2", "max_jerk_rad_s3"):
            limit = getattr(self, name)
            if limit is not None and not limit > 0:
                raise ValueError(f"physics.{name} is {limit}; need more than 0, or leave it out")


@dataclass(frozen=True)
class JointTrack:
    """J joints over T steps: q (T, J) rad, logged velocity (T, J) rad/s and clock (T,) ns where there are any."""

    names: tuple[str, ...]
    q: Floats
    velocity: Floats | None
    times: Times | None


def position_findings(track: JointTrack, limits: UrdfLimits, params: PhysicsParams) -> list[Finding]:
    """`physics.position_excess`: rad beyond limit + max(tolerance, noise), one per interval, or one of 0."""
    check = "physics.position_excess"
    if np.isnan(limits.lower).all() and np.isnan(limits.upper).all():
        return [not_run(NAME, check, "the URDF states no position limits of these joints", "rad")]
    sigma = np.minimum(noise_sigma(track.q), params.max_noise_rad)
    tolerance = np.maximum(params.position_tolerance_rad, params.noise_sigmas * sigma)
    above, below = track.q - limits.upper, limits.lower - track.q
    excess = np.fmax(above, below) - tolerance
    found = intervals(excess, np.nan_to_num(excess, nan=-1.0) > 0)

    def text(one: Excess) -> str:
        j = one.joints[0]
        span = track.q[one.frames[0] : one.frames[1] + 1, j]
        value = span[np.nanargmax(np.fmax(span - limits.upper[j], limits.lower[j] - span))]
        bounds = f"[{limits.lower[j]:.6g}, {limits.upper[j]:.6g}] rad, tolerance {tolerance[j]:.3g}"
        return f"{_joints(track, one)} at {value:.6g} rad, limits {bounds}"

    return _listed(found, check, "rad", text, 0.0, track, params)


def rate_findings(
    check: str, unit: str, values: Floats, limit: Floats, floor: Floats, track: JointTrack, params: PhysicsParams
) -> list[Finding]:
    """`check`: peak of |values| over max(limit_factor * limit, floor), sustained for `min_frames`.

    values: (T, J); limit, floor: (J,). One finding per violating interval; where there is none, a single one with
    the largest sustained ratio.
    """
    if np.isnan(limit).all():
        return [not_run(NAME, check, f"no limit in {unit} is stated for these joints", "ratio")]
    allowed = np.fmax(params.limit_factor * limit, np.where(np.isnan(limit), np.nan, floor))
    ratio = np.abs(values) / allowed
    if not np.isfinite(ratio).any():
        return [not_run(NAME, check, "no two consecutive steps have finite positions and growing time", "ratio")]
    peak = sustained(ratio, params.min_frames)
    highest = float(np.nanmax(peak)) if np.isfinite(peak).any() else 0.0

    def text(one: Excess) -> str:
        j = one.joints[0]
        value = one.peak * allowed[j]
        return f"{_joints(track, one)} at {value:.6g} {unit}, limit {limit[j]:.6g}, allowed {allowed[j]:.6g}"

    found = intervals(ratio, violating(ratio, params.min_frames))
    return _listed(found, check, "ratio", text, highest, track, params)


def jump_findings(velocity: Floats, limit: Floats, track: JointTrack, params: PhysicsParams) -> list[Finding]:
    """`physics.jump_ratio`: speed over the limit in steps too short to be sustained; above 2 is a teleport."""
    check = "physics.jump_ratio"
    if np.isnan(limit).all():
        return [not_run(NAME, check, "no limit in rad/s is stated for these joints", "ratio")]
    ratio = np.abs(velocity) / (params.limit_factor * limit)
    lone = (np.nan_to_num(ratio, nan=0.0) > 1) & ~violating(ratio, params.min_frames)
    value = np.where(lone, ratio, 0.0)
    step, joint = np.unravel_index(int(np.argmax(value)), value.shape)
    peak = float(value[step, joint])
    if peak == 0.0:
        return [measured(NAME, check, 0.0, "ratio")]
    detail = f"{track.names[joint]} moves {abs(track.q[step, joint] - track.q[step - 1, joint]):.6g} rad in one step"
    return [measured(NAME, check, peak, "ratio", (int(step), int(step)), track.times, detail)]


def unit_finding(q: Floats) -> Finding:
    """`conventions.joint_unit`: share of joints that pass 2 pi rad; degrees read as radians give most of them."""
    peak = np.nan_to_num(np.abs(q), nan=0.0).max(axis=0)
    share = float((peak > TWO_PI).mean())
    detail = f"largest position {peak.max():.6g} rad"
    if share > 0.5:
        detail += "; most joints pass 2 pi: these look like degrees, check `joints.unit`"
    return measured(NAME, "conventions.joint_unit", share, "fraction", detail=detail)


def scale_finding(velocity: Floats, logged: Floats | None) -> Finding:
    """`conventions.velocity_scale`: least-squares factor from logged to derived velocity; 1 where rate and unit agree.

    velocity: (T, J) backward differences, compared with the mean of the logged values at both ends of each step.
    """
    check = "conventions.velocity_scale"
    if logged is None:
        return not_run(NAME, check, "no joint velocity is declared", "ratio")
    middle = np.full(logged.shape, np.nan)
    middle[1:] = (logged[1:] + logged[:-1]) / 2
    both = np.isfinite(middle) & np.isfinite(velocity)
    power = float((middle[both] ** 2).sum())
    if power == 0.0:
        return not_run(NAME, check, "the logged velocity is zero throughout", "ratio")
    return measured(NAME, check, float((middle[both] * velocity[both]).sum()) / power, "ratio")


def velocity_findings(track: JointTrack, limits: UrdfLimits | None, params: PhysicsParams) -> list[Finding]:
    """Velocity, logged velocity, jumps, acceleration and jerk, each over its limit; derivatives by true time."""
    unit = {"acceleration": "rad/s^2", "jerk": "rad/s^3"}
    configured = {"acceleration": params.max_acceleration_rad_s2, "jerk": params.max_jerk_rad_s3}
    if track.times is None:
        reason = "no timestamps: declare `rate_hz` of the embodiment"
        checks = ("velocity_ratio", "jump_ratio", "acceleration_ratio", "jerk_ratio")
        return [not_run(NAME, f"physics.{check}", reason, "ratio") for check in checks]
    dt = np.diff(track.times)
    rate = 1e9 / float(np.median(dt[dt > 0])) if (dt > 0).any() else np.nan
    sigma = np.minimum(noise_sigma(track.q), params.max_noise_rad)
    floors = {n: params.noise_sigmas * np.sqrt(gain) * sigma * rate**n for n, gain in NOISE_GAIN.items()}
    velocity = backward_velocity(track.q, track.times)
    found = [scale_finding(velocity, track.velocity)]
    if limits is None:
        reason = "no `urdf` is declared for the embodiment"
        found += [not_run(NAME, f"physics.{check}", reason, "ratio") for check in ("velocity_ratio", "jump_ratio")]
    else:
        limit = limits.velocity
        found += rate_findings("physics.velocity_ratio", "rad/s", velocity, limit, floors[1], track, params)
        found += jump_findings(velocity, limit, track, params)
        if track.velocity is not None:
            none, check = np.zeros(len(limit)), "physics.logged_velocity_ratio"
            found += rate_findings(check, "rad/s", track.velocity, limit, none, track, params)
    values = velocity
    for order, (quantity, largest) in enumerate(configured.items(), start=2):
        values = backward_derivative(values, track.times, order)
        check = f"physics.{quantity}_ratio"
        if largest is None:
            key = f"max_{quantity}_rad_s{order}"
            found.append(not_run(NAME, check, f"`{key}` is not configured; a URDF states none", "ratio"))
        else:
            limit = np.full(track.q.shape[1], largest)
            found += rate_findings(check, unit[quantity], values, limit, floors[order], track, params)
    return found


def _joints(track: JointTrack, one: Excess) -> str:
    return ", ".join(track.names[j] for j in one.joints)


def _listed(
    found: list[Excess],
    check: str,
    unit: str,
    text: Callable[[Excess], str],
    otherwise: float,
    track: JointTrack,
    params: PhysicsParams,
) -> list[Finding]:
    """The worst intervals in order of time; a single value where there is no violation."""
    if not found:
        return [measured(NAME, check, otherwise, unit)]
    worst = sorted(found, key=lambda one: -one.peak)[: params.max_intervals]
    left = len(found) - len(worst)
    more = f"; {left} lesser intervals not listed" if left else ""
    return [
        measured(NAME, check, one.peak, unit, one.frames, track.times, text(one) + more)
        for one in sorted(worst, key=lambda one: one.frames)
    ]


def _absent(embodiment: Embodiment) -> str:
    if embodiment.joints is None:
        return "no `joints` are declared for the embodiment"
    if embodiment.joints.unit == "unknown":
        return "the joints' unit is unknown: declare `joints.unit`"
    return f"the declared column {embodiment.joints.position.column!r} gave no joint positions"


def joint_track(episode: Episode, embodiment: Embodiment) -> JointTrack | str:
    """The episode's joints, steps of no transition as NaN; where there are none, the reason."""
    q = column_matrix(episode.steps, JOINT_POSITION)
    joints = embodiment.joints
    if q is None or joints is None:
        return _absent(embodiment)
    if q.shape[1] != len(joints.names):
        return f"{len(joints.names)} joint names are declared for {q.shape[1]} columns"
    if not np.isfinite(q).any():
        return "no joint position is finite"
    q = np.where(in_transitions(episode.steps)[:, None], q, np.nan)
    if not np.isfinite(q).any():
        return "no joint position of a transition is finite"
    velocity = column_matrix(episode.steps, JOINT_VELOCITY)
    return JointTrack(joints.names, q, velocity, times_ns(episode.steps))


def validate(
    episode: Episode, embodiment: Embodiment, limits: UrdfLimits | None, params: PhysicsParams
) -> list[Finding]:
    """Every physical check of one episode; each gives at least one finding, measured or not run."""
    found = quaternion_findings(episode, declared_quaternion(embodiment))
    track = joint_track(episode, embodiment)
    if isinstance(track, str):
        return [*found, *(not_run(NAME, check, track) for check in JOINT_CHECKS)]
    if limits is None:
        found.append(not_run(NAME, "physics.position_excess", "no `urdf` is declared for the embodiment", "rad"))
    else:
        found += position_findings(track, limits, params)
    found += velocity_findings(track, limits, params)
    found.append(unit_finding(track.q))
    found.append(measured(NAME, "physics.encoder_noise", float(noise_sigma(track.q).max()), "rad"))
    return found + encoder_findings(episode, track.names, track.q, track.times, limits)


class PhysicsValidator(EpisodeStage):
    """Appends the physical findings of an episode; URDF files are read in `setup` and a wrong one fails the run."""

    name = NAME

    def __init__(self, params: PhysicsParams, embodiments: Mapping[str, Embodiment]) -> None:
        super().__init__()
        self._params = params
        self._embodiments = embodiments
        self._limits: dict[str, UrdfLimits] = {}

    def setup(self) -> None:
        for name, embodiment in self._embodiments.items():
            if embodiment.urdf is not None and embodiment.joints is not None:
                self._limits[name] = load_limits(embodiment.urdf).select(embodiment.joints.names)

    def process_element(self, element: Episode) -> Iterable[Episode]:
        embodiment = self._embodiments.get(element.embodiment, Embodiment())
        limits = self._limits.get(element.embodiment)
        return [element.with_findings(*validate(element, embodiment, limits, self._params))]
