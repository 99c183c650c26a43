"""The corpus of the benchmark of duplicate episodes: trials of few tasks, planted copies, and replays that are none.

Of each chosen trial there are, with pictures: the trial; a re-encoding; a crop; a resampling; the same under another
instruction; and a replay: the same motion before another camera, as a simulator renders it anew. All trials of a task
have one instruction and one room.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from benchmarks.episode_trials import (
    RATE_HZ,
    Closeness,
    Floats,
    Task,
    Trial,
    cropped,
    make_task,
    make_trial,
    resampled,
    rounded,
)
from benchmarks.episode_views import Encoding, Frames, Scene, any_encoding, encode, film, make_scene
from transforms.arrays import list_column
from transforms.deduplication.fingerprint import FingerprintParams, fingerprint
from transforms.episode import IMAGES, PTS_SUFFIX, Episode, VideoRef
from transforms.evidence import Fingerprint
from transforms.frames import FrameParams, look
from transforms.schema import GRIPPER, JOINT_POSITION

Kind = Literal["re-encoded", "cropped", "resampled", "relabelled", "replayed"]
COPIES: tuple[Kind, ...] = ("re-encoded", "cropped", "resampled", "relabelled")
TASKS = 8
LEAST_KEPT = 0.85
RATES = (0.5, 2.0)
_OTHER_TEXT = "open the drawer and take out the towel"
CAMERA = "top"


@dataclass(frozen=True)
class Corpus:
    """Fingerprints of all episodes; `kind_of` names what a planted one is, `copy_of` which trial it is a copy of."""

    fingerprints: Sequence[Fingerprint]
    kind_of: Mapping[str, Kind]
    copy_of: Mapping[str, str]


@dataclass(frozen=True)
class Planted:
    """One chosen trial and all that its copies need, so that any process makes the same of it."""

    name: str
    trial: Trial
    scene: Scene
    seed: int


def make_corpus(seed: int, trials: int, pairs: int, how: Closeness) -> Corpus:
    """`trials` demonstrations dealt over the tasks, of which `pairs` have copies; the same for the same arguments."""
    rng = np.random.default_rng(seed)
    tasks = [make_task(rng, number) for number in range(TASKS)]
    scenes = [make_scene(rng) for _ in tasks]
    made = [(f"task{index % TASKS}/{index:06d}", make_trial(rng, tasks[index % TASKS], how)) for index in range(trials)]
    chosen = set(rng.choice(trials, pairs, replace=False).tolist())
    planted = [
        Planted(name, trial, scenes[trial.task], seed * 1_000_003 + index)
        for index, (name, trial) in enumerate(made)
        if index in chosen
    ]
    found = [bare(name, trial) for index, (name, trial) in enumerate(made) if index not in chosen]
    kind_of: dict[str, Kind] = {}
    copy_of: dict[str, str] = {}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for one, its in zip(planted, pool.map(with_copies, planted, chunksize=4), strict=True):
            found += its
            for kind in (*COPIES, "replayed"):
                kind_of[f"{one.name}.{kind}"] = kind  # type: ignore[index]
                copy_of[f"{one.name}.{kind}"] = one.name
    return Corpus(found, kind_of, copy_of)


def tasks_of(seed: int, count: int) -> list[Task]:
    """Tasks alone, for measurements that need no corpus."""
    rng = np.random.default_rng(seed)
    return [make_task(rng, number) for number in range(count)]


def steps_of(trial: Trial) -> pa.RecordBatch:
    """A trial's canonical columns."""
    return pa.RecordBatch.from_pydict(
        {JOINT_POSITION: list_column(trial.joints), GRIPPER: list_column(trial.gripper.astype(np.float64))}
    )


def bare(name: str, trial: Trial) -> Fingerprint:
    """The fingerprint of a trial that no camera saw."""
    return fingerprint(_episode(name, trial, steps_of(trial)), FingerprintParams())


def seen(name: str, trial: Trial, video: Path) -> Fingerprint:
    """The fingerprint of a trial whose T steps are the T frames of a video, decoded and hashed as the pipeline does."""
    steps = steps_of(trial)
    pts = np.rint(np.arange(steps.num_rows) * (1e9 / RATE_HZ)).astype(np.int64)
    steps = steps.append_column(f"{IMAGES}{CAMERA}{PTS_SUFFIX}", pa.array(pts))
    episode = _episode(name, trial, steps)
    ref = VideoRef(str(video), 0, int(pts[-1]))
    episode = replace(episode, videos={CAMERA: ref})
    shown = look(episode, "not asked", lambda ref, places: [], FrameParams())
    return fingerprint(replace(episode, frame_hashes=shown.hashes), FingerprintParams())


def _episode(name: str, trial: Trial, steps: pa.RecordBatch) -> Episode:
    return Episode(name, "trials", "arm", "", "lerobot", steps, instruction=trial.text, content_id=name)


def with_copies(one: Planted) -> list[Fingerprint]:
    """A chosen trial, its copies and its replay."""
    rng = np.random.default_rng(one.seed)
    with tempfile.TemporaryDirectory() as folder:
        return list(_filmed(one, rng, Path(folder)))


def _filmed(one: Planted, rng: np.random.Generator, folder: Path) -> Iterator[Fingerprint]:
    frames = film(rng, one.scene, one.trial)
    yield _shown(one.name, one.trial, frames, folder / "trial.mp4", Encoding())
    name = f"{one.name}.re-encoded"
    yield _shown(name, rounded(one.trial), frames, folder / "re-encoded.mp4", any_encoding(rng))
    for kind, (trial, places) in (
        ("cropped", cropped(rng, one.trial, LEAST_KEPT)),
        ("resampled", resampled(rng, one.trial, float(np.exp(rng.uniform(*np.log(RATES)))))),
    ):
        yield _shown(f"{one.name}.{kind}", trial, at(frames, places), folder / f"{kind}.mp4", Encoding(quality=28))
    other = replace(rounded(one.trial), text=_OTHER_TEXT)
    yield _shown(f"{one.name}.relabelled", other, frames, folder / "relabelled.mp4", Encoding(quality=28))
    replay = film(rng, make_scene(rng), one.trial)
    yield _shown(f"{one.name}.replayed", one.trial, replay, folder / "replayed.mp4", Encoding())


def at(frames: Frames, places: Floats) -> Frames:
    """The frames shown at fractional places: cameras do not interpolate."""
    return frames[np.minimum(np.rint(places).astype(np.int64), len(frames) - 1)]


def _shown(name: str, trial: Trial, frames: Frames, path: Path, how: Encoding) -> Fingerprint:
    encode(frames, path, how)
    return seen(name, trial, path)
