"""Copies of videos through other codecs, as people publish a set again."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

OPTIONS = {
    "libx264": {"preset": "veryfast"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "b": "0"},
    "libsvtav1": {"preset": "11"},
}


def read_frames(path: Path, limit: int = 10_000) -> list[np.ndarray]:
    """(H, W, 3) RGB frames of a file."""
    with av.open(str(path)) as container:
        return [
            frame.to_ndarray(format="rgb24") for frame, _ in zip(container.decode(video=0), range(limit), strict=False)
        ]


def write_frames(
    path: Path,
    frames: list[np.ndarray],
    codec: str = "libx264",
    crf: int = 23,
    scale: float = 1.0,
    brightness: float = 0.0,
    fps: int = 20,
) -> Path:
    """Encode RGB frames; `scale` is of both sides, `brightness` is added to 0..255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = (int(side * scale) // 2 * 2 for side in frames[0].shape[:2])
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": str(crf), **OPTIONS[codec]}
        for frame in frames:
            lit = np.clip(frame.astype(np.float64) + brightness, 0, 255).astype(np.uint8)
            lit = np.asarray(Image.fromarray(lit).resize((width, height), Image.Resampling.BILINEAR))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(lit, format="rgb24")))
        container.mux(stream.encode(None))
    return path
