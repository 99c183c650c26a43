"""Cameras: black, blank, frozen, clipped and missing frames, step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
from msgspec.structs import replace as narrowed
from numpy.typing import NDArray

from transforms.arrays import times_ns
from transforms.episode import IMAGES, INDEX_SUFFIX, PTS_SUFFIX, Episode, Finding, ImageRef, VideoRef
from transforms.measure import Flags, Times, longest_run, measured, not_run, runs
from transforms.media import FrameStats, shared_decoder
from transforms.motion import Motion

NAME = "quality"
ReadImages = Callable[[ImageRef, Sequence[int]], list[bytes]]
CHECKS = ("frames.black", "frames.blank", "frames.clipped", "frames.repeated", "frames.frozen", "frames.frozen_s")
_IMAGES_AT_ONCE = 128


@dataclass(frozen=True)
class FrameParams:
    """Luma is 0..255. Frozen: `min_frozen` frames in a row, for `min_frozen_s`, that are identical or nearly so.

    A camera slower than its video repeats frames too, but not for that long: 2 Hz is the slowest that is not frozen.

    `frozen_motion` and `recoded_motion` are mean changes of a 64x64 grey. Of one picture repeated through H.264 or AV1
    (crf 20 to 30, key frames every 2 to 250, with and without noise) two thirds and more of the frames change by less
    than `frozen_motion`; of an arm's moving steps, in a simulation without sensor noise, 0.3 % do. A key frame
    renews a picture that stands still, by less than `recoded_motion`, and then does not end a run.

    A frame whose brightness varies by less than `hash_std` shows nothing to compare with another episode's frame.
    """

    black_luma: float = 12.0
    black_std: float = 4.0
    blank_std: float = 1.0
    clipped_share: float = 0.5
    frozen_motion: float = 0.01
    recoded_motion: float = 1.0
    min_frozen: int = 3
    min_frozen_s: float = 0.5
    hash_std: float = 4.0

    def __post_init__(self) -> None:
        for name in (
            "black_luma",
            "black_std",
            "blank_std",
            "frozen_motion",
            "recoded_motion",
            "min_frozen_s",
            "hash_std",
        ):
            if not getattr(self, name) >= 0:
                raise ValueError(f"frames.{name} is {getattr(self, name)}; need 0 or more")
        if not 0 < self.clipped_share < 1:
            raise ValueError(f"frames.clipped_share is {self.clipped_share}; need between 0 and 1")
        if self.min_frozen < 1:
            raise ValueError(f"frames.min_frozen is {self.min_frozen}; need at least 1 frame")


@dataclass(frozen=True)
class CameraTrack:
    """What a camera shows at each of T steps: `place` (T,) rows of `stats`, -1 where the step has no frame."""

    name: str
    place: NDArray[np.int64]
    stats: FrameStats
    depth: bool

    def hashes(self, least_std: float) -> bytes:
        """T hashes of 32 bytes, zeros where a step has no frame, or one of less contrast; empty for depth."""
        if self.depth:
            return b""
        told = (self.place >= 0) & (self.stats.std_luma >= least_std)[self.place]
        return np.where(told[:, None], self.stats.hash[self.place], np.uint8(0)).tobytes()


@dataclass(frozen=True)
class Seen:
    """What an episode's cameras show: findings, and by camera the hash of each step's frame (`CameraTrack.hashes`)."""

    findings: Sequence[Finding]
    hashes: Mapping[str, bytes]


def camera_track(episode: Episode, camera: str, read_images: ReadImages) -> CameraTrack | str:
    """Decode the frames that the steps use, and only these; where none are named, the reason."""
    ref = episode.videos[camera]
    column = f"{IMAGES}{camera}{PTS_SUFFIX if isinstance(ref, VideoRef) else INDEX_SUFFIX}"
    index = episode.steps.schema.get_field_index(column)
    if index < 0:
        return f"{camera}: the steps have no column {column!r}"
    array = episode.steps.column(index)
    present = np.asarray(array.is_valid())
    if not present.any():
        return f"{camera}: no step has a frame"
    wanted = np.asarray(array.fill_null(0).to_numpy(zero_copy_only=False), np.int64)
    unique = np.unique(wanted[present])
    if isinstance(ref, VideoRef):
        stats = shared_decoder().video_stats(narrowed(ref, start_ns=int(unique[0]), end_ns=int(unique[-1])))
        if not len(stats.pts_ns):
            return f"{camera}: the window of {ref.uri} holds no frame"
        place = _nearest(stats.pts_ns, wanted)
    else:
        stats = image_stats(ref, unique, read_images)
        place = np.searchsorted(unique, wanted).clip(0, len(unique) - 1)
    return CameraTrack(camera, np.where(present, place, -1), stats, ref.depth)


def image_stats(ref: ImageRef, indices: NDArray[np.int64], read_images: ReadImages) -> FrameStats:
    """Statistics of a container's images (N,) in portions that overlap by one, so that each is compared once."""
    parts: list[FrameStats] = []
    for start in range(0, len(indices), _IMAGES_AT_ONCE):
        first = max(0, start - 1)
        chosen = [int(i) for i in indices[first : start + _IMAGES_AT_ONCE]]
        part = shared_decoder().image_stats(read_images(ref, chosen))
        parts.append(FrameStats(**{f.name: getattr(part, f.name)[start - first :] for f in fields(FrameStats)}))
    return FrameStats(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(FrameStats)})


def _nearest(stamps: Times, wanted: Times) -> NDArray[np.int64]:
    """Index of the stamp nearest to each wanted one; stamps (N,) grow."""
    right = np.searchsorted(stamps, wanted).clip(0, len(stamps) - 1)
    left = (right - 1).clip(0)
    return np.where(np.abs(stamps[left] - wanted) <= np.abs(stamps[right] - wanted), left, right)


def frozen_steps(repeated: Flags, min_frozen: int) -> Flags:
    """(T,) repeated frames that come at least `min_frozen` in a row: a single one is a dropped frame's stand-in."""
    out = np.zeros(len(repeated), bool)
    for first, last in runs(repeated):
        if last - first + 1 >= min_frozen:
            out[first : last + 1] = True
    return out


def bridged(repeated: Flags, recoded: Flags, min_frozen: int) -> Flags:
    """(T,) repeated frames, and lone re-coded ones between two of their runs, of which one has `min_frozen` or more."""
    out = repeated.copy()
    spans = runs(repeated)
    for (first, before), (after, last) in pairwise(spans.tolist()):
        longest = max(before - first, last - after) + 1
        if after - before == 2 and longest >= min_frozen and recoded[before + 1]:
            out[before + 1] = True
    return out


def least_frozen(times: Times | None, params: FrameParams) -> int:
    """Frames that a run needs: `min_frozen`, and those that fill `min_frozen_s` where the clock (T,) ns is known."""
    if times is None or len(times) < 2:
        return params.min_frozen
    period_s = float(np.median(np.diff(times))) / 1e9
    return max(params.min_frozen, int(np.ceil(params.min_frozen_s / period_s))) if period_s > 0 else params.min_frozen


def frozen_run(frozen: Flags, moving: Flags) -> tuple[int, int] | None:
    """First and last step of the run of frozen steps (T,) that holds most moving ones; None where none holds any."""
    spans = [(int(moving[first : last + 1].sum()), (first, last)) for first, last in runs(frozen)]
    count, span = max(spans, key=lambda one: one[0], default=(0, (0, 0)))
    return span if count else None


def light_findings(track: CameraTrack, times: Times | None, params: FrameParams) -> tuple[list[Finding], Flags]:
    """Black, blank and clipped shares of the shown frames; and the steps (T,) whose frame shows nothing."""
    shown = track.place >= 0
    mean, std = track.stats.mean_luma[track.place], track.stats.std_luma[track.place]
    clipped = (track.stats.clipped_high + track.stats.clipped_low)[track.place]
    black = shown & (mean <= params.black_luma) & (std <= params.black_std)
    blank = shown & ~black & (std <= params.blank_std)
    flags = {"black": black, "blank": blank, "clipped": shown & ~black & ~blank & (clipped > params.clipped_share)}
    found = [
        measured(NAME, f"frames.{name}", flag.sum() / shown.sum(), "fraction", longest_run(flag), times, track.name)
        for name, flag in flags.items()
    ]
    return found, black | blank


def is_placeholder(track: CameraTrack) -> bool:
    """True where every frame is one and the same flat colour: datasets fill the slot of an absent camera so."""
    return not track.depth and not track.stats.std_luma.any() and float(np.ptp(track.stats.mean_luma)) == 0.0


def repeated_finding(track: CameraTrack, nothing: Flags) -> Finding:
    """`frames.repeated`: share of the shown frames that equal the one before: a camera slower than its video."""
    used = np.unique(track.place[(track.place > 0) & ~nothing])
    share = float(track.stats.identical[used].mean()) if len(used) else 0.0
    return measured(NAME, "frames.repeated", share, "fraction", detail=track.name)


def frozen_findings(
    track: CameraTrack, nothing: Flags, motion: Motion | str, times: Times | None, params: FrameParams
) -> list[Finding]:
    """Share of the moving steps whose frame stands still, and the most time that the robot moves in one such run.

    Both name the whole run: a robot that rests in the middle of it does not end it.
    """
    checks = ("frames.frozen", "frames.frozen_s")
    if isinstance(motion, str) or not motion.moving.any():
        reason = motion if isinstance(motion, str) else "the robot never moves"
        return [not_run(NAME, check, f"{track.name}: {reason}") for check in checks]
    same = track.stats.identical | (track.stats.motion <= params.frozen_motion)
    same[0] = False  # no frame comes before it
    shown = (track.place >= 0) & ~nothing
    recoded = shown & (track.stats.motion <= params.recoded_motion)[track.place]
    standing = bridged(shown & same[track.place], recoded, params.min_frozen)
    frozen = frozen_steps(standing, least_frozen(times, params))
    span = frozen_run(frozen, motion.moving)
    share = (frozen & motion.moving).sum() / motion.moving.sum()
    found = [measured(NAME, "frames.frozen", share, "fraction", span, times, track.name)]
    if times is None:
        return [*found, not_run(NAME, "frames.frozen_s", f"{track.name}: no timestamps", "s")]
    seconds = 0.0
    if span is not None:
        entered = np.arange(span[0], span[1] + 1)
        entered = entered[motion.moving[entered]]
        seconds = float((times[entered] - times[np.maximum(entered - 1, 0)]).sum()) / 1e9
    return [*found, measured(NAME, "frames.frozen_s", seconds, "s", span, times, track.name)]


def look(episode: Episode, motion: Motion | str, read_images: ReadImages, params: FrameParams) -> Seen:
    """Every frame check of every camera, whose name is the detail, and the frames' hashes: each is decoded once."""
    found: list[Finding] = []
    hashes: dict[str, bytes] = {}
    times = times_ns(episode.steps)
    for camera in sorted(episode.videos):
        track = camera_track(episode, camera, read_images)
        if isinstance(track, str):
            found.append(measured(NAME, "frames.missing", 1.0, "fraction", detail=track))
            found += [not_run(NAME, check, track) for check in CHECKS]
            continue
        missing = track.place < 0
        detail = f"{camera}: {int(missing.sum())} of {len(missing)} steps"
        found.append(measured(NAME, "frames.missing", missing.mean(), "fraction", longest_run(missing), times, detail))
        if is_placeholder(track):
            reason = f"{camera}: every frame is one flat colour, luma {track.stats.mean_luma[0]:.3g}"
            found.append(measured(NAME, "frames.placeholder", 1.0, "1", detail=reason))
            found += [not_run(NAME, check, reason) for check in CHECKS]
            continue
        found.append(measured(NAME, "frames.placeholder", 0.0, "1", detail=camera))
        hashes[camera] = track.hashes(params.hash_std)
        if track.depth:
            reason = f"{camera}: depth has no luma"
            found += [not_run(NAME, check, reason) for check in CHECKS[:3]]
            nothing = np.zeros(len(missing), bool)
        else:
            light, nothing = light_findings(track, times, params)
            found += light
        found.append(repeated_finding(track, nothing))
        found += frozen_findings(track, nothing, motion, times, params)
    return Seen(found, {camera: held for camera, held in hashes.items() if any(held)})
