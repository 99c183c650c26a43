"""Squares of chosen frames, against PyAV and Pillow by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.factories import jpeg, write_video
from transforms.episode import VideoRef
from transforms.media import MediaDecoder, MediaParams
from transforms.media_samples import decoding_runs
from transforms.stage import Unreadable


@pytest.fixture(scope="module")
def decoder() -> Iterator[MediaDecoder]:
    with MediaDecoder(MediaParams(timeout_s=20)) as media:
        yield media


def write_h264(path: Path, frames: int, keyframe_every: int) -> None:
    """A bright square that moves, 20 frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20, options={"g": str(keyframe_every), "bf": "2"})
        stream.width = stream.height = 96
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            image = np.full((96, 96, 3), 60, np.uint8)
            image[20:60, index % 80 : index % 80 + 12] = (250, 120, 20)
            for packet in [*stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24"))]:
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


@pytest.mark.parametrize("keyframe_every", [2, 250])
def test_squares_are_the_frames_at_the_stamps(decoder: MediaDecoder, tmp_path: Path, keyframe_every: int) -> None:
    path = tmp_path / "a.mp4"
    write_h264(path, 60, keyframe_every)
    with av.open(str(path)) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    wanted = (0, 1, 7, 26, 26, 59)
    found = decoder.video_squares(VideoRef(str(path), 0, 0), [index * 50_000_000 for index in wanted], 32)
    expected = [np.asarray(Image.fromarray(shown[i]).resize((32, 32), Image.Resampling.BICUBIC)) for i in wanted]
    assert found.dtype == np.uint8 and np.array_equal(found, np.stack(expected))


def test_frames_between_two_keyframes_are_decoded_in_one_go() -> None:
    assert decoding_runs([10, 20, 30, 90, 95], [0, 0, 25, 80, 95]) == [[10, 20], [30], [90], [95]]
    assert decoding_runs([10, 20, 30], [0, 10, 20]) == [[10, 20, 30]] and decoding_runs([], []) == []


def test_images_keep_their_order(decoder: MediaDecoder) -> None:
    found = decoder.image_squares([jpeg(1, 64), jpeg(2, 32)], 16)
    assert found.shape == (2, 16, 16, 3) and decoder.image_squares([], 16).shape == (0, 16, 16, 3)
    assert np.array_equal(found[1], decoder.image_squares([jpeg(2, 32)], 16)[0])


def test_what_cannot_be_shown_says_why(decoder: MediaDecoder, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, 20, fps=20)
    with pytest.raises(Unreadable, match="has no frame within a second after 5000000000 ns"):
        decoder.video_squares(VideoRef(str(path), 0, 0), [0, 5_000_000_000], 16)
    with pytest.raises(Unreadable, match="does not exist"):
        decoder.video_squares(VideoRef(str(tmp_path / "b.mp4"), 0, 0), [0], 16)
    with pytest.raises(Unreadable, match="neither JPEG nor PNG"):
        decoder.image_squares([jpeg(1), b"nothing"], 16)
