"""Frames of published episodes, and what may have happened to a copy of one: for `dedup_frame_retrieval`."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.episode_views import Encoding, any_encoding, encode
from transforms.conventions import Source
from transforms.episode import ImageRef, VideoRef
from transforms.handlers.efficientnet_lite import PIXELS
from transforms.loader import ReadRecording, plan, read_images
from transforms.media import MediaDecoder

Frames = NDArray[np.uint8]
BRIDGE = "rlds/bridge_dataset/1.0.0"
PER_VIDEO, PER_BRIDGE = 20, 5
"""Frames of an episode: of a video, and of BridgeData's ten steps, of which every other one is a neighbour."""
_MOST_NEAR_S = 0.2
_SAME = 1.0
"""Mean difference (0..255) below which two frames of an episode are one: a robot that stands still."""


@dataclass(frozen=True)
class Gallery:
    """`frames` (N, PIXELS, PIXELS, 3), for each a frame shown shortly after it, its episode and its task (N,)."""

    frames: Frames
    neighbours: Frames
    episodes: NDArray[np.int64]
    tasks: NDArray[np.int64]

    def said(self) -> str:
        """How much it is."""
        return f"{len(self.frames)} frames, {len(set(self.episodes))} episodes, {len(set(self.tasks))} tasks"


@dataclass(frozen=True)
class _Shown:
    task: str
    frames: Frames
    neighbours: Frames


def published(folder: Path, rng: np.random.Generator, share: float = 1.0) -> Gallery:
    """Random frames in equal parts of every video below a folder, and of BridgeData where it lies there."""
    with MediaDecoder() as media:
        count = max(2, int(PER_VIDEO * share))
        shown = [_of_video(media, path, rng, count) for path in sorted(folder.rglob("*.mp4"))]
        if (folder / BRIDGE).exists():
            shown += _of_bridge(media, folder / BRIDGE, rng, share)
    tasks = sorted({one.task for one in shown})
    frames, neighbours, episodes, labels = [], [], [], []
    for index, one in enumerate(shown):
        kept = _distinct(one.frames)
        frames.append(one.frames[kept])
        neighbours.append(one.neighbours[kept])
        episodes += [index] * len(kept)
        labels += [tasks.index(one.task)] * len(kept)
    return Gallery(np.concatenate(frames), np.concatenate(neighbours), np.array(episodes), np.array(labels))


def _of_video(media: MediaDecoder, path: Path, rng: np.random.Generator, count: int) -> _Shown:
    """A video is an episode; those of one folder are of one task."""
    stamps = media.probe(str(path)).pts_ns
    period = max(1, int(np.median(np.diff(stamps))))
    most = max(1, int(_MOST_NEAR_S * 1e9 / period))
    edges = np.linspace(0, len(stamps) - 1 - most, count + 1).astype(np.int64)
    at = np.array([rng.integers(low, max(low + 1, high - most)) for low, high in pairwise(edges)])
    near = at + rng.integers(1, most + 1, count)
    both = np.unique(np.concatenate([at, near]))
    squares = media.video_squares(VideoRef(str(path), 0, 0), stamps[both].tolist(), PIXELS)
    return _Shown(str(path.parent), squares[np.searchsorted(both, at)], squares[np.searchsorted(both, near)])


def _of_bridge(media: MediaDecoder, folder: Path, rng: np.random.Generator, share: float) -> list[_Shown]:
    source = Source("bridge", str(folder), splits=("train",))
    reader = ReadRecording({"bridge": source}, {})
    found = []
    refs = list(plan(source))
    for ref in refs[: max(2, int(len(refs) * share))]:
        (recording,) = reader.process_element(ref)
        camera = recording.videos["image_0"]
        assert isinstance(camera, ImageRef)
        squares = media.image_squares(read_images(camera, range(camera.count)), PIXELS)
        at = 2 * np.arange(min(PER_BRIDGE, camera.count // 2)) + rng.integers(0, 2)
        at = at[at + 1 < len(squares)]
        found.append(_Shown(recording.utterances[0].text, squares[at], squares[at + 1]))
    return found


def _distinct(frames: Frames) -> list[int]:
    """Frames of an episode without those that look like one before."""
    kept: list[int] = []
    small = frames[:, ::4, ::4].astype(np.int16)
    for place in range(len(frames)):
        if all(np.abs(small[place] - small[other]).mean() >= _SAME for other in kept):
            kept.append(place)
    return kept


def _sized(frame: Frames, size: int) -> Frames:
    return np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BICUBIC))


def _coded(frames: Frames, how: Encoding) -> Frames:
    """The frames through a video codec and back."""
    with tempfile.TemporaryDirectory() as folder, MediaDecoder() as media:
        path = Path(folder) / "copy.mp4"
        encode(frames, path, how, 10.0)
        stamps = media.probe(str(path)).pts_ns.tolist()
        return media.video_squares(VideoRef(str(path), 0, 0), stamps, PIXELS)


def _jpeg(frame: Frames, quality: int) -> Frames:
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "JPEG", quality=quality)
    return np.asarray(Image.open(out))


def _lit(frame: Frames, rng: np.random.Generator) -> Frames:
    return np.clip(frame * rng.uniform(0.8, 1.25) + rng.uniform(-25, 25), 0, 255).astype(np.uint8)


def _cropped(frame: Frames, rng: np.random.Generator) -> Frames:
    """85 % of the area, at a random place."""
    kept = int(len(frame) * np.sqrt(0.85))
    top, left = rng.integers(0, len(frame) - kept + 1, 2)
    return _sized(frame[top : top + kept, left : left + kept], PIXELS)


def changes(gallery: Gallery, rng: np.random.Generator) -> dict[str, Frames]:
    """Name -> every frame of the gallery, changed."""

    def each(change: Callable[[Frames], Frames]) -> Frames:
        return np.stack([change(frame) for frame in gallery.frames])

    def all_at_once(frame: Frames) -> Frames:
        return _jpeg(_lit(_cropped(frame, rng), rng), int(rng.integers(20, 60)))

    def again(frames: Frames) -> Frames:
        how = any_encoding(rng)
        return _coded(frames, Encoding(how.codec, how.quality))

    return {
        "another codec": np.concatenate([again(some) for some in _by_episode(gallery)]),
        "JPEG of quality 15 to 40": each(lambda frame: _jpeg(frame, int(rng.integers(15, 41)))),
        "48 to 112 px and back": each(lambda frame: _sized(_sized(frame, int(rng.integers(48, 113))), PIXELS)),
        "another exposure": each(lambda frame: _lit(frame, rng)),
        "crop keeping 85 %": each(lambda frame: _cropped(frame, rng)),
        "crop, exposure and JPEG": each(all_at_once),
        "a frame up to 0.2 s later": gallery.neighbours,
    }


def _by_episode(gallery: Gallery) -> Sequence[Frames]:
    return np.split(gallery.frames, np.flatnonzero(np.diff(gallery.episodes)) + 1)
