"""Small pictures of frames: which frame, what size, and what is said of a broken file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.factories import jpeg, write_video
from transforms.episode import VideoRef
from transforms.media import MediaDecoder, MediaParams
from transforms.media_thumbnails import HEIGHT, WIDTH
from transforms.sources.png import encode_png
from transforms.stage import Unreadable


@pytest.fixture(scope="module")
def decoder() -> Iterator[MediaDecoder]:
    with MediaDecoder(MediaParams(timeout_s=20)) as media:
        yield media


def grey(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("L"), float)


def test_thumbnails_of_a_video_show_the_frames_at_the_stamps(decoder: MediaDecoder, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, 40, fps=20, size=64)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="gray").astype(float) for frame in container.decode(video=0)]
    wanted = (0, 7, 26, 39)
    found = decoder.video_thumbnails(VideoRef(str(path), 0, 0), [index * 50_000_000 for index in wanted])
    for index, picture in zip(wanted, found, strict=True):
        apart = [np.abs(grey(picture) - frame).mean() for frame in frames]
        assert int(np.argmin(apart)) == index, "the square moves 3 px from frame to frame"


def test_pictures_fit_in_their_box_and_keep_their_shape(decoder: MediaDecoder) -> None:
    wide = io.BytesIO()
    Image.new("RGB", (1280, 320), (200, 30, 30)).save(wide, "JPEG")
    found = [Image.open(io.BytesIO(p)) for p in decoder.image_thumbnails([wide.getvalue(), jpeg(1, 32)])]
    assert [image.size for image in found] == [(WIDTH, WIDTH // 4), (32, 32)] and HEIGHT < WIDTH
    assert np.allclose(np.asarray(found[0])[10, 10], (200, 30, 30), atol=6)


def test_depth_is_grey_from_zero_to_its_largest_value(decoder: MediaDecoder) -> None:
    depth = np.zeros((64, 64), np.uint16)
    depth[:, 32:] = 1200
    (picture,) = decoder.image_thumbnails([encode_png(depth)], depth=True)
    assert grey(picture)[5, 5] < 12 and grey(picture)[5, 60] > 243


def test_a_file_that_cannot_be_shown_says_why(decoder: MediaDecoder, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, 20)
    with pytest.raises(Unreadable, match="has no frame within a second after 9000000000 ns"):
        decoder.video_thumbnails(VideoRef(str(path), 0, 0), [9_000_000_000])
    with pytest.raises(Unreadable, match="does not exist"):
        decoder.video_thumbnails(VideoRef(str(tmp_path / "b.mp4"), 0, 0), [0])
    with pytest.raises(Unreadable, match="neither JPEG nor PNG"):
        decoder.image_thumbnails([b"<script>"])
    assert decoder.image_thumbnails([]) == []
