"""What a camera sees of a synthetic trial: a planar arm over a textured table, encoded by real codecs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.episode_trials import RATE_HZ, Trial

Frames = NDArray[np.uint8]
WIDTH, HEIGHT = 128, 96
_LINKS = (26.0, 22.0, 16.0)
_BASE = (20.0, 88.0)
CODECS = ("libx264", "libvpx-vp9", "libsvtav1", "mpeg4")


@dataclass(frozen=True)
class Encoding:
    """How a copy was encoded. `quality` is crf (mpeg4: its quantiser); `scale` of both sides, `brightness` added."""

    codec: str = "libx264"
    quality: int = 23
    scale: float = 1.0
    brightness: float = 0.0
    gain: float = 1.0


@dataclass(frozen=True)
class Scene:
    """A room: `table` (H, W, 3), colours of the arm and of what it takes, and where a block stands (px)."""

    table: Frames
    arm: tuple[int, int, int]
    thing: tuple[int, int, int]
    block_at: tuple[float, float]


def make_scene(rng: np.random.Generator) -> Scene:
    """A random room with some clutter on its table."""
    coarse = rng.integers(40, 200, (6, 8, 3)).astype(np.uint8)
    image = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(5):
        x, y, size = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT), rng.uniform(6, 22)
        draw.rectangle((x, y, x + size, y + size * rng.uniform(0.5, 1.5)), fill=_colour(rng))
    table = np.asarray(image.filter(ImageFilter.GaussianBlur(0.6)), np.uint8)
    return Scene(table, _colour(rng), _colour(rng), _spot(rng))


def rearranged(rng: np.random.Generator, scene: Scene) -> Scene:
    """The same room with another object to take, and the block elsewhere."""
    return Scene(scene.table, scene.arm, _colour(rng), _spot(rng))


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(20, 236, 3).tolist()
    return red, green, blue


def _spot(rng: np.random.Generator) -> tuple[float, float]:
    return float(rng.uniform(55, 110)), float(rng.uniform(45, 85))


def film(rng: np.random.Generator, scene: Scene, trial: Trial) -> Frames:
    """(T, H, W, 3) of a trial: three of its joints as an arm in the plane, which carries an object while it grips."""
    arms = [_arm(joints) for joints in trial.joints]
    shut = np.flatnonzero(trial.gripper[:, 0] < 0.5)
    at, shown = arms[shut[0] if len(shut) else 0][-1], []
    x, y = scene.block_at
    for points, opening in zip(arms, trial.gripper[:, 0], strict=True):
        image = Image.fromarray(scene.table)
        draw = ImageDraw.Draw(image)
        draw.rectangle((x - 9, y - 7, x + 9, y + 7), fill=scene.arm)
        hand = points[-1]
        if opening < 0.5:
            at = hand
        draw.rectangle((at[0] - 5, at[1] - 4, at[0] + 5, at[1] + 4), fill=scene.thing)
        draw.line(points, fill=scene.arm, width=6, joint="curve")
        wide = 2 + 3 * float(opening)
        draw.ellipse((hand[0] - wide, hand[1] - 3, hand[0] + wide, hand[1] + 3), outline=scene.arm, width=2)
        shown.append(np.asarray(image, np.int16))
    noise = rng.integers(-3, 4, (HEIGHT, WIDTH, 3)).astype(np.int16)
    moving = [np.roll(noise, int(shift), axis=1) for shift in rng.integers(0, WIDTH, len(shown))]
    return np.stack([np.clip(f + n, 0, 255).astype(np.uint8) for f, n in zip(shown, moving, strict=True)])


def _arm(joints: NDArray[np.float64]) -> list[tuple[float, float]]:
    points, heading = [_BASE], -0.9
    for joint, length in zip(joints, _LINKS, strict=False):
        heading += joint * 0.7
        points.append((points[-1][0] + length * np.cos(heading), points[-1][1] + length * np.sin(heading)))
    return points


def encode(frames: Sequence[NDArray[np.uint8]] | Frames, path: Path, how: Encoding, rate_hz: float = RATE_HZ) -> None:
    """Write (T, H, W, 3) RGB to a video file."""
    height, width = (int(side * how.scale) // 2 * 2 for side in frames[0].shape[:2])
    with av.open(str(path), "w") as container:
        stream = container.add_stream(how.codec, rate=Fraction(rate_hz).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.thread_count = 1
        stream.options = _options(how)
        for frame in frames:
            lit = np.clip(frame * how.gain + how.brightness, 0, 255).astype(np.uint8)
            if (height, width) != frame.shape[:2]:
                lit = np.asarray(Image.fromarray(lit).resize((width, height), Image.Resampling.BILINEAR))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(lit, format="rgb24")))
        container.mux(stream.encode(None))


def _options(how: Encoding) -> dict[str, str]:
    if how.codec == "mpeg4":
        return {"qmin": str(how.quality), "qmax": str(how.quality)}
    fast = {
        "libx264": {"preset": "veryfast"},
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "b": "0"},
        "libsvtav1": {"preset": "11", "svtav1-params": "lp=1"},
    }
    return {"crf": str(how.quality), **fast[how.codec]}


def any_encoding(rng: np.random.Generator) -> Encoding:
    """What happens to a published set: another codec, a worse quality, a smaller picture, another exposure."""
    codec = CODECS[int(rng.integers(len(CODECS)))]
    worst = {"libx264": 34, "libvpx-vp9": 45, "libsvtav1": 50, "mpeg4": 12}[codec]
    best = {"libx264": 18, "libvpx-vp9": 20, "libsvtav1": 25, "mpeg4": 2}[codec]
    scale = float(rng.choice([1.0, 1.0, 0.75, 0.5]))
    brightness, gain = float(rng.uniform(-20, 20)), float(rng.uniform(0.85, 1.15))
    return Encoding(codec, int(rng.integers(best, worst + 1)), scale, brightness, gain)
