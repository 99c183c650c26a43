"""Perceptual hashes: by hand, through real codecs, and on recordings by others."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.encoded import read_frames, write_frames
from tests.factories import write_video
from transforms.episode import VideoRef
from transforms.frame_hashes import HASH_BYTES, distances, frame_hash, has_hash
from transforms.media import shared_decoder

WHOLE = 10**15


def hashes(path: Path) -> np.ndarray:
    return shared_decoder().video_stats(VideoRef(str(path), 0, WHOLE)).hash


def test_a_bit_is_a_frequency_above_the_median():
    """A ramp along x has only the frequencies (k, 0), which are left out; a product of two waves has one."""
    cells = (np.arange(64) + 0.5) * np.pi / 64
    wave = 128 + 100 * np.outer(np.cos(3 * cells), np.cos(5 * cells))
    bits = np.unpackbits(frame_hash(wave)).reshape(16, 16)
    assert bits[2, 4] == 1  # frequencies begin at 1
    inverse = np.unpackbits(frame_hash(256 - wave)).reshape(16, 16)
    assert inverse[2, 4] == 0


def test_brightness_and_contrast_change_nothing_and_another_picture_half_of_the_bits():
    grey = np.random.default_rng(1).uniform(60, 160, (64, 64))
    base = frame_hash(grey)
    for changed in (grey + 30, grey - 40, grey * 1.5, grey * 0.5):
        assert distances(base[None], frame_hash(changed)[None])[0] <= 4  # rounding to a sixteenth
    assert np.unpackbits(base).sum() == 128
    other = frame_hash(np.random.default_rng(2).uniform(60, 160, (64, 64)))
    assert 90 < distances(base[None], other[None])[0] < 166


def test_what_shows_nothing_has_no_hash():
    assert not frame_hash(np.full((64, 64), 93.0)).any()
    assert not frame_hash(np.random.default_rng(1).uniform(0, 255, (16, 64))).any()
    assert frame_hash(np.random.default_rng(1).uniform(0, 255, (17, 17))).any()
    assert has_hash(np.array([[0] * HASH_BYTES, [0] * 31 + [1]], np.uint8)).tolist() == [False, True]


@pytest.mark.parametrize(
    ("codec", "crf", "scale", "brightness"),
    [("libx264", 34, 1.0, 0.0), ("libvpx-vp9", 40, 1.0, 0.0), ("libsvtav1", 45, 1.0, 0.0), ("libx264", 23, 0.5, 25.0)],
)
def test_frames_outlive_codecs_scaling_and_brightness(tmp_path, codec, crf, scale, brightness):
    write_video(tmp_path / "raw.mp4", 30, size=128, seed=3)
    frames = read_frames(tmp_path / "raw.mp4")
    copy = write_frames(tmp_path / "copy.mp4", frames, codec, crf, scale, brightness)
    write_video(tmp_path / "other.mp4", 30, size=128, seed=4)
    base = hashes(tmp_path / "raw.mp4")
    assert base.shape == (30, HASH_BYTES)
    assert distances(base, hashes(copy)).max() <= 48
    assert distances(base, hashes(tmp_path / "other.mp4")).min() > 64


ROBOT_DATA = os.environ.get("ROBOT_DATA")
REAL = {
    "lerobot_v21_g1": "lerobot_v21_g1/videos/chunk-000/observation.images.cam_high/episode_{:06d}.mp4",
    "gr00t": "gr00t/robot_sim.PickNPlace/videos/chunk-000/observation.images.ego_view/episode_{:06d}.mp4",
}


@pytest.mark.skipif(ROBOT_DATA is None, reason="ROBOT_DATA names no folder of real recordings")
@pytest.mark.parametrize("source", REAL)
def test_real_videos_match_their_copies_and_other_episodes_do_not(tmp_path, source):
    """40 frames of a Unitree G1 (640x480 AV1) and of a GR1 in simulation (256x256 H.264)."""
    one, two = (read_frames(Path(ROBOT_DATA, REAL[source].format(i)), 40) for i in (1, 2))
    base = hashes(write_frames(tmp_path / "one.mp4", one, crf=10))
    for index, how in enumerate(
        (
            {"crf": 36},
            {"codec": "libsvtav1", "crf": 45},
            {"codec": "libvpx-vp9", "crf": 40, "scale": 0.5},
            {"crf": 28, "scale": 0.25, "brightness": 20},
        )
    ):
        copy = hashes(write_frames(tmp_path / f"{index}.mp4", one, **how))
        assert distances(base, copy).max() <= 24
    assert np.median(distances(base, hashes(write_frames(tmp_path / "two.mp4", two, crf=10)))) > 64
