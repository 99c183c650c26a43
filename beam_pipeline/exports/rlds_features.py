"""Features of an RLDS data set: their place in a tf.train.Example; features.json and dataset_info.json as in TFDS.

Classes and fields as tensorflow_datasets/core/features/*.py and proto/{feature,dataset_info}.proto define them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

STEPS = "steps/"
METADATA = "episode_metadata/"
VERSION = "1.0.0"
TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_CLASSES = "tensorflow_datasets.core.features."

Kind = Literal["scalar", "vector", "ragged", "text", "image"]


@dataclass(frozen=True)
class Feature:
    """One feature: `key` in the Example (`steps/observation/state`), its dtype as TFDS names it, its shape a step.

    `shape` is (width,) of a vector and (height, width, channels) of an image, None where it differs. `packed` values
    are stored as bytes: a FloatList holds float32 only. `encoding` of an image is jpeg or png, empty where both occur.
    """

    key: str
    kind: Kind
    dtype: str
    shape: tuple[int | None, ...] = ()
    packed: bool = False
    encoding: str = ""
    doc: str = ""


@dataclass(frozen=True)
class SplitInfo:
    """What dataset_info.json says of a split: episodes of each shard, bytes of all payloads."""

    name: str
    shard_lengths: tuple[int, ...]
    n_bytes: int


def nested_keys(columns: Iterable[str]) -> dict[str, str]:
    """Column -> place in the record: `observation.state` is `observation/state`.

    Where one name is the beginning of another, as `action` of `action.gripper`, it cannot hold the other too: the
    longer one is then written in one word, `action_gripper`.
    """
    names = sorted(columns)
    out: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        parts = name.split(".")
        depth = next((i for i in range(1, len(parts)) if ".".join(parts[:i]) in taken), None)
        words = parts if depth is None else [*parts[: depth - 1], "_".join(parts[depth - 1 :])]
        key = "/".join(words)
        while key in out.values():
            key += "_"
        out[name] = key
        taken.add(name)
    return out


def _dimensions(shape: Sequence[int | None]) -> dict[str, list[str]]:
    sizes = ["-1" if size is None else str(size) for size in shape]
    return {"dimensions": sizes} if sizes else {}


def _tensor(shape: Sequence[int | None], dtype: str, packed: bool) -> dict[str, Any]:
    name = "tensor_feature.Tensor" if shape or packed else "scalar.Scalar"
    tensor = {"dtype": dtype, "encoding": "bytes" if packed else "none", "shape": _dimensions(shape)}
    return {"pythonClassName": _CLASSES + name, "tensor": tensor}


def _node(feature: Feature) -> dict[str, Any]:
    if feature.kind == "text":
        node: dict[str, Any] = {"pythonClassName": _CLASSES + "text_feature.Text", "text": {}}
    elif feature.kind == "image":
        image = {"dtype": feature.dtype, "shape": _dimensions(feature.shape)}
        if feature.encoding:
            image["encodingFormat"] = feature.encoding
        node = {"pythonClassName": _CLASSES + "image_feature.Image", "image": image}
    elif feature.kind == "ragged":
        inner = _tensor((), feature.dtype, packed=False)
        node = {
            "pythonClassName": _CLASSES + "sequence_feature.Sequence",
            "sequence": {"feature": inner, "length": "-1"},
        }
    else:
        node = _tensor(feature.shape, feature.dtype, feature.packed)
    return node | ({"description": feature.doc} if feature.doc else {})


def _tree(features: Iterable[Feature], prefix: str) -> dict[str, Any]:
    """A FeaturesDict of the features below a prefix."""
    children: dict[str, dict[str, Any]] = {}
    inside = [feature for feature in features if feature.key.startswith(prefix)]
    for name in sorted({feature.key.removeprefix(prefix).split("/")[0] for feature in inside}):
        own = [feature for feature in inside if feature.key == prefix + name]
        children[name] = _node(own[0]) if own else _tree(inside, f"{prefix}{name}/")
    return {"pythonClassName": _CLASSES + "features_dict.FeaturesDict", "featuresDict": {"features": children}}


def features_json(features: Sequence[Feature]) -> bytes:
    """features.json: `steps` is a Dataset, all else a FeaturesDict."""
    steps = {
        "pythonClassName": _CLASSES + "dataset_feature.Dataset",
        "sequence": {"feature": _tree(features, STEPS), "length": "-1"},
    }
    top = _tree([feature for feature in features if not feature.key.startswith(STEPS)], "")
    top["featuresDict"]["features"]["steps"] = steps
    return _json(top)


def dataset_info_json(name: str, description: str, splits: Sequence[SplitInfo]) -> bytes:
    """dataset_info.json; numbers are texts, as proto3 JSON writes int64. It holds no date, so equal sets are equal."""
    info: Mapping[str, Any] = {
        "description": description,
        "fileFormat": "tfrecord",
        "name": name,
        "releaseNotes": {VERSION: "Curated by DemoSift."},
        "splits": [
            {
                "filepathTemplate": TEMPLATE,
                "name": split.name,
                "numBytes": str(split.n_bytes),
                "shardLengths": [str(length) for length in split.shard_lengths],
            }
            for split in splits
        ],
        "version": VERSION,
    }
    return _json(info)


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
