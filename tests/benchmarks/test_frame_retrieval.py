"""The gallery of frames, and the threshold that rivals set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.dedup_frame_retrieval import threshold
from benchmarks.frame_gallery import Gallery, changes, published
from tests.factories import write_video


def test_the_threshold_is_set_by_other_episodes_of_the_same_task() -> None:
    frames = np.zeros((4, 1, 1, 3), np.uint8)
    gallery = Gallery(frames, frames, np.array([0, 0, 1, 2]), np.array([0, 0, 0, 1]))
    vectors = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [1, 0]], np.float32)
    # pairs of two episodes of one task: frames 0 and 2 (0.6), 1 and 2 (0.96); frame 3 is of another task
    assert threshold(vectors, gallery) == pytest.approx(0.96, abs=1e-3)


def test_the_gallery_holds_what_the_videos_show(tmp_path: Path) -> None:
    for task in ("a", "b"):
        for index in range(2):
            write_video(tmp_path / task / f"{index}.mp4", 60, seed=10 * (task == "b") + index)
    gallery = published(tmp_path, np.random.default_rng(3), 0.25)
    assert gallery.said() == f"{len(gallery.frames)} frames, 4 episodes, 2 tasks"
    assert gallery.frames.shape[1:] == (224, 224, 3) and gallery.frames.shape == gallery.neighbours.shape
    assert gallery.tasks[np.flatnonzero(np.diff(gallery.episodes)) + 1].tolist() == [0, 1, 1]
    again = published(tmp_path, np.random.default_rng(3), 0.25)
    assert np.array_equal(gallery.frames, again.frames), "the seed alone decides"
    made = changes(gallery, np.random.default_rng(4))
    assert all(changed.shape == gallery.frames.shape for changed in made.values())
    far = np.abs(gallery.frames.astype(int)[:, None] - gallery.frames.astype(int)).mean((2, 3, 4))
    for name in ("another codec", "JPEG of quality 15 to 40", "48 to 112 px and back"):
        off = np.abs(made[name].astype(int) - gallery.frames).mean((1, 2, 3))
        assert 0 < off.max() < far[far > 0].max() / 2, name
