"""How well a changed copy of a frame finds its original among frames of other episodes of the same task, by model.

Gallery: random frames in equal parts of every video below ROBOT_DATA and of BridgeData, or of generated videos where it
is not set. A query is a frame of it that was changed (benchmarks/frame_gallery.py), or the one shortly after. `top-1`:
its original is the nearest of all. `verified`: the cosine to it is above that of 999 in 1000 pairs of frames of two
episodes of the same task, so that a threshold could tell. The default was chosen by the mean top-1 on CHOSEN_ON; what
is reported is REPORTED.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.dedup_frames import write_corpus
from benchmarks.frame_gallery import Frames, Gallery, changes, published
from benchmarks.harness import Bar, Row
from transforms.handlers.embedding import Encoder, unit_length
from transforms.handlers.frame_embedding import DESCRIPTOR, EFFICIENTNET, FrameEmbeddingHandler

MODELS = (DESCRIPTOR, EFFICIENTNET)
CHOSEN_ON, REPORTED = 20261127, 4
FALSE_ALARMS = 1e-3
_BATCH = 16
Floats = NDArray[np.float32]


def vectors(encoder: Encoder, frames: Frames) -> Floats:
    """(N, D) of length 1."""
    return unit_length(np.concatenate([encoder.encode(frames[i : i + _BATCH]) for i in range(0, len(frames), _BATCH)]))


def threshold(known: Floats, gallery: Gallery) -> float:
    """The cosine that FALSE_ALARMS of the pairs of frames of two episodes of one task exceed."""
    other = gallery.episodes[:, None] != gallery.episodes
    same_task = gallery.tasks[:, None] == gallery.tasks
    return float(np.quantile((known @ known.T)[other & same_task], 1 - FALSE_ALARMS))


def rows(quick: bool) -> list[Row]:
    """Each model on both seeds."""
    given = os.environ.get("ROBOT_DATA")
    os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder's errors alone
    share = 0.15 if quick else 1.0
    table = []
    with tempfile.TemporaryDirectory() as place:
        if given is None:
            write_corpus(Path(place))
        for seed, what in ((CHOSEN_ON, "chosen on"), (REPORTED, "reported")):
            rng = np.random.default_rng(seed)
            gallery = published(Path(given or place), rng, share)
            queries = changes(gallery, rng)
            note = f"{gallery.said()} {'below ROBOT_DATA' if given else 'generated'}, seed {seed} ({what})"
            for model in MODELS:
                table += _of_model(model, gallery, queries, seed, note)
    return table


def _of_model(model: str, gallery: Gallery, queries: dict[str, Frames], seed: int, note: str) -> list[Row]:
    encoder = FrameEmbeddingHandler(model, "cpu").load_model()
    encoder.encode(gallery.frames[:_BATCH])
    started = time.process_time()
    known = vectors(encoder, gallery.frames)
    cost = (time.process_time() - started) / len(known)
    limit = threshold(known, gallery)
    found, table = [], []
    for name, frames in queries.items():
        cosines = vectors(encoder, frames) @ known.T
        own = np.diagonal(cosines)
        first, verified = float((cosines.argmax(1) == np.arange(len(own))).mean()), float((own > limit).mean())
        found.append((first, verified))
        table.append(Row(f"{seed} {model}: {name}", first, "top-1", f"verified {verified:.3f}"))
    first, verified = np.mean(found, axis=0)
    table.append(Row(f"{seed} {model}: mean top-1", float(first), "top-1", note))
    table.append(Row(f"{seed} {model}: mean verified", float(verified), "share", f"cosine above {limit:.4f}"))
    table.append(Row(f"{seed} {model}: CPU ms a frame", 1e3 * cost, "ms", "embedded, of a square that is decoded"))
    return table


def bars() -> list[Bar]:
    """None: this chose the default."""
    return []
