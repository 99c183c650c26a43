"""Writes small RLDS data sets for tests, and reads Examples with protobuf itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from transforms.sources.tf_example import encode_example
from transforms.sources.tfrecord import write_record


def example_class() -> Any:
    """tf.train.Example as a protobuf class, from a descriptor built here."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")
    lists = (("BytesList", field.TYPE_BYTES), ("FloatList", field.TYPE_FLOAT), ("Int64List", field.TYPE_INT64))
    for name, kind in lists:
        file.message_type.add(name=name).field.add(name="value", number=1, type=kind, label=field.LABEL_REPEATED)
    single = {"type": field.TYPE_MESSAGE, "label": field.LABEL_OPTIONAL}
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, _) in enumerate(lists, 1):
        feature.field.add(
            name=name.replace("List", "_list").lower(), number=number, type_name=f".t.{name}", oneof_index=0, **single
        )
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type_name=".t.Feature", **single)
    features.field.add(name="feature", number=1, type=field.TYPE_MESSAGE, type_name=".t.Features.FeatureEntry", label=3)
    file.message_type.add(name="Example").field.add(name="features", number=1, type_name=".t.Features", **single)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))


def tensor(dtype: str, *shape: int, encoding: str = "none") -> dict[str, object]:
    return {"tensor": {"shape": {"dimensions": [str(d) for d in shape]}, "dtype": dtype, "encoding": encoding}}


def image(dtype: str = "uint8") -> dict[str, object]:
    return {"image": {"shape": {"dimensions": ["8", "8", "3"]}, "dtype": dtype, "encodingFormat": "png"}}


TEXT: dict[str, object] = {"text": {}}


def nested(**features: object) -> dict[str, object]:
    return {"featuresDict": {"features": features}}


def flags() -> dict[str, object]:
    return {name: tensor("bool") for name in ("is_first", "is_last", "is_terminal")}


def features_json(steps: Mapping[str, object], metadata: Mapping[str, object] | None = None) -> dict[str, object]:
    sequence = {"sequence": {"feature": nested(**steps), "length": "-1"}}
    return nested(steps=sequence, episode_metadata=nested(**(metadata or {})))


def episode(steps: int = 4, start: float = 0.0, **more: object) -> dict[str, object]:
    """The features of a sound episode: state and action of two, flags, reward, a constant instruction."""
    count = np.arange(steps)
    base: dict[str, object] = {
        "steps/observation/state": (start + np.arange(2 * steps)).astype(np.float32),
        "steps/action": (start - np.arange(2 * steps)).astype(np.float32),
        "steps/reward": (count == steps - 1).astype(np.float32),
        "steps/is_first": count == 0,
        "steps/is_last": count == steps - 1,
        "steps/is_terminal": count == steps - 1,
        "steps/language_instruction": [b"open the drawer"] * steps,
    }
    return {key: value for key, value in {**base, **more}.items() if value is not None}


STEPS = {
    "observation": nested(state=tensor("float32", 2)),
    "action": tensor("float32", 2),
    "reward": tensor("float32"),
    "language_instruction": TEXT,
    **flags(),
}


def write_shard(path: Path, episodes: Sequence[Mapping[str, object]]) -> list[int]:
    """A shard of episodes; returns the offset of each record's header."""
    offsets = []
    with path.open("wb") as stream:
        for features in episodes:
            offsets.append(stream.tell())
            write_record(stream, encode_example(features))  # type: ignore[arg-type]
    return offsets


def shard_path(folder: Path, split: str = "train", index: int = 0, count: int = 1) -> Path:
    return folder / f"demo-{split}.tfrecord-{index:05d}-of-{count:05d}"


def write_info(folder: Path, splits: Mapping[str, Sequence[int]], **more: object) -> None:
    rows = [{"name": name, "shardLengths": [str(n) for n in lengths]} for name, lengths in splits.items()]
    info = {"name": "demo", "version": "1.0.0", "fileFormat": "tfrecord", "splits": rows, **more}
    (folder / "dataset_info.json").write_text(json.dumps(info))


def write_dataset(
    folder: Path,
    episodes: Sequence[Mapping[str, object]],
    steps: Mapping[str, object] = STEPS,
    metadata: Mapping[str, object] | None = None,
) -> Path:
    """A data set of one split in one shard, as TFDS lays it out; returns the shard."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "features.json").write_text(json.dumps(features_json(steps, metadata)))
    write_info(folder, {"train": [len(episodes)]})
    write_shard(shard_path(folder), episodes)
    return shard_path(folder)
