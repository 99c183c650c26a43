"""What a cut makes of a recording: episodes that carry their part of everything, and ledger rows for the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa

from transforms.clocks import stamps
from transforms.coders import to_json
from transforms.episode import IMAGES, PTS_SUFFIX, STEPS, Episode, Finding, ImageRef, Recording, Utterance, VideoRef
from transforms.episode import content_id as content_id_of
from transforms.evidence import LedgerRow

STAGE = "episode_boundary"


@dataclass(frozen=True)
class Segment:
    """Steps `[start, end)` of a recording; `reason` says what its start is, with a confidence in [0, 1]."""

    start: int
    end: int
    kind: Literal["episode", "reset"]
    reason: str
    confidence: float


def _span(steps: pa.RecordBatch) -> tuple[int | None, int | None]:
    """Times of the first and the last step; None where they have none."""
    times, present = stamps(steps)
    if not len(times) or not (present[0] and present[-1]):
        return None, None
    return int(times[0]), int(times[-1])


def whole(recording: Recording) -> Episode:
    """The recording as one episode under its own id."""
    steps = recording.streams[STEPS]
    start, end = _span(steps)
    return Episode(
        episode_id=recording.recording_id,
        source=recording.source,
        embodiment=recording.embodiment,
        uri=recording.uri,
        format=recording.format,
        steps=steps,
        start_ns=start,
        end_ns=end,
        videos=recording.videos,
        cameras=recording.cameras,
        utterances=recording.utterances,
        attributes=recording.attributes,
        conventions=recording.conventions,
        success=recording.success,
        findings=recording.findings,
    )


def child_ids(recording: Recording, segments: Sequence[Segment]) -> list[str]:
    """`recording/start_ns` for each segment; `recording/step-INDEX` where its start has no time or not its own."""
    times, present = stamps(recording.streams[STEPS])
    starts = [int(times[s.start]) if present[s.start] else None for s in segments]
    return [
        f"{recording.recording_id}/step-{s.start:06d}"
        if start is None or starts.count(start) > 1
        else f"{recording.recording_id}/{start}"
        for s, start in zip(segments, starts, strict=True)
    ]


def _heard(utterance: Utterance, start: int | None, end: int | None) -> bool:
    """Whether an utterance's `[start_ns, end_ns)` meets the steps of `[start, end]`."""
    if start is None or end is None:
        return True
    before = utterance.end_ns is not None and utterance.end_ns <= start
    return not before and not (utterance.start_ns is not None and utterance.start_ns > end)


def _window(ref: VideoRef | ImageRef, camera: str, steps: pa.RecordBatch) -> VideoRef | ImageRef:
    """The part of a video that these steps show; a camera's images are found by index and stay whole."""
    name = f"{IMAGES}{camera}{PTS_SUFFIX}"
    if isinstance(ref, ImageRef) or name not in steps.schema.names:
        return ref
    pts = np.unique(steps.column(name).drop_null().to_numpy(zero_copy_only=False))
    if not len(pts):
        return ref
    first, last = int(pts[0]), int(pts[-1])
    return VideoRef(ref.uri, first, last, _shown_at(ref, name, first, last, steps), ref.content_hash, ref.depth)


def _shown_at(ref: VideoRef, name: str, first: int, last: int, steps: pa.RecordBatch) -> int:
    """Recording time of the frame `first`: as the parent's clocks run, unless they part by more than a frame."""
    expected = ref.origin_ns + first - ref.start_ns
    times, present = stamps(steps)
    shown = np.asarray(steps.column(name).fill_null(-1).to_numpy(zero_copy_only=False))
    row = int(np.flatnonzero(shown == first)[0])
    frames = len(np.unique(shown[shown >= 0]))
    period = (last - first) / max(1, frames - 1)
    return expected if not present[row] or abs(int(times[row]) - expected) <= period else int(times[row])


def _own_findings(findings: tuple[Finding, ...], part: Segment) -> tuple[Finding, ...]:
    """The parent's findings that concern these steps, their frames counted from the child's first step."""
    out: list[Finding] = []
    for finding in findings:
        if finding.frames is None:
            out.append(finding)
            continue
        first, last = max(finding.frames[0], part.start), min(finding.frames[1], part.end - 1)
        if first <= last:
            out.append(replace(finding, frames=(first - part.start, last - part.start)))
    return tuple(out)


def _child(recording: Recording, part: Segment, episode_id: str) -> Episode:
    steps = recording.streams[STEPS].slice(part.start, part.end - part.start)
    start, end = _span(steps)
    boundary = to_json({"reason": part.reason, "confidence": part.confidence}).decode()
    return replace(
        whole(recording),
        episode_id=episode_id,
        parent_id=recording.recording_id,
        steps=steps,
        start_ns=start,
        end_ns=end,
        videos={camera: _window(ref, camera, steps) for camera, ref in sorted(recording.videos.items())},
        utterances=tuple(u for u in recording.utterances if _heard(u, start, end)),
        attributes={**recording.attributes, "boundary": boundary},
        success=None,
        findings=_own_findings(recording.findings, part),
    )


def children(recording: Recording, segments: Sequence[Segment]) -> Iterator[Episode | LedgerRow]:
    """One Episode for each segment that is one, and a `rejected` row for each reset interval, in order."""
    for part, name in zip(segments, child_ids(recording, segments), strict=True):
        child = _child(recording, part, name)
        if part.kind == "episode":
            yield child
            continue
        yield LedgerRow(
            episode_id=name,
            source=recording.source,
            outcome="rejected",
            content_id=content_id_of(child),
            parent_id=recording.recording_id,
            start_ns=child.start_ns,
            end_ns=child.end_ns,
            stage=STAGE,
            rule="reset_interval",
            value=part.confidence,
            detail=f"starts at step {part.start}: {part.reason}",
            uri=recording.uri,
            n_steps=part.end - part.start,
        )


def parent_row(recording: Recording, segments: Sequence[Segment]) -> LedgerRow:
    """The `cut` row of a recording, with the number of its tiles."""
    parent = whole(recording)
    reasons = sorted({s.reason for s in segments[1:]}) or [segments[0].reason]
    return LedgerRow(
        episode_id=recording.recording_id,
        source=recording.source,
        outcome="cut",
        content_id=content_id_of(parent),
        start_ns=parent.start_ns,
        end_ns=parent.end_ns,
        stage=STAGE,
        rule="cut",
        detail=f"cut by {', '.join(reasons)}",
        uri=recording.uri,
        n_steps=parent.steps.num_rows,
        n_children=len(segments),
    )
