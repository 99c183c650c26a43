"""TemporalAlignmentStage: every stream of a recording on one clock, with masks, staleness and what the clocks say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.arrays import rounded, with_column
from transforms.clocks import Rows, Times, clock_findings, first_run, period_ns, rate_findings, stamps, usable
from transforms.episode import (
    IMAGES,
    INDEX_SUFFIX,
    PTS_SUFFIX,
    STEPS,
    TIMESTAMP,
    VIDEO_STREAM,
    Finding,
    ImageRef,
    Recording,
)
from transforms.resampling import nearest
from transforms.schema import FRAME_INDEX, STALENESS, VALID
from transforms.stage import EpisodeStage, Unreadable
from transforms.stream_columns import held_elements, is_needed, resample_stream

STAGE = "temporal_alignment"
_SLACK_NS = 1_000
"""Stamps rounded to the microsecond still count as half a period away."""


@dataclass(frozen=True)
class TemporalAlignmentParams:
    """`rate_hz` is the new clock; without it, recordings of one clock keep theirs. `reference` is the stream to follow.

    More than `max_steps` steps are refused: stamps that absurd are broken.
    """

    rate_hz: float | None = None
    reference: str | None = None
    max_steps: int = 10_000_000

    def __post_init__(self) -> None:
        if self.rate_hz is not None and not 0 < self.rate_hz <= 10_000:
            raise ValueError(f"rate_hz is {self.rate_hz}; need 0 < rate_hz <= 10000")
        if self.max_steps < 2:
            raise ValueError(f"max_steps is {self.max_steps}; need at least 2")


@dataclass(frozen=True, eq=False)
class _Clock:
    """One stream's stamps (T,) ns, where they are present, and whether they are complete and strictly increasing."""

    times: Times
    present: NDArray[np.bool_]
    usable: bool


def _clock(batch: pa.RecordBatch) -> _Clock:
    times, present = stamps(batch)
    return _Clock(times, present, usable(times, present))


def frames_of_rows(rows: _Clock, frames: _Clock, to_rows: Times) -> Rows:
    """Frame of a video for each step, -1 where none is within half a frame period: row i has frame i where both agree.

    They agree where the counts are equal and no stamp differs by more than a period, or the rows have no usable clock.
    """
    equal = len(to_rows) == len(frames.times) and len(rows.times) == len(to_rows)
    if not len(frames.times) or not (frames.usable or equal):
        return np.full(len(to_rows), -1, np.int64)
    period = period_ns(frames.times)
    period = period if np.isfinite(period) else 0.0
    if equal:
        if not (rows.usable and frames.usable):
            return np.arange(len(to_rows))
        if np.array_equal(rows.times, to_rows) and np.abs(to_rows - frames.times).max(initial=0) <= period:
            return np.arange(len(to_rows))
    matched = nearest(frames.times, to_rows, period / 2 + _SLACK_NS)
    if not rows.usable and len(rows.present) == len(to_rows):
        matched = np.where(rows.present, matched, -1)
    return matched


def _with_cameras(
    recording: Recording, steps: pa.RecordBatch, source: _Clock, wanted: _Clock
) -> tuple[pa.RecordBatch, list[Finding]]:
    """Steps with one column per camera that says which frame belongs to each, null where none does."""
    found: list[Finding] = []
    for camera in sorted(recording.videos):
        ref = recording.videos[camera]
        stream = recording.streams.get(VIDEO_STREAM + camera)
        if isinstance(ref, ImageRef):
            name = f"{IMAGES}{camera}{INDEX_SUFFIX}"
            if name in steps.schema.names:
                continue
            if stream is None:
                rows = _images_of_rows(ref, source, wanted)
                values: NDArray[np.int64] = np.maximum(rows, 0)
            else:
                rows, values, noted = _frames(camera, stream, "index", wanted)
                found += noted
        else:
            name = f"{IMAGES}{camera}{PTS_SUFFIX}"
            rows = np.full(steps.num_rows, -1, np.int64)
            values = rows
            if stream is not None and stream.num_rows:
                rows, values, noted = _frames(camera, stream, "pts_ns", wanted)
                found += noted
        steps = with_column(steps, name, pa.array(values, pa.int64(), mask=rows < 0))
        lost = np.flatnonzero(rows < 0)
        share = rounded(len(lost) / max(1, steps.num_rows))
        at = first_run(lost) if len(lost) else None
        found.append(Finding(STAGE, "alignment.steps_without_frame", share, "fraction", None, at, f"camera {camera}"))
    return steps, found


def _frames(
    camera: str, stream: pa.RecordBatch, column: str, wanted: _Clock
) -> tuple[Rows, NDArray[np.int64], tuple[Finding, ...]]:
    """Row of a camera's stream for each step, -1 where there is none; what its column says there; its clock's rate."""
    frames = _clock(stream)
    rows = frames_of_rows(wanted, frames, wanted.times)
    values = stream.column(column).to_numpy(zero_copy_only=False)[np.maximum(rows, 0)]
    return rows, values, rate_findings(STAGE, VIDEO_STREAM + camera, frames.times, frames.usable, steps=False)


def _images_of_rows(ref: ImageRef, source: _Clock, wanted: _Clock) -> Rows:
    """Image of each step, -1 where there is none: image i belongs to row i of the original clock."""
    rows = np.arange(len(wanted.times))
    if source is not wanted:
        rows = nearest(source.times, wanted.times, period_ns(source.times) / 2 + _SLACK_NS)
    return np.where(rows < ref.count, rows, -1)


def choose_reference(streams: Mapping[str, pa.RecordBatch], wish: str | None) -> str:
    """The stream whose clock the steps take: the wish, else the only video, else the fastest sensor stream in order.

    Raises Unreadable where the wished stream is absent or no stream has a row.
    """
    filled = sorted(name for name, batch in streams.items() if batch.num_rows)
    if wish is not None:
        if wish not in filled:
            known = ", ".join(filled) or "none"
            raise Unreadable("reference_absent", f"no stream {wish!r} to align to; streams with rows: {known}")
        return wish
    videos = [name for name in filled if name.startswith(VIDEO_STREAM)]
    sensors = [name for name in filled if name not in videos]
    if not filled:
        raise Unreadable("empty", "no stream has a row, so there is no clock to align to; check the source's files")
    clocks = {name: _clock(streams[name]) for name in filled}
    ordered = [name for name in sensors if clocks[name].usable and streams[name].num_rows > 1]
    if len(sensors) == 1 and not ordered:
        return sensors[0]
    if len(videos) == 1 and clocks[videos[0]].usable:
        return videos[0]
    candidates = ordered or sensors or videos
    return min(candidates, key=lambda name: (np.nan_to_num(period_ns(clocks[name].times), nan=np.inf), name))


def grid(clocks: Iterable[Times], rate_hz: float, max_steps: int) -> Times:
    """Stamps at `rate_hz` over what all clocks cover; raises Unreadable where they share nothing or too much."""
    spans = [(int(times[0]), int(times[-1])) for times in clocks]
    start, end = max(s for s, _ in spans), min(e for _, e in spans)
    if end < start:
        raise Unreadable(
            "no_overlap", f"streams share no time: the last begins at {start} ns, the first ends at {end} ns"
        )
    count = int((end - start) * rate_hz / 1e9 + 1e-6) + 1
    if count > max_steps:
        limit = f"the limit is max_steps = {max_steps}"
        raise Unreadable("absurd_size", f"{count} steps at {rate_hz:g} Hz; {limit}; check the stamps or lower rate_hz")
    return start + np.round(np.arange(count) * (1e9 / rate_hz)).astype(np.int64)


def _aligned(
    recording: Recording, params: TemporalAlignmentParams, clocks: Mapping[str, _Clock], reference: str | None
) -> tuple[pa.RecordBatch, list[Finding]]:
    """All sensor streams at the reference's stamps, or on a grid without one; and findings of what was left out."""
    sensors = sorted(name for name in clocks if not name.startswith(VIDEO_STREAM))
    found: list[Finding] = []
    if reference is None:
        assert params.rate_hz is not None
        ruling = [clock.times for clock in clocks.values() if clock.usable]
        wanted = grid(ruling, params.rate_hz, params.max_steps)
        steps = pa.RecordBatch.from_arrays([pa.array(wanted, pa.int64())], [TIMESTAMP])
    elif reference.startswith(VIDEO_STREAM):
        wanted = clocks[reference].times
        steps = recording.streams[reference].select([TIMESTAMP])
    else:
        wanted = clocks[reference].times
        steps = recording.streams[reference]
    valid = np.ones(len(wanted), np.bool_)
    columns: dict[str, pa.Array] = {}
    for name in sensors:
        if name == reference:
            columns[STALENESS + name] = pa.array(np.zeros(len(wanted)), pa.float32())
            continue
        clock = clocks[name]
        if not clock.usable or (reference is not None and not clocks[reference].usable):
            detail = f"stream {name} or its reference has stamps that are missing, equal or run backward"
            found.append(Finding(STAGE, "alignment.stream_left_out", 1.0, "streams", detail=detail))
            continue
        batch = recording.streams[name]
        sampled = resample_stream(batch, clock.times, wanted, held_elements(recording.conventions))
        for column, values in sampled.columns.items():
            taken = column in steps.schema.names or column in columns
            columns[f"{name}.{column}" if taken else column] = values
        columns[STALENESS + name] = pa.array(sampled.staleness_ms, pa.float32())
        if is_needed(batch):
            valid &= sampled.reached
    for column, values in columns.items():
        steps = with_column(steps, column, values)
    if VALID not in steps.schema.names:
        steps = with_column(steps, VALID, pa.array(valid))
    return steps, found


def _by_time(finding: Finding, source: _Clock) -> Finding:
    """A finding about rows of a clock that is not the steps' own: its rows become an interval where they have times."""
    if finding.frames is None:
        return finding
    first, last = finding.frames
    known = finding.interval is None and source.usable and last < len(source.times)
    interval = (int(source.times[first]), int(source.times[last])) if known else finding.interval
    return replace(finding, frames=None, interval=interval)


def align(recording: Recording, params: TemporalAlignmentParams) -> Recording:
    """The recording with one stream, `steps`; sensor clocks that are out of order keep their rows and are reported.

    Raises Unreadable where nothing has a row, streams share no time, or the wished reference is absent.
    """
    clocks = {name: _clock(batch) for name, batch in sorted(recording.streams.items()) if batch.num_rows}
    found: list[Finding] = []
    for name, clock in clocks.items():
        if not name.startswith(VIDEO_STREAM):
            found += clock_findings(STAGE, name, clock.times, clock.present, steps=name == STEPS)
            found += rate_findings(STAGE, name, clock.times, clock.usable, steps=name == STEPS)
    one_clock = {name for name in recording.streams if not name.startswith(VIDEO_STREAM)} == {STEPS}
    more: list[Finding] = []
    if one_clock and (params.rate_hz is None or STEPS not in clocks or not clocks[STEPS].usable):
        steps = recording.streams[STEPS]
        source = _clock(steps)
    else:
        used = {STEPS: clocks[STEPS]} if one_clock else clocks
        reference = None
        if params.rate_hz is None or not any(clock.usable for clock in used.values()):
            wish = params.reference or recording.reference or None
            reference = choose_reference({name: recording.streams[name] for name in used}, wish)
        steps, more = _aligned(recording, params, used, reference)
        source = clocks.get(STEPS, _clock(steps))
        if one_clock:
            steps = with_column(steps, FRAME_INDEX, pa.array(np.arange(steps.num_rows)))
    wanted = _clock(steps)
    same = len(wanted.times) == len(source.times) and np.array_equal(wanted.times, source.times)
    steps, missing = _with_cameras(recording, steps, wanted if same else source, wanted)
    before = recording.findings + tuple(found)
    findings = (before if same else tuple(_by_time(one, source) for one in before)) + tuple(more + missing)
    return replace(recording, streams={STEPS: steps}, findings=findings)


class TemporalAlignmentStage(EpisodeStage):
    """Puts the streams of each recording on one clock."""

    name = STAGE
    output = Recording

    def __init__(self, params: TemporalAlignmentParams | None = None) -> None:
        super().__init__()
        self._params = params or TemporalAlignmentParams()

    def process_element(self, element: Recording) -> Iterable[Recording]:
        return [align(element, self._params)]
