"""RLDS as TFDS writes it: one tf.train.Example per episode, JPEG images, several shards, the last one cut."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from examples.sample.draw import CAMERAS, SIZE_PX, Frames
from examples.sample.recorded import Recorded
from transforms.sources.tf_example import encode_example
from transforms.sources.tfrecord import write_record

NAME = "panda_sample"
VERSION = "1.0.0"
SPLIT = "train"
LAST_SHARD = 2
"""Whole episodes in the shard that is cut."""
JPEG_QUALITY = 88
VECTORS = {"state": 9, "velocity": 9, "tool_pose": 7, "cube_pose": 7}
SCALARS = {"reward": "float32", "discount": "float32", "is_first": "bool", "is_last": "bool", "is_terminal": "bool"}
_FEATURES = "tensorflow_datasets.core.features."


def jpegs(frames: Frames) -> list[bytes]:
    """(T, H, W, 3) as one JPEG each."""
    out = []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=JPEG_QUALITY)
        out.append(buffer.getvalue())
    return out


def example(recorded: Recorded, seed: int) -> bytes:
    """One episode. RLDS: reward[t] results from action[t]; at the last step only the observation counts."""
    episode = recorded.episode
    steps = len(episode.qpos)
    at = np.arange(steps)
    observation = {
        "state": episode.position,
        "velocity": episode.velocity,
        "tool_pose": recorded.tool_xyzw,
        "cube_pose": recorded.cube_xyzw,
    }
    features: dict[str, Sequence[bytes] | NDArray[np.generic]] = {
        f"steps/observation/{name}": values.astype(np.float32) for name, values in observation.items()
    }
    for camera in CAMERAS:
        features[f"steps/observation/{camera}"] = jpegs(recorded.frames[camera])
    features["steps/action"] = episode.action.astype(np.float32)
    features["steps/reward"] = episode.reward.astype(np.float32)
    features["steps/discount"] = (at < steps - 2).astype(np.float32)
    features["steps/is_first"] = at == 0
    features["steps/is_last"] = at == steps - 1
    features["steps/is_terminal"] = at == steps - 1
    features["steps/language_instruction"] = [(recorded.instruction or "").encode()] * steps
    features["episode_metadata/file_path"] = [f"simulated/{seed}/{episode.index:06d}".encode()]
    return encode_example(features)


def write(folder: Path, recorded: Sequence[Recorded], seed: int, kept_share: float) -> None:
    """Write `folder`/VERSION: two whole shards, and a third whose last record lacks the rest of its bytes."""
    home = folder / VERSION
    home.mkdir(parents=True)
    whole = len(recorded) - LAST_SHARD - 1
    shards = [recorded[: whole // 2], recorded[whole // 2 : whole], recorded[whole:]]
    total = 0
    for number, shard in enumerate(shards):
        path = home / f"{NAME}-{SPLIT}.tfrecord-{number:05d}-of-{len(shards):05d}"
        before = 0
        with path.open("wb") as stream:
            for one in shard:
                before = stream.tell()
                write_record(stream, example(one, seed))
            total += stream.tell()
            if number == len(shards) - 1:
                stream.truncate(before + round((stream.tell() - before) * kept_share))
    (home / "features.json").write_text(json.dumps(_features(), indent=4) + "\n")
    split = {
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        "name": SPLIT,
        "numBytes": str(total),
        "shardLengths": [str(len(shard)) for shard in shards],
    }
    info = {
        "description": "A simulated Panda moves a cube.",
        "fileFormat": "tfrecord",
        "moduleName": f"{NAME}.{NAME}_dataset_builder",
        "name": NAME,
        "releaseNotes": {VERSION: "Initial release."},
        "splits": [split],
        "version": VERSION,
    }
    (home / "dataset_info.json").write_text(json.dumps(info, indent=2, sort_keys=True) + "\n")


def _tensor(shape: Sequence[int], dtype: str) -> dict[str, object]:
    sizes = {"dimensions": [str(n) for n in shape]} if shape else {}
    kind = "tensor_feature.Tensor" if shape else "scalar.Scalar"
    return {"pythonClassName": _FEATURES + kind, "tensor": {"shape": sizes, "dtype": dtype, "encoding": "none"}}


def _dict(features: dict[str, object]) -> dict[str, object]:
    return {"pythonClassName": _FEATURES + "features_dict.FeaturesDict", "featuresDict": {"features": features}}


def _features() -> dict[str, object]:
    text: dict[str, object] = {"pythonClassName": _FEATURES + "text_feature.Text", "text": {}}
    shape = {"dimensions": [str(SIZE_PX), str(SIZE_PX), "3"]}
    image = {
        "pythonClassName": _FEATURES + "image_feature.Image",
        "image": {"shape": shape, "dtype": "uint8", "encodingFormat": "jpeg"},
    }
    observation: dict[str, object] = {name: _tensor([size], "float32") for name, size in VECTORS.items()}
    observation |= dict.fromkeys(CAMERAS, image)
    steps: dict[str, object] = {name: _tensor([], dtype) for name, dtype in SCALARS.items()}
    steps |= {"action": _tensor([8], "float32"), "language_instruction": text, "observation": _dict(observation)}
    dataset = {
        "pythonClassName": _FEATURES + "dataset_feature.Dataset",
        "sequence": {"feature": _dict(steps), "length": "-1"},
    }
    return _dict({"steps": dataset, "episode_metadata": _dict({"file_path": text})})
