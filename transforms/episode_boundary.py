"""EpisodeBoundaryDetector: cuts recordings whose format marks no episodes; what it cuts, episodes and resets tile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apache_beam as beam
import msgspec
import numpy as np
import pyarrow as pa

from transforms.arrays import Floats, column_matrix
from transforms.children import Segment, children, parent_row, whole
from transforms.clocks import Times, period_ns, stamps
from transforms.coders import from_json
from transforms.episode import STEPS, Episode, Recording
from transforms.evidence import LedgerRow
from transforms.schema import JOINT_POSITION, STATE, UNKNOWN, VALID
from transforms.stage import EpisodeStage, Unreadable
from transforms.urdf import load_limits

STAGE = "episode_boundary"
LEDGER = "ledger"


@dataclass(frozen=True)
class EpisodeBoundaryParams:
    """What cuts a recording in an unmarked format.

    A gap longer than max(`max_gap_s`, `gap_factor` * median dt); a joint faster than `velocity_factor` times its
    URDF limit, or where there is no URDF that of `velocity_limits` in rad/s, one a joint; without either, a jump of at
    least half of the moving state elements by more than median + `jump_mad` * MAD and `jump_fraction` of their range. A
    tile shorter than `min_steps`, or in which no element moves more than `idle_fraction` of its range, is a reset
    interval.
    """

    max_gap_s: float = 1.0
    gap_factor: float = 5.0
    velocity_factor: float = 2.0
    velocity_limits: tuple[float, ...] = ()
    jump_mad: float = 20.0
    jump_fraction: float = 0.1
    min_steps: int = 2
    idle_fraction: float = 0.01

    def __post_init__(self) -> None:
        for name in ("max_gap_s", "gap_factor", "velocity_factor", "jump_mad"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; need more than 0")
        for name in ("jump_fraction", "idle_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; need 0 to 1")
        if self.min_steps < 1:
            raise ValueError(f"min_steps is {self.min_steps}; need at least 1")
        if any(not limit > 0 for limit in self.velocity_limits):
            raise ValueError(f"velocity_limits are {self.velocity_limits}; each needs more than 0 rad/s")


@dataclass(frozen=True)
class Cut:
    """A segment starts at row `index`, because `reason`; `confidence` in [0, 1] is 1 - limit / measured."""

    index: int
    reason: str
    confidence: float


def _confidence(measured: float, limit: float) -> float:
    return round(max(0.0, 1.0 - limit / measured), 6) if np.isfinite(measured) and measured > 0 else 1.0


def gap_cuts(times: Times, known: np.ndarray, params: EpisodeBoundaryParams) -> list[Cut]:
    """Cuts where time between neighbours of the `known` (T,) rows exceeds the limit; rows inside a gap stand alone."""
    rows = np.flatnonzero(known)
    if len(rows) < 2:
        return []
    step = np.diff(times[rows])
    limit = max(params.max_gap_s * 1e9, params.gap_factor * float(np.nan_to_num(period_ns(times[rows]))))
    cuts: list[Cut] = []
    for at in np.flatnonzero(step > limit):
        confidence = _confidence(float(step[at]), limit)
        cuts.append(Cut(int(rows[at]) + 1, "time_gap", confidence))
        if rows[at + 1] > rows[at] + 1:
            cuts.append(Cut(int(rows[at + 1]), "time_gap", confidence))
    return cuts


def velocity_cuts(q: Floats, times: Times, limits: Floats, params: EpisodeBoundaryParams) -> list[Cut]:
    """Cuts where a joint of `q` (T, J) rad moves faster than `velocity_factor` times its limit (J,) rad/s.

    A step shorter than half the median counts as half the median, so that jitter of the clock makes no speed.
    """
    period = period_ns(times)
    step = np.diff(times)
    seconds = np.where(step > 0, np.maximum(step, 0.5 * np.nan_to_num(period)), np.nan) / 1e9
    with np.errstate(invalid="ignore"):
        excess = np.abs(np.diff(q, axis=0)) / seconds[:, None] / (params.velocity_factor * limits)
        worst = np.nan_to_num(excess, nan=0.0).max(axis=1, initial=0.0)
    return [Cut(int(at) + 1, "joint_velocity", _confidence(float(worst[at]), 1.0)) for at in np.flatnonzero(worst > 1)]


def jump_cuts(state: Floats, params: EpisodeBoundaryParams) -> list[Cut]:
    """Cuts where at least half of the moving elements of `state` (T, D), and two of two or more, jump at once.

    One element alone, such as a gripper that snaps or an angle that wraps, is no boundary.
    """
    moved = np.abs(np.diff(state, axis=0))
    moved[~np.isfinite(moved)] = 0.0
    finite = np.where(np.isfinite(state), state, np.nan)
    live = np.isfinite(finite).any(axis=0)
    if len(moved) < 3 or not live.any():
        return []
    extent = np.nanmax(finite[:, live], axis=0) - np.nanmin(finite[:, live], axis=0)
    moved, extent = moved[:, live][:, extent > 0], extent[extent > 0]
    if not len(extent):
        return []
    median = np.median(moved, axis=0)
    mad = np.median(np.abs(moved - median), axis=0)
    limit = np.maximum(median + params.jump_mad * mad, params.jump_fraction * extent)
    jumping = (moved > limit).sum(axis=1)
    needed = max(min(2, len(extent)), (len(extent) + 1) // 2)
    excess = np.median(moved / limit, axis=1)
    return [
        Cut(int(at) + 1, "state_jump", _confidence(max(float(excess[at]), 1.0), 1.0))
        for at in np.flatnonzero(jumping >= needed)
    ]


def tiles(rows: int, cuts: Iterable[Cut], reset: np.ndarray | None = None) -> list[Segment]:
    """Segments that tile `rows` steps, cut at the surest cut of each index; `reset` (T,) marks rows of no episode."""
    best: dict[int, Cut] = {}
    for cut in sorted(cuts, key=lambda c: (c.index, -c.confidence, c.reason)):
        if 0 < cut.index < rows:
            best.setdefault(cut.index, cut)
    starts = [Cut(0, "recording_start", 1.0), *best.values()]
    ends = [cut.index for cut in starts[1:]] + [rows]
    return [
        Segment(c.index, end, "reset" if reset is not None and reset[c.index] else "episode", c.reason, c.confidence)
        for c, end in zip(starts, ends, strict=True)
    ]


def marked_tiles(times: Times, marks: list[tuple[int, int]]) -> list[Segment]:
    """One episode for each mark `[start_ns, end_ns]`, both inclusive, and a reset interval for what lies between.

    A row in two marks belongs to the earlier; a mark without rows makes nothing.
    """
    owner = np.full(len(times), -1)
    for number, (start, end) in reversed(list(enumerate(sorted(marks)))):
        owner[(times >= start) & (times <= end)] = number
    cuts = [Cut(int(at) + 1, "mark", 1.0) for at in np.flatnonzero(np.diff(owner))]
    return tiles(len(times), cuts, owner < 0)


def _classified(
    segments: list[Segment], state: Floats | None, good: np.ndarray, least: int, idle: float
) -> list[Segment]:
    """Segments that are too short, hold no valid step or do not move, as reset intervals; a single one stays."""
    if len(segments) == 1:
        return segments
    extent = None if state is None or not np.isfinite(state).any() else _extent(state)
    out: list[Segment] = []
    for s in segments:
        still = (
            extent is not None and state is not None and bool((_extent(state[s.start : s.end]) <= idle * extent).all())
        )
        short = s.end - s.start < least or not good[s.start : s.end].any()
        out.append(Segment(s.start, s.end, "reset" if short or still else s.kind, s.reason, s.confidence))
    return out


def _extent(state: Floats) -> Floats:
    """Range (D,) of each element over its finite values; 0 where there is none."""
    low = np.where(np.isfinite(state), state, np.inf).min(axis=0)
    high = np.where(np.isfinite(state), state, -np.inf).max(axis=0)
    return np.maximum(high - low, 0.0)


def velocity_limits(recording: Recording, joints: int, params: EpisodeBoundaryParams) -> Floats | None:
    """Limits (J,) in rad/s, NaN where the URDF has none: from the declared URDF, else from `velocity_limits`."""
    urdf = recording.conventions.get("urdf", UNKNOWN)
    names = recording.conventions.get("joint_names", UNKNOWN)
    if urdf != UNKNOWN and names != UNKNOWN:
        known = load_limits(urdf)
        speeds = dict(zip(known.names, known.velocity.tolist(), strict=True))
        return np.array([speeds.get(name, np.nan) for name in from_json(names, tuple[str, ...])])
    if params.velocity_limits and len(params.velocity_limits) == joints:
        return np.asarray(params.velocity_limits, np.float64)
    return None


def _marks(text: str, recording_id: str) -> list[tuple[int, int]]:
    try:
        return from_json(text, list[tuple[int, int]])
    except msgspec.DecodeError as error:
        detail = f"{recording_id}: attribute `episodes` is {text[:80]!r}, not a list of [start_ns, end_ns]: {error}"
        raise Unreadable("corrupt", detail) from error


def segment(recording: Recording, params: EpisodeBoundaryParams) -> list[Segment]:
    """The tiles of an aligned recording: one where the format marks it as an episode, or nothing cuts it."""
    steps: pa.RecordBatch = recording.streams[STEPS]
    rows = steps.num_rows
    if recording.explicit or rows == 0:
        return [Segment(0, rows, "episode", "explicit" if recording.explicit else "recording_start", 1.0)]
    times, present = stamps(steps)
    marks = recording.attributes.get("episodes")
    if marks is not None and present.all():
        return marked_tiles(times, _marks(marks, recording.recording_id))
    flags = column_matrix(steps, VALID)
    good = np.ones(rows, np.bool_) if flags is None else flags[:, 0] == 1
    q, state = column_matrix(steps, JOINT_POSITION), column_matrix(steps, STATE)
    limits = None if q is None else velocity_limits(recording, q.shape[1], params)
    cuts = gap_cuts(times, good & present, params)
    if q is not None and limits is not None and np.isfinite(limits).any() and present.all():
        cuts += velocity_cuts(q, times, limits, params)
    else:
        moving = q if q is not None else state
        cuts += jump_cuts(moving, params) if moving is not None else []
    pose = q if q is not None else state
    return _classified(tiles(rows, cuts), pose, good, params.min_steps, params.idle_fraction)


class EpisodeBoundaryDetector(EpisodeStage):
    """Recordings in, `{"episodes": Episode, "ledger": LedgerRow}` out: ledger rows of what was cut and set aside."""

    name = STAGE
    output = Episode
    tags = ((LEDGER, LedgerRow),)

    def __init__(self, params: EpisodeBoundaryParams | None = None) -> None:
        super().__init__()
        self._params = params or EpisodeBoundaryParams()

    def process_element(self, element: Recording) -> Iterator[Episode | beam.pvalue.TaggedOutput]:
        segments = segment(element, self._params)
        if len(segments) == 1 and segments[0].kind == "episode":
            yield whole(element)
            return
        yield beam.pvalue.TaggedOutput(LEDGER, parent_row(element, segments))
        for child in children(element, segments):
            yield beam.pvalue.TaggedOutput(LEDGER, child) if isinstance(child, LedgerRow) else child

    def expand(self, elements: beam.PCollection[Recording]) -> dict[str, beam.PCollection]:
        results = self.run(elements)
        return {"episodes": results["main"], LEDGER: results[LEDGER]}
