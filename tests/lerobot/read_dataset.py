"""Reads a data set with the official LeRobotDataset and writes what it gave; runs in .venv-lerobot, imports no project.

python read_dataset.py FOLDER OUT.npz CAMERA STRIDE [RAW_VIDEO...]
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset


def digest(pixels: torch.Tensor) -> str:
    return hashlib.sha256(pixels.contiguous().numpy().tobytes()).hexdigest()


def main(folder: Path, out: Path, camera: str, stride: int, videos: list[str]) -> None:
    dataset = LeRobotDataset(folder.name, root=folder)
    names = [name for name, feature in dataset.features.items() if feature["dtype"] not in ("video", "image", "string")]
    rows = dataset.hf_dataset.select_columns(names)[:]  # keeps LeRobot's own conversion to tensors
    columns = {name: torch.stack(list(rows[name])).numpy() for name in names}
    tasks, frames, pixels = [], {}, {}
    for index in range(0, len(dataset), stride):
        item = dataset[index]
        tasks.append(item["task"])
        if camera:
            seen = (item[camera] * 255).round().to(torch.uint8)
            frames[str(index)] = digest(seen)
            pixels[f"frame/{index}"] = seen.numpy()
    raw = []
    if videos:
        from torchcodec.decoders import VideoDecoder

        for video in videos:
            raw.append([digest(frame) for frame in VideoDecoder(video)])
    said = {"tasks": tasks, "frames": frames, "raw": raw, "stats": sorted(dataset.meta.stats), "fps": dataset.fps}
    said["episodes"] = dataset.num_episodes
    np.savez(out, said=json.dumps(said), **columns, **(pixels if stride > 1 and not videos else {}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5:])
