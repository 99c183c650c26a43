"""Chosen frames of a video as small squares of pixels, for models; runs inside the media child process only."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import av
import numpy as np
from numpy.typing import NDArray

from transforms.media_frames import (
    NEAR_NS,
    WITHIN_NS,
    Decoding,
    MediaError,
    image_frames,
    keys_before,
    pixels,
    window,
)

Square = NDArray[np.uint8]


def square(frame: av.VideoFrame, size: int) -> Square:
    """The whole frame, bicubic, as (size, size, 3) uint8 RGB: Pillow's integers, the same on any machine."""
    from PIL import Image  # the child starts sooner without it, and most of its work needs none

    shown = Image.fromarray(pixels(frame, False))
    return np.asarray(shown.resize((size, size), Image.Resampling.BICUBIC))


def video_squares(uri: str, at_ns: Sequence[int], size: int, how: Decoding) -> Iterator[tuple[int, Square]]:
    """The frame shown at each of the growing stamps of the file's clock, or the next one within a second.

    Decodes on from one wanted frame to the next, and seeks only where a keyframe lies between. Raises MediaError where
    there is no such frame, and as `window` does.
    """
    for run in decoding_runs(at_ns, keys_before(uri, at_ns, how)):
        waiting = deque(run)
        for pts, frame in window(uri, run[0] - NEAR_NS, run[-1] + WITHIN_NS, how):
            while waiting and waiting[0] - NEAR_NS <= pts <= waiting[0] + WITHIN_NS:
                waiting.popleft()
                yield pts, square(frame, size)
            if not waiting or pts > waiting[0] + WITHIN_NS:
                break
        if waiting:
            detail = f"{uri} has no frame within a second after {waiting[0]} ns; the episode's stamps lie outside of it"
            raise MediaError("truncated", detail)


def decoding_runs(at_ns: Sequence[int], keys_ns: Sequence[int]) -> list[list[int]]:
    """Stamps that are decoded in one go: a run ends where the next one's keyframe comes after its last."""
    runs: list[list[int]] = []
    for wanted, key in zip(at_ns, keys_ns, strict=True):
        if runs and key <= runs[-1][-1]:
            runs[-1].append(wanted)
        else:
            runs.append([wanted])
    return runs


def image_squares(images: Sequence[bytes], size: int, how: Decoding) -> Iterator[tuple[int, Square]]:
    """Encoded images, made small squares, by index."""
    for index, frame in image_frames(images, how):
        yield index, square(frame, size)
