"""Small JPEG pictures of frames, for people to look at; runs inside the media child process only."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import av
import numpy as np
from numpy.typing import NDArray

from transforms.media_frames import NEAR_NS, WITHIN_NS, Decoding, MediaError, image_frames, pixels, window

WIDTH, HEIGHT = 144, 112
"""A thumbnail fits in this many px."""
QUALITY = 62


def thumbnail(frame: av.VideoFrame, depth: bool) -> bytes:
    """A frame as a JPEG of at most WIDTH x HEIGHT px; depth in grey, from 0 to the frame's own largest value."""
    from PIL import Image  # the child starts sooner without it, and most of its work needs none

    if depth:
        far = pixels(frame, True).astype(np.float64)
        grey = far * (255.0 / max(1.0, float(far.max())))
        image = Image.fromarray(grey.astype(np.uint8))
    else:
        shown: NDArray[np.generic] = pixels(frame, False)
        image = Image.fromarray(shown)
    image.thumbnail((WIDTH, HEIGHT), Image.Resampling.BOX)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, optimize=True)
    return out.getvalue()


def video_thumbnails(uri: str, at_ns: Sequence[int], depth: bool, how: Decoding) -> Iterator[tuple[int, bytes]]:
    """The frame shown at each wanted stamp of the file's clock, or the next one within a second.

    Raises MediaError where there is none, and as `window` does.
    """
    for wanted in at_ns:
        found = next(window(uri, wanted - NEAR_NS, wanted + WITHIN_NS, how), None)
        if found is None:
            detail = f"{uri} has no frame within a second after {wanted} ns; the episode's stamps lie outside of it"
            raise MediaError("truncated", detail)
        yield found[0], thumbnail(found[1], depth)


def image_thumbnails(images: Sequence[bytes], depth: bool, how: Decoding) -> Iterator[tuple[int, bytes]]:
    """Encoded images, made small, by index."""
    for index, frame in image_frames(images, how):
        yield index, thumbnail(frame, depth)
