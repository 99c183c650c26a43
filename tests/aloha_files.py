"""Real ALOHA files, written as ACT's and Mobile ALOHA's recorders do, with h5py and Pillow alone."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.factories import motion

CAMERAS = ("cam_high", "cam_left_wrist")
Pixels = NDArray[np.uint8]


def scene(seed: int, steps: int, height: int = 24, width: int = 32) -> Pixels:
    """(steps, height, width, 3): a textured ground with a square that moves."""
    rng = np.random.default_rng(seed)
    ground = np.kron(rng.integers(40, 220, (height // 8, width // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    frames = np.repeat(ground[None], steps, axis=0)
    for step in range(steps):
        left = step % (width - 8)
        frames[step, 8:16, left : left + 8] = (250, 20, 20)
    return frames


def jpegs(frames: Pixels) -> list[bytes]:
    """Each frame as JPEG bytes, of lengths that differ."""
    out = []
    for frame in frames:
        stream = io.BytesIO()
        Image.fromarray(frame).save(stream, "JPEG", quality=80)
        out.append(stream.getvalue())
    return out


def arms(seed: int, steps: int) -> NDArray[np.float64]:
    """(steps, 14): six joints in rad and a gripper in 0 to 1, left then right."""
    left, right = motion(2 * seed, steps, 6), motion(2 * seed + 1, steps, 6)
    gripper = np.linspace(1, 0, steps)[:, None]
    return np.hstack([left, gripper, right, gripper]).astype(np.float64)


def write_aloha(
    path: Path,
    seed: int = 0,
    steps: int = 40,
    cameras: Sequence[str] = CAMERAS,
    compress: bool = False,
    lengths: bool = True,
) -> None:
    """One episode; with `compress` each camera is (T, P) of JPEGs padded to the longest of all, as it records."""
    path.parent.mkdir(parents=True, exist_ok=True)
    qpos = arms(seed, steps)
    with h5py.File(path, "w", rdcc_nbytes=2 << 20) as root:
        root.attrs["sim"] = False
        root.attrs["compress"] = compress
        root["action"] = np.vstack([qpos[1:], qpos[-1:]]) if steps else qpos
        root["observations/qpos"] = qpos
        root["observations/qvel"] = np.gradient(qpos, axis=0) * 50 if steps > 1 else qpos
        root["observations/effort"] = np.zeros_like(qpos)
        images = root.require_group("observations/images")
        encoded = {name: jpegs(scene(seed + i, steps)) for i, name in enumerate(cameras)} if compress else {}
        longest = max((len(jpeg) for frames in encoded.values() for jpeg in frames), default=0)
        for i, name in enumerate(cameras):
            if not compress:
                images.create_dataset(name, data=scene(seed + i, steps), chunks=(1, 24, 32, 3) if steps else None)
                continue
            padded = np.zeros((steps, longest), np.uint8)
            for step, jpeg in enumerate(encoded[name]):
                padded[step, : len(jpeg)] = np.frombuffer(jpeg, np.uint8)
            images.create_dataset(name, data=padded, chunks=(1, longest))
        if compress and lengths:
            root["compress_len"] = np.array([[len(j) for j in encoded[n]] for n in cameras], "f4")
