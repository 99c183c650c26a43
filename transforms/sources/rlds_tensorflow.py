"""RLDS read by tf.data, for the environment of the extra [tensorflow]: the recordings that the reader without it gives.

What it adds are tensorflow-io's file systems (`s3://`, `az://`, `hdfs://`, `http://`; `gs://` is TensorFlow's own) and
decoders. Importing this module loads neither; they are imported where they are used.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np

from transforms.conventions import Embodiment, Source
from transforms.episode import ImageRef, Recording, RecordingRef
from transforms.sources.rlds import ImagePlace, images_of, recording
from transforms.sources.rlds_leaf import Leaf
from transforms.sources.rlds_metadata import FEATURES, INFO, list_shards, load_features, load_info
from transforms.sources.rlds_plan import FORMAT, RecordPlace
from transforms.sources.tf_example import Values
from transforms.sources.tfrecord import FOOTER_BYTES, HEADER_BYTES, header_length, masked_crc32c
from transforms.stage import Unreadable

_EXTRA = "install the extra [tensorflow] in an environment of its own (`make tensorflow`)"


def missing() -> str:
    """Why TensorFlow cannot read here, with the remedy; empty where it can. Imports nothing."""
    absent = [name for name in ("tensorflow", "tensorflow_io") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(absent)} cannot be imported by {sys.executable}; {_EXTRA}" if absent else ""


def tensorflow() -> ModuleType:
    """TensorFlow with tensorflow-io's file systems registered; raises ImportError that names the extra."""
    try:
        import tensorflow  # type: ignore[import-not-found,import-untyped,unused-ignore]
        import tensorflow_io  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: F401 registers them
    except ImportError as error:
        raise ImportError(f"{error}; {_EXTRA}") from error
    return tensorflow  # type: ignore[no-any-return,unused-ignore]


@dataclass(frozen=True)
class DataSet:
    """What a version's folder says of itself, at any address that TensorFlow reads."""

    folder: str
    shards: tuple[tuple[str, str], ...]
    """(split, address) in order."""
    features: Mapping[str, Leaf]
    fault: str


def open_dataset(folder: str) -> DataSet:
    """Metadata of `folder`, with the shards that it names or, without dataset_info.json, those that are there.

    Raises Unreadable: `absent` where there is no shard, and what `load_info` raises.
    """
    tf = tensorflow()
    folder = folder.rstrip("/")
    with tempfile.TemporaryDirectory() as copied:
        place = Path(copied)
        for name in (FEATURES, INFO):
            if tf.io.gfile.exists(f"{folder}/{name}"):
                with tf.io.gfile.GFile(f"{folder}/{name}", "rb") as file:
                    (place / name).write_bytes(file.read())
        info, _ = load_info(place)
        if info is None:
            for address in tf.io.gfile.glob(f"{folder}/*.tfrecord*"):
                (place / address.rpartition("/")[2]).touch()
        shards = tuple((shard.split, f"{folder}/{shard.path.name}") for shard in list_shards(place, info))
        features, fault = load_features(place)
    if not shards:
        raise Unreadable("absent", f"{folder}: no shard is named or there; check the address of the version's folder")
    return DataSet(folder, shards, features, fault)


def recordings(folder: str, source: Source, embodiment: Embodiment) -> Iterator[Recording]:
    """Every episode of a data set's splits in order, as `rlds.read` gives it; images by reference.

    A shard that is named and absent, or damaged, raises Unreadable: tf.data does not go on behind damage.
    """
    found = open_dataset(folder)
    counts: dict[str, int] = {}
    for split, address in found.shards:
        if source.splits and split not in source.splits:
            continue
        for place, features in _examples(address, found.features):
            index = counts.get(split, 0)
            counts[split] = index + 1
            where = msgspec.json.encode(place).decode()
            ref = RecordingRef(f"{source.name}/{split}/{index:06d}", source.name, FORMAT, address, where, split)
            yield recording(ref, source, embodiment, features, (found.features, found.fault))


def read(ref: RecordingRef, source: Source, embodiment: Embodiment) -> Recording:
    """One planned episode, as `rlds.read` gives it: the record by tf.data from its offset on, parsed by TensorFlow.

    Raises Unreadable: `corrupt`, `truncated`, and what `recording` raises.
    """
    tf = tensorflow()
    place = msgspec.json.decode(ref.place, type=RecordPlace)
    metadata_of_set = load_features(os.path.dirname(ref.uri))  # noqa: PTH120 cheaper
    with _named(tf, ref.uri):
        payload = _record_at(tf, ref.uri, place)
        parsed = tf.io.parse_single_example(payload, _spec(tf, payload, metadata_of_set[0]))
    return recording(ref, source, embodiment, _features(parsed), metadata_of_set)


def _record_at(tf: ModuleType, address: str, place: RecordPlace) -> bytes:
    """A record's payload by tf.data, both checksums verified."""
    size = HEADER_BYTES + place.length + FOOTER_BYTES
    variant = tf.raw_ops.TFRecordDatasetV2(
        filenames=[address], compression_type="", buffer_size=size, byte_offsets=[place.offset]
    )
    as_written = tf.data.Options()  # rewriting a graph stores it, and TensorFlow 2.16 loses this op's offsets there
    as_written.autotune.enabled = False
    as_written.experimental_optimization.apply_default_optimizations = False
    records = tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string)).with_options(as_written)
    payload: bytes | None = next(iter(records.as_numpy_iterator()), None)
    if payload is None:
        raise Unreadable("truncated", f"{address} ends before offset {place.offset}; copy it again")
    if len(payload) != place.length:
        detail = f"the record at offset {place.offset} has {len(payload)} bytes, indexed as {place.length}; plan anew"
        raise Unreadable("corrupt", f"{address}: {detail}")
    return payload


@contextmanager
def _named(tf: ModuleType, address: str) -> Iterator[None]:
    """TensorFlow's errors as what is wrong with a shard."""
    try:
        yield
    except tf.errors.NotFoundError as error:
        raise Unreadable(
            "declared_absent", f"{address} is named by {INFO} and is not there: {error.message}"
        ) from error
    except tf.errors.DataLossError as error:
        raise Unreadable("corrupt", f"{address}: {error.message}; copy it again") from error
    except tf.errors.InvalidArgumentError as error:
        raise Unreadable("wrong_format", f"{address}: {error.message}; write it again") from error


def _features(parsed: Mapping[str, Any]) -> dict[str, Values]:
    values = {key: _values(tensor.values.numpy()) for key, tensor in sorted(parsed.items())}
    return {key: held for key, held in values.items() if len(held)}


def _examples(address: str, declared: Mapping[str, Leaf]) -> Iterator[tuple[RecordPlace, dict[str, Values]]]:
    """Where each record of a shard lies, and its features, parsed by tf.data."""
    tf = tensorflow()
    records = tf.data.TFRecordDataset([address])
    with _named(tf, address):
        first = next(iter(records.take(1).as_numpy_iterator()), None)
        if first is None:
            return
        spec = _spec(tf, first, declared)
        offset = 0
        for size, parsed in records.map(lambda r: (tf.strings.length(r), tf.io.parse_single_example(r, spec))):
            length = int(size)
            yield RecordPlace(offset, length), _features(parsed)
            offset += HEADER_BYTES + length + FOOTER_BYTES


def _spec(tf: ModuleType, payload: bytes, declared: Mapping[str, Leaf]) -> dict[str, Any]:
    """The kind of list that each key has: as the first record holds it, else as features.json declares it."""
    kinds = {"bytes_list": tf.string, "float_list": tf.float32, "int64_list": tf.int64}
    spec = {}
    for key, leaf in declared.items():
        number = leaf.number
        kind = (
            tf.string if leaf.stored_as_bytes else tf.float32 if number is not None and number.kind == "f" else tf.int64
        )
        spec[key] = tf.io.VarLenFeature(kind)
    for key, feature in tf.train.Example.FromString(payload).features.feature.items():
        held = feature.WhichOneof("kind")
        if held is not None:
            spec[key] = tf.io.VarLenFeature(kinds[held])
    return spec


def _values(held: Any) -> Values:
    if held.dtype == np.object_:
        return [memoryview(item) for item in held.tolist()]
    values: Values = held
    return values


def read_images(ref: ImageRef, indices: Sequence[int]) -> list[bytes]:
    """Images of a recording at any address that TensorFlow reads, as `rlds.read_images` gives them.

    Raises Unreadable `corrupt` where the record is not what it was.
    """
    tf = tensorflow()
    place = msgspec.json.decode(ref.place, type=ImagePlace)
    with tf.io.gfile.GFile(ref.uri, "rb") as file:
        file.seek(place.offset)
        data = file.read(HEADER_BYTES + place.length + FOOTER_BYTES)
    payload = data[HEADER_BYTES:-FOOTER_BYTES]
    if header_length(data[:HEADER_BYTES]) != place.length or int.from_bytes(
        data[-FOOTER_BYTES:], "little"
    ) != masked_crc32c(payload):
        raise Unreadable("corrupt", f"{ref.uri}: the record at offset {place.offset} is not what it was; read it anew")
    return images_of(ref, payload, indices)
