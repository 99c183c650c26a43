"""RLDS as TFDS writes it to TFRecords: one tf.train.Example an episode, read without TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import xxhash

from transforms.conventions import Embodiment, Source
from transforms.episode import (
    IMAGES,
    STEPS,
    TIMESTAMP,
    ImageRef,
    Recording,
    RecordingRef,
    Utterance,
)
from transforms.schema import FRAME_INDEX
from transforms.sources.png import encode_png
from transforms.sources.rlds_checks import flag_findings, image_flag_findings, language_flag_findings
from transforms.sources.rlds_leaf import STEP_PREFIX, Leaf
from transforms.sources.rlds_metadata import load_features
from transforms.sources.rlds_plan import FORMAT, RecordPlace, detect, plan
from transforms.sources.rlds_steps import Camera, Steps, metadata_finding, read_steps, text_of
from transforms.sources.tf_example import Values, parse_example
from transforms.sources.tfrecord import read_record_at
from transforms.unreadable import Unreadable

__all__ = ["detect", "images_of", "plan", "read", "read_images", "recording"]

_EPISODE_METADATA = "episode_metadata/"
_SHARED_STEPS = 10_000
_PLACE = msgspec.json.Decoder(RecordPlace)
_INSTRUCTION_NAMES = ("language_instruction", "natural_language_instruction")


class ImagePlace(msgspec.Struct, frozen=True):
    """Where a camera lies: its record, its key in the Example; `shape` only where pixels are stored raw."""

    offset: int
    length: int
    key: str
    shape: tuple[int, ...] = ()
    dtype: str = "uint8"
    encoding: str = "none"


def read(ref: RecordingRef, source: Source, embodiment: Embodiment) -> Recording:
    """One episode with its steps, images by reference, and what its metadata gets wrong.

    Raises Unreadable: `corrupt`, `truncated`, `wrong_format`, `empty`, `shape_changed`, `required_missing`.
    """
    place = _PLACE.decode(ref.place)
    features = parse_example(read_record_at(ref.uri, place.offset, place.length))
    return recording(ref, source, embodiment, features, load_features(os.path.dirname(ref.uri)))  # noqa: PTH120 cheaper


def recording(
    ref: RecordingRef,
    source: Source,
    embodiment: Embodiment,
    features: Mapping[str, Values],
    metadata_of_set: tuple[Mapping[str, Leaf], str],
) -> Recording:
    """The recording that an Example's features are, whoever parsed them; `metadata_of_set` is what load_features gives.

    Raises Unreadable as `read` does.
    """
    place = _PLACE.decode(ref.place)
    declared, fault = metadata_of_set
    steps = read_steps(features, declared)
    times, frame_index, odd_clock = _times(steps, embodiment)
    texts, utterances, instructions = _instructions(steps, times)
    metadata = _metadata(features, declared)
    utterances = utterances or _utterances_of(metadata)
    own_columns = {name: column for name, column in {**steps.columns, **texts}.items() if name != TIMESTAMP}
    columns = {TIMESTAMP: times, FRAME_INDEX: frame_index, **own_columns}
    missing = [name for name in source.required if name not in columns and not _is_camera(name, steps)]
    if missing:
        raise Unreadable("required_missing", f"{ref.recording_id} lacks required {missing}; it has {sorted(columns)}")
    own = {key.removeprefix(_EPISODE_METADATA): v for key, v in metadata.items() if key.startswith(_EPISODE_METADATA)}
    findings = [
        *ref.findings,
        *([metadata_finding("features", fault, 1.0, "files")] if fault else []),
        *([metadata_finding("column_unread", odd_clock)] if odd_clock else []),
        *steps.findings,
        *flag_findings(steps),
        *image_flag_findings(own, steps),
        *language_flag_findings(own, instructions or [u.text for u in utterances]),
    ]
    success = own.get("success")
    return Recording(
        ref.recording_id,
        ref.source,
        source.embodiment,
        ref.uri,
        FORMAT,
        {STEPS: pa.RecordBatch.from_arrays(list(columns.values()), list(columns))},
        videos={name: _image_ref(ref.uri, place, camera, declared) for name, camera in sorted(steps.cameras.items())},
        utterances=utterances,
        attributes={
            key.removeprefix(_EPISODE_METADATA).replace("/", "."): msgspec.json.encode(value).decode()
            for key, value in sorted(metadata.items())
        },
        success=success if isinstance(success, bool) else None,
        findings=tuple(findings),
    )


def _is_camera(name: str, steps: Steps) -> bool:
    return name.startswith(IMAGES) and name.removeprefix(IMAGES) in steps.cameras


def _times(steps: Steps, embodiment: Embodiment) -> tuple[pa.Array, pa.Array, str]:
    """(timestamp_ns, frame_index, why a stored `timestamp_ns` is not used, else empty).

    The stored clock, else index over the declared rate, else null throughout. Episodes of one length share these
    columns, unless they are so long that keeping them would tell.
    """
    count = steps.count
    clock, index = (_clock if count <= _SHARED_STEPS else _clock.__wrapped__)(count, embodiment.rate_hz)
    stored = steps.columns.get(TIMESTAMP)
    if stored is None and TIMESTAMP not in steps.texts:
        return clock, index, ""
    kind = pa.string() if stored is None else stored.type
    if stored is not None and pa.types.is_fixed_size_list(kind) and kind.list_size == 1:
        stored = stored.flatten()
    if stored is not None and pa.types.is_integer(stored.type):
        return stored.cast(pa.int64()), index, ""
    return clock, index, f"{STEP_PREFIX}{TIMESTAMP} holds {kind}, not whole ns, one a step; it is left out"


@lru_cache(maxsize=256)
def _clock(count: int, rate_hz: float | None) -> tuple[pa.Array, pa.Array]:
    index = np.arange(count)
    if rate_hz is None:
        return pa.nulls(count, pa.int64()), pa.array(index)
    return pa.array(np.round(index * (1e9 / rate_hz)).astype(np.int64)), pa.array(index)


def _instructions(steps: Steps, times: pa.Array) -> tuple[dict[str, pa.Array], tuple[Utterance, ...], list[str]]:
    """(text columns, utterances, instructions): a constant instruction is one utterance, a changing one stays a column.

    Where time is known, each run of a changing instruction is an utterance too.
    """
    names = [name for name in steps.texts if name.rpartition(".")[2] in _INSTRUCTION_NAMES]
    spoken = min(names, key=lambda name: (_INSTRUCTION_NAMES.index(name.rpartition(".")[2]), name), default=None)
    constant = spoken is not None and steps.texts[spoken].count(steps.texts[spoken][0]) == steps.count
    columns = {name: pa.array(texts) for name, texts in steps.texts.items() if not (constant and name == spoken)}
    if spoken is None:
        return columns, (), []
    texts = steps.texts[spoken]
    if constant:
        return columns, (Utterance(texts[0]),) if texts[0].strip() else (), [texts[0]] if texts[0].strip() else []
    starts = [i for i, text in enumerate(texts) if i == 0 or text != texts[i - 1]]
    clock = times.to_pylist()
    runs = [
        Utterance(texts[a], clock[a], clock[b] if b < len(clock) else clock[-1] + 1) for a, b in _runs(starts, clock)
    ]
    return columns, tuple(run for run in runs if run.text.strip()), [text for text in set(texts) if text.strip()]


def _runs(starts: list[int], clock: list[int | None]) -> list[tuple[int, int]]:
    """[start, end) of each run by step; none where the clock is unknown: an utterance without one holds throughout."""
    return [] if None in clock else list(zip(starts, [*starts[1:], len(clock)], strict=True))


def _utterances_of(metadata: Mapping[str, object]) -> tuple[Utterance, ...]:
    for key in sorted(metadata):
        text = metadata[key]
        if key.rpartition("/")[2] in _INSTRUCTION_NAMES and isinstance(text, str) and text.strip():
            return (Utterance(text),)
    return ()


def _metadata(features: Mapping[str, Values], declared: Mapping[str, Leaf]) -> dict[str, object]:
    """Everything of a record outside its steps: a value where one is stored, a list where several are."""
    out: dict[str, object] = {}
    for key, values in features.items():
        if key.startswith(STEP_PREFIX):
            continue
        leaf = declared.get(key)
        truth = leaf.dtype == "bool" if leaf is not None else key.rpartition("/")[2].startswith(("has_", "success"))
        items: list[object]
        if isinstance(values, list):
            items = [text_of(item) for item in values]
        else:
            items = [bool(value) for value in values] if truth else values.tolist()
        out[key] = items[0] if len(items) == 1 else items
    return out


def _image_ref(uri: str, place: RecordPlace, camera: Camera, declared: Mapping[str, Leaf]) -> ImageRef:
    digest = xxhash.xxh3_128()
    for image in camera.stored:
        digest.update(image)
    encoding = declared[camera.key].encoding if camera.shape else "none"
    where = ImagePlace(place.offset, place.length, camera.key, camera.shape, camera.dtype or "uint8", encoding)
    encoded = msgspec.json.encode(where).decode()
    size = sum(map(len, camera.stored))
    return ImageRef(uri, encoded, len(camera.stored), digest.hexdigest(), camera.depth, size)


def read_images(ref: ImageRef, indices: Sequence[int]) -> list[bytes]:
    """Images as stored (JPEG, PNG), raw pixels as PNG, in the order of `indices`.

    Raises Unreadable where the record is damaged, IndexError for an index the camera does not have.
    """
    place = msgspec.json.decode(ref.place, type=ImagePlace)
    return images_of(ref, read_record_at(ref.uri, place.offset, place.length), indices)


def images_of(ref: ImageRef, payload: bytes, indices: Sequence[int]) -> list[bytes]:
    """The images of a camera from its record's payload."""
    place = msgspec.json.decode(ref.place, type=ImagePlace)
    values = parse_example(payload, frozenset([place.key])).get(place.key)
    if values is None:
        raise Unreadable("absent", f"{Path(ref.uri).name}: no {place.key} in the record at offset {place.offset}")
    if not place.shape and isinstance(values, list):
        return [bytes(values[index]) for index in indices]
    leaf = Leaf(place.key, "tensor", place.shape, place.dtype, place.encoding)
    (camera,) = read_steps({place.key: values}, {place.key: leaf}).cameras.values()
    dtype = np.dtype(camera.dtype)
    return [encode_png(np.frombuffer(camera.stored[i], dtype).reshape(camera.shape)) for i in indices]
