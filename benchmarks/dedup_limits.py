"""How far a copy of an episode may be from its original before fewer than 98 % of such copies are found.

Each row is the last level, from the mildest on, at which recall holds; its note has the recall of every level. Trials
are those of benchmarks/episode_trials.py at 10 Hz, a crop takes a window at random. Motion is found where the pair
meets in a band and its exact similarity reaches the threshold; frames are found where the channel agrees.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.dedup_episodes import SCALE, SEED
from benchmarks.episode_corpus import CAMERA, TASKS, bare, seen, tasks_of
from benchmarks.episode_trials import Closeness, Trial, cropped, make_trial, noisy, resampled
from benchmarks.episode_views import Encoding, encode, film, make_scene
from benchmarks.harness import Bar, Row
from transforms.deduplication.agreement import frames_similarity, shingle_array, verify
from transforms.deduplication.deduplicator import DedupParams
from transforms.deduplication.minhash import band_keys, permutations, signatures
from transforms.evidence import Fingerprint

RECALL = 0.98
MOTIONS, FILMS = 400, 32
PARAMS = DedupParams()
_Change = Callable[[np.random.Generator, Trial, float], Trial]


@dataclass(frozen=True)
class Disturbance:
    """What is done to a trial, at levels from mild to strong; `unit` is of a level."""

    name: str
    unit: str
    levels: Sequence[float]
    change: _Change


def _shifted(rng: np.random.Generator, trial: Trial, step: float) -> Trial:
    return trial.at(np.arange(step, len(trial.joints) - 1, 1.0))


MOTION = (
    Disturbance(
        "fewer samples", "of the rate", (0.75, 0.5, 0.4, 0.3, 0.25, 0.2), lambda r, t, v: resampled(r, t, v)[0]
    ),
    Disturbance("more samples", "of the rate", (1.5, 2.0, 5.0, 10.0), lambda r, t, v: resampled(r, t, v)[0]),
    Disturbance("sampled later", "of a step", (0.1, 0.3, 0.5, 0.7, 0.9), _shifted),
    Disturbance("cropped", "of the steps", (0.95, 0.9, 0.85, 0.8, 0.75, 0.7), lambda r, t, v: cropped(r, t, v, v)[0]),
    Disturbance("noise on joints", "rad", (0.001, 0.002, 0.003, 0.004, 0.005, 0.007, 0.01), noisy),
)
FRAMES: Mapping[tuple[str, str], Sequence[tuple[float, Encoding]]] = {
    ("H.264", "crf"): [(crf, Encoding(quality=crf)) for crf in (23, 28, 32, 36, 40, 44)],
    ("AV1", "crf"): [(crf, Encoding("libsvtav1", crf)) for crf in (30, 40, 50, 58)],
    ("smaller", "of both sides"): [(part, Encoding(scale=part)) for part in (0.75, 0.5, 0.35, 0.25)],
    ("brighter", "of 255"): [(more, Encoding(brightness=more)) for more in (20.0, 40.0, 60.0, 80.0)],
    ("darker", "of 255"): [(less, Encoding(brightness=-less)) for less in (20.0, 40.0, 60.0)],
}
Key = tuple[str, str, float]


def bars() -> list[Bar]:
    """Crops, resampling and a shift as the corpus plants them must lie within the limits."""
    return [
        Bar(_name("cropped"), "max", 0.85),
        Bar(_name("fewer samples"), "max", 0.5),
        Bar(_name("more samples"), "min", 2.0),
        Bar(_name("sampled later"), "min", 0.5),
    ]


def rows(quick: bool = False) -> list[Row]:
    """Measure every disturbance of motions, then of frames."""
    return [*_motion_rows(40 if quick else MOTIONS), *_frame_rows(4 if quick else FILMS)]


def _name(what: str) -> str:
    return f"limit: {what}"


def _limit(name: str, unit: str, recalls: Sequence[tuple[float, float]], note: str) -> Row:
    held: float | None = None
    for level, recall in recalls:
        if recall < RECALL:
            break
        held = level
    each = ", ".join(f"{level:g}: {recall:.3f}" for level, recall in recalls)
    return Row(_name(name), held, unit, f"recall by level {each}; {note}")


def _motion_rows(count: int) -> Iterator[Row]:
    rng = np.random.default_rng(SEED)
    tasks = tasks_of(SEED, TASKS)
    trials = [make_trial(rng, tasks[index % TASKS], Closeness().scaled(SCALE)) for index in range(count)]
    bases = [bare("a", trial) for trial in trials]
    for one in MOTION:
        recalls = []
        for level in one.levels:
            copies = [bare("b", one.change(rng, trial, level)) for trial in trials]
            recalls.append((level, float(np.mean([found(a, b) for a, b in zip(bases, copies, strict=True)]))))
        yield _limit(one.name, one.unit, recalls, f"{count} trials, seed {SEED}")


def found(a: Fingerprint, b: Fingerprint) -> bool:
    """Whether a pair meets in a band and is verified."""
    shingles = [shingle_array(one.trajectory_shingles) for one in (a, b)]
    if not all(map(len, shingles)):
        return False
    perms = permutations(PARAMS.bands * PARAMS.rows, PARAMS.seed)
    offsets = np.cumsum([0, *map(len, shingles)])
    keys = band_keys(signatures(np.concatenate(shingles), offsets, perms), PARAMS.bands, PARAMS.rows)
    return bool((keys[0] == keys[1]).any()) and verify(a, b, PARAMS) is not None


def _frame_rows(count: int) -> Iterator[Row]:
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        told = list(pool.map(_films, range(count)))
    for (name, unit), levels in FRAMES.items():
        recalls = [(level, float(np.mean([one[name, unit, level] for one in told]))) for level, _ in levels]
        yield _limit(f"frames, {name}", unit, recalls, f"{count} films of 128 x 96 px, seed {SEED}")


def _films(index: int) -> dict[Key, bool]:
    """Whether the frames of each encoding of one film agree with the film's."""
    rng = np.random.default_rng(SEED + 1 + index)
    trial = make_trial(rng, tasks_of(SEED, TASKS)[index % TASKS], Closeness().scaled(SCALE))
    frames = film(rng, make_scene(rng), trial)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{CAMERA}.mp4"
        encode(frames, path, Encoding())
        base = seen("a", trial, path)
        told = {}
        for (name, unit), levels in FRAMES.items():
            for level, how in levels:
                encode(frames, path, how)
                share = frames_similarity(base.frames, seen("b", trial, path).frames, PARAMS)
                told[name, unit, level] = share is not None and share >= PARAMS.frames_share
    return told
