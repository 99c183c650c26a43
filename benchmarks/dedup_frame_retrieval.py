"""How well a changed copy of a frame finds its original, by the frame models that are shipped.

Gallery: frames at equal parts of the videos below ROBOT_DATA, or of generated ones where it is not set; frames of one
video are hard to tell apart. A query is a frame changed in one way, or in several; a hit is its own original as the
nearest. Seed 0.
"""

from __future__ import annotations

import io
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.dedup_frames import write_corpus
from benchmarks.harness import Bar, Row
from transforms.episode import VideoRef
from transforms.handlers.embedding import Encoder, unit_length
from transforms.handlers.frame_embedding import DESCRIPTOR, EFFICIENTNET, FrameEmbeddingHandler
from transforms.media import MediaDecoder

SIZE = 256
FRAMES_PER_VIDEO = 8
MODELS = (DESCRIPTOR, EFFICIENTNET)
_MEAN = "mean over the changes"
Frame = NDArray[np.uint8]


def gallery(folder: Path, per_video: int) -> list[Frame]:
    """Frames of every video below a folder, as squares."""
    found: list[Frame] = []
    with MediaDecoder() as media:
        for path in sorted(folder.rglob("*.mp4")):
            stamps = media.probe(str(path)).pts_ns
            at = [int(stamps[(2 * i + 1) * len(stamps) // (2 * per_video)]) for i in range(per_video)]
            found += list(media.video_squares(VideoRef(str(path), 0, 0), at, SIZE))
    return found


def _coded(frame: Frame, quality: int) -> Frame:
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "JPEG", quality=quality)
    return np.asarray(Image.open(out))


def _scaled(frame: Frame, size: int) -> Frame:
    return np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BICUBIC))


def changes() -> Mapping[str, Callable[[Frame], Frame]]:
    """Name -> what is done to a frame; a crop keeps 85 % of the area, at a random place."""
    rng = np.random.default_rng(0)

    def crop(frame: Frame) -> Frame:
        kept = int(SIZE * np.sqrt(0.85))
        top, left = rng.integers(0, SIZE - kept + 1, 2)
        return _scaled(frame[top : top + kept, left : left + kept], SIZE)

    def brighter(frame: Frame) -> Frame:
        return np.clip(frame * 1.15 + 8, 0, 255).astype(np.uint8)

    return {
        "JPEG of quality 20": lambda frame: _coded(frame, 20),
        "crop keeping 85 %": crop,
        "15 % brighter": brighter,
        "96 px and back": lambda frame: _scaled(_scaled(frame, 96), SIZE),
        "cropped, brighter, JPEG 30": lambda frame: _coded(brighter(crop(frame)), 30),
    }


def rows(quick: bool) -> list[Row]:
    """Top-1 of each model for each change."""
    given = os.environ.get("ROBOT_DATA")
    with tempfile.TemporaryDirectory() as place:
        if given is None:
            write_corpus(Path(place))
        frames = gallery(Path(given or place), 2 if quick else FRAMES_PER_VIDEO)
    queries = {name: [change(frame) for frame in frames] for name, change in changes().items()}
    videos = "videos below ROBOT_DATA" if given else "generated videos"
    table = []
    for model in MODELS:
        encoder = FrameEmbeddingHandler(model, "cpu").load_model()

        def vectors(some: list[Frame], encoder: Encoder = encoder) -> NDArray[np.float32]:
            return unit_length(np.concatenate([encoder.encode(some[i : i + 16]) for i in range(0, len(some), 16)]))

        started = time.process_time()
        known = vectors(frames)
        cost = (time.process_time() - started) / len(frames)
        hits = {
            name: float(((vectors(q) @ known.T).argmax(1) == np.arange(len(q))).mean()) for name, q in queries.items()
        }
        note = f"{len(frames)} frames of {videos}"
        table += [Row(f"{model}: {name}", hit, "top-1", note) for name, hit in hits.items()]
        table.append(Row(f"{model}: {_MEAN}", float(np.mean(list(hits.values()))), "top-1", note))
        table.append(Row(f"{model}: CPU ms a frame", 1e3 * cost, "ms", "resized and embedded"))
    return table


def bars() -> list[Bar]:
    """None: this chose the default."""
    return []
