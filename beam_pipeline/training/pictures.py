"""Pixels of a step: encoded images and frames of videos, decoded in the process that trains."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from beam_pipeline.training.errors import TrainingDataError
from transforms.media_frames import to_ns

Pixels = NDArray[np.generic]
"""(H, W, 3) uint8 RGB, or (H, W) uint16 of depth."""
_OPEN_VIDEOS, _RECENT_FRAMES = 8, 16
_TOLERANCE_NS = 500_000
"""Rows hold the stamps of frames themselves, as float64 seconds."""
_NEAR_NS = 2_000_000_000
"""Up to here decoding on is taken to be quicker than seeking."""


def decode_image(data: bytes, place: str) -> Pixels:
    """An encoded image; raises TrainingDataError where it cannot be decoded."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode.startswith("I"):
                return np.asarray(image).astype(np.uint16)
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise TrainingDataError(f"{place}: its {len(data)} bytes are no image that Pillow reads ({error})") from error


class _OpenVideo:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._container = av.open(str(path))
        self._stream = self._container.streams.video[0]
        self._stream.thread_count = 1
        self._frames: Iterator[av.VideoFrame] | None = None
        self._at_ns = -1
        self._recent: OrderedDict[int, Pixels] = OrderedDict()

    def close(self) -> None:
        self._container.close()

    def at(self, time_ns: int) -> Pixels:
        held = [pts for pts in self._recent if abs(pts - time_ns) <= _TOLERANCE_NS]
        if held:
            return self._recent[held[0]]
        if self._frames is None or not 0 <= time_ns - self._at_ns <= _NEAR_NS:
            self._seek(time_ns)
        found = self._decode_to(time_ns)
        if found is None:  # the container's index may lead past the frame
            self._seek(0)
            found = self._decode_to(time_ns)
        if found is None:
            raise TrainingDataError(f"{self._path} has no frame at {time_ns / 1e9:.6f} s; copy the output folder again")
        return found

    def _seek(self, time_ns: int) -> None:
        base = self._stream.time_base
        ticks = time_ns * base.denominator // (1_000_000_000 * base.numerator)
        self._container.seek(max(ticks, self._stream.start_time or 0), stream=self._stream, backward=True)
        self._frames = self._container.decode(self._stream)

    def _decode_to(self, time_ns: int) -> Pixels | None:
        for frame in self._frames or ():
            if frame.pts is None:
                continue
            self._at_ns = to_ns(frame.pts, self._stream)
            if self._at_ns < time_ns - _TOLERANCE_NS:
                continue
            if self._at_ns > time_ns + _TOLERANCE_NS:
                return None
            depth = frame.format.name.startswith("gray1")
            pixels: Pixels = frame.to_ndarray(format="gray16le" if depth else "rgb24")
            self._recent[self._at_ns] = pixels
            if len(self._recent) > _RECENT_FRAMES:
                self._recent.popitem(last=False)
            return pixels
        self._frames = None
        return None


class Pictures:
    """Pixels behind camera columns of an output folder; keeps a few videos open, each process its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._forget()

    def _forget(self) -> None:
        self._process = os.getpid()
        self._videos: OrderedDict[str, _OpenVideo] = OrderedDict()

    def __getstate__(self) -> dict[str, object]:
        return {"folder": self._folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._folder = state["folder"]
        self._forget()

    def at(self, column: pa.StructArray, row: int, place: str) -> Pixels | None:
        """What the camera saw at a row; None where it saw nothing."""
        seen: dict[str, Any] | None = column[row].as_py()
        if seen is None:
            return None
        if seen.get("bytes") is not None:
            return decode_image(seen["bytes"], place)
        if seen.get("timestamp") is None:
            return None
        return self.frame(seen["path"], round(seen["timestamp"] * 1e9))

    def frame(self, path: str, time_ns: int) -> Pixels:
        """The frame of a video at its own stamp; raises TrainingDataError where file or frame is gone."""
        if self._process != os.getpid():
            self._forget()
        try:
            if path not in self._videos:
                self._videos[path] = _OpenVideo(self._folder / path)
                if len(self._videos) > _OPEN_VIDEOS:
                    self._videos.popitem(last=False)[1].close()
            self._videos.move_to_end(path)
            return self._videos[path].at(time_ns)
        except (av.FFmpegError, FileNotFoundError) as error:
            place = f"{self._folder / path} at {time_ns / 1e9:.6f} s"
            raise TrainingDataError(f"{place} cannot be decoded ({error}); copy the output folder again") from error
