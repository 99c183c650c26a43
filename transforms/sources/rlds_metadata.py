"""What a TFDS folder says of itself: features.json, dataset_info.json and the names of its shards."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import msgspec

from transforms.sources.rlds_leaf import Kind, Leaf
from transforms.stores.paths import located, stat_of
from transforms.unreadable import Unreadable

FEATURES = "features.json"
INFO = "dataset_info.json"
MAX_DECLARED_EPISODES = 10_000_000
"""More than any published shard holds by far; a larger shardLengths entry is an error, not a plan."""
_SHARD_NAME = re.compile(r"^(?P<stem>.+?)\.tfrecord(?:-(?P<index>\d{1,6})-of-(?P<count>\d{1,6}))?$")
_HEAD_BYTES = 1 << 20
_DEFAULT_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


@dataclass(frozen=True)
class Shard:
    """One file of a split; `declared` episodes, None where no metadata says; `named` False where only disk has it."""

    split: str
    path: Path
    declared: int | None
    named: bool


class _Shape(msgspec.Struct):
    dimensions: list[int | str] = []


class _Tensor(msgspec.Struct):
    shape: _Shape = msgspec.field(default_factory=_Shape)
    dtype: str = ""
    encoding: str = "none"


class _Image(msgspec.Struct):
    shape: _Shape = msgspec.field(default_factory=_Shape)
    dtype: str = "uint8"


class _Text(msgspec.Struct):
    pass


class _Sequence(msgspec.Struct):
    feature: _Node
    length: int | str = "-1"


class _Dict(msgspec.Struct):
    features: dict[str, _Node] = {}


class _Node(msgspec.Struct, rename="camel"):
    features_dict: _Dict | None = None
    sequence: _Sequence | None = None
    tensor: _Tensor | None = None
    image: _Image | None = None
    text: _Text | None = None
    class_label: _Text | None = None


class Split(msgspec.Struct, rename="camel", frozen=True):
    """One split of dataset_info.json; numbers are strings there, as proto3 JSON writes int64."""

    name: str
    num_bytes: int | str = 0
    shard_lengths: tuple[int | str, ...] = ()
    filepath_template: str = _DEFAULT_TEMPLATE


class DatasetInfo(msgspec.Struct, rename="camel", frozen=True):
    """What this reader needs of dataset_info.json."""

    name: str = ""
    version: str = ""
    file_format: str = "tfrecord"
    splits: tuple[Split, ...] = ()


def _dims(shape: _Shape) -> tuple[int | None, ...]:
    sizes = [int(size) for size in shape.dimensions]
    return tuple(size if size >= 0 else None for size in sizes)


def _leaves(node: _Node, key: str) -> list[Leaf]:
    if node.features_dict is not None:
        inside = node.features_dict.features.items()
        return [leaf for name, child in inside for leaf in _leaves(child, f"{key}/{name}" if key else name)]
    if node.sequence is not None:
        inner = _leaves(node.sequence.feature, key)
        if key == "steps":
            return inner
        length = int(node.sequence.length)
        if length < 0:
            return [Leaf(leaf.key, "ragged", (), leaf.dtype) for leaf in inner]
        return [Leaf(leaf.key, leaf.kind, (length, *leaf.shape), leaf.dtype, leaf.encoding) for leaf in inner]
    if node.image is not None:
        return [Leaf(key, "image", _dims(node.image.shape), node.image.dtype)]
    if node.text is not None:
        return [Leaf(key, "text", (), "string")]
    if node.tensor is not None:
        kind: Kind = (
            "text" if node.tensor.dtype in ("string", "object") and not node.tensor.shape.dimensions else "tensor"
        )
        return [Leaf(key, kind, _dims(node.tensor.shape), node.tensor.dtype, node.tensor.encoding or "none")]
    if node.class_label is not None:
        return [Leaf(key, "tensor", (), "int64")]
    return []


@lru_cache(maxsize=64)
def _parse_features(path: str, _modified_ns: int) -> tuple[Mapping[str, Leaf], str]:
    try:
        leaves = _leaves(msgspec.json.decode(located(path).read_bytes(), type=_Node), "")
        return MappingProxyType({leaf.key: leaf for leaf in leaves}), ""
    except (msgspec.MsgspecError, ValueError, RecursionError, OSError) as error:
        return {}, f"{FEATURES} cannot be read ({error}); types are inferred from the records"


def load_features(folder: Path | str) -> tuple[Mapping[str, Leaf], str]:
    """The declared features by key, and why there are none (empty where there are); a missing file is no fault."""
    path = f"{folder}/{FEATURES}"
    try:
        found = stat_of(path)
    except OSError:
        return {}, ""
    return _parse_features(path, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else ({}, "")


def load_info(folder: Path) -> tuple[DatasetInfo | None, str]:
    """dataset_info.json, and why it is not used (empty where it is, or where the folder has none).

    Raises Unreadable: `wrong_format` for a container other than TFRecord, `absurd_size` for an impossible shard.
    """
    path = folder / INFO
    if not path.is_file():
        return None, ""
    try:
        info = msgspec.json.decode(path.read_bytes(), type=DatasetInfo)
        lengths = [int(length) for split in info.splits for length in split.shard_lengths]
    except (msgspec.MsgspecError, ValueError, OSError) as error:
        return None, f"{INFO} cannot be read ({error}); splits are taken from the files' names"
    if info.file_format != "tfrecord":
        raise Unreadable(
            "wrong_format", f"{path}: fileFormat is {info.file_format!r}; this reader needs 'tfrecord': convert the set"
        )
    if any(not 0 <= length <= MAX_DECLARED_EPISODES for length in lengths):
        wrong = next(length for length in lengths if not 0 <= length <= MAX_DECLARED_EPISODES)
        raise Unreadable(
            "absurd_size", f"{path}: a shard of {wrong} episodes; at most {MAX_DECLARED_EPISODES}: correct shardLengths"
        )
    return info, ""


def _shard_name(info: DatasetInfo, split: Split, index: int) -> str:
    count = len(split.shard_lengths)
    template = (split.filepath_template or _DEFAULT_TEMPLATE).replace("{SHARD_X_OF_Y}", f"{index:05d}-of-{count:05d}")
    for field, value in (
        ("{DATASET}", info.name),
        ("{SPLIT}", split.name),
        ("{FILEFORMAT}", info.file_format),
        ("{SHARD_INDEX}", f"{index:05d}"),
        ("{NUM_SHARDS}", f"{count:05d}"),
    ):
        template = template.replace(field, value)
    if Path(template).name != template:
        raise Unreadable(
            "wrong_format",
            f"shard name {template!r} leaves its folder; correct filepathTemplate of split {split.name!r}",
        )
    return template


def shard_split(name: str, dataset: str = "") -> str:
    """The split that a shard's file name states (`DATASET-SPLIT.tfrecord-…`); empty where it states none."""
    matched = _SHARD_NAME.match(name)
    if matched is None:
        return ""
    stem = matched["stem"]
    if dataset and stem.startswith(dataset + "-"):
        return stem[len(dataset) + 1 :]
    return stem.rpartition("-")[2] if "-" in stem else ""


def _declared_shards(folder: Path, info: DatasetInfo) -> list[Shard]:
    return [
        Shard(split.name, folder / _shard_name(info, split, index), int(length), True)
        for split in info.splits
        for index, length in enumerate(split.shard_lengths)
    ]


def list_shards(folder: Path, info: DatasetInfo | None) -> list[Shard]:
    """Every shard that metadata or disk names: declared ones in order, then what only disk holds, by name.

    A file named `…-00001-of-00003` names its siblings too.
    """
    shards = _declared_shards(folder, info) if info is not None else []
    known = {shard.path.name for shard in shards}
    on_disk = {path.name for path in folder.iterdir() if _SHARD_NAME.match(path.name)} - known
    names = set(on_disk)
    for name in on_disk:
        matched = _SHARD_NAME.match(name)
        if matched is not None and matched["count"] is not None:
            width, count = len(matched["index"]), int(matched["count"])
            head, tail = name[: matched.start("index")], name[matched.end("index") :]
            names |= {f"{head}{index:0{width}d}{tail}" for index in range(count)}
    dataset = info.name if info is not None else ""
    shards += [Shard(shard_split(name, dataset) or name, folder / name, None, False) for name in sorted(names - known)]
    return shards


def is_version_folder(path: Path) -> bool:
    """True where a folder holds the metadata that TFDS writes (other libraries write a dataset_info.json too)."""
    for name, marks in ((FEATURES, (b"featuresDict", b"tensorflow_datasets")), (INFO, (b"shardLengths",))):
        file = path / name
        if file.is_file():
            with file.open("rb") as stream:
                head = stream.read(_HEAD_BYTES)
            if any(mark in head for mark in marks):
                return True
    return False


def version_folders(path: Path, depth: int = 2) -> list[Path]:
    """The folder itself, else those nearest below it (down to `depth`) that hold a data set's version."""
    level = [path]
    for _ in range(depth + 1):
        found = [folder for folder in level if is_version_folder(folder)]
        if found:
            return found
        level = sorted(p for folder in level for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    return []
