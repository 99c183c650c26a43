"""From the flat lists of one RLDS Example to step columns: lengths agreed, shapes and dtypes restored."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.episode import Finding
from transforms.sources.rlds_leaf import STEP_PREFIX, Leaf, column_name, infer_leaf
from transforms.sources.tf_example import Values
from transforms.sources.tfrecord import MAX_PAYLOAD_BYTES
from transforms.unreadable import Unreadable

EXR, WAV, FLAC, OGG = b"\x76\x2f\x31\x01", b"RIFF", b"fLaC", b"OggS"
MP3 = (b"ID3", *(b"\xff" + bytes([second]) for second in (0xFB, 0xFA, 0xF3, 0xF2, 0xE3, 0xE2)))
MEDIA = (EXR, WAV, FLAC, OGG, *MP3)
"""First bytes of the files that a string feature may hold."""
_RAGGED_VALUES = "/ragged_flat_values"
_RAGGED_LENGTHS = "/ragged_row_lengths_0"


@dataclass(frozen=True)
class Camera:
    """Images of one key: encoded (`shape` empty), or raw pixels of `shape`; `stored` are the bytes as they lie."""

    key: str
    stored: tuple[memoryview, ...]
    depth: bool = False
    shape: tuple[int, ...] = ()
    dtype: str = ""


@dataclass(frozen=True)
class Steps:
    """What an Example's `steps/` hold: `count` rows of numeric and text columns, cameras by name."""

    count: int
    columns: Mapping[str, pa.Array]
    texts: Mapping[str, tuple[str, ...]]
    cameras: Mapping[str, Camera]
    findings: tuple[Finding, ...]


def metadata_finding(check: str, detail: str, value: float | None = None, unit: str = "") -> Finding:
    """Evidence that metadata and data disagree; `not_run` where there is nothing to measure."""
    status = "not_run" if value is None else "measured"
    return Finding("load", f"metadata.{check}", value, unit, detail=detail, status=status)  # type: ignore[arg-type]


def camera_name(column: str) -> str:
    """`observation.images.top`, `observation.image_0` and `goal_image` as `top`, `image_0`, `goal_image`."""
    return column.removeprefix("observation.").removeprefix("images.")


def text_of(value: memoryview | bytes) -> str:
    """UTF-8 text; bytes that are none are kept as escapes."""
    return bytes(value).decode(errors="backslashreplace")


def is_media(stored: Sequence[memoryview]) -> bool:
    """Whether what is declared as texts are files of pictures or sound: TFDS has no other place for an EXR.

    A text may begin like one; a file's head holds zeros, which a text does not.
    """
    heads = [bytes(item[:64]) for item in stored if len(item)]
    return bool(heads) and all(head.startswith(MEDIA) and b"\0" in head for head in heads)


def _own_leaf(key: str, values: Values, declared: Leaf | None, found: list[Finding]) -> Leaf:
    """The declared leaf where the stored kind of list can be it, else an inferred one and a finding."""
    if declared is None:
        return infer_leaf(key, values)
    if declared.stored_as_bytes == isinstance(values, list):
        return declared
    stored = "bytes" if isinstance(values, list) else values.dtype.name
    detail = f"{key} is declared {declared.kind} of {declared.dtype} and stored as {stored}; read as stored"
    found.append(metadata_finding("dtype", detail, 1.0, "columns"))
    return infer_leaf(key, values)


def count_steps(lists: Mapping[str, tuple[Leaf, int]]) -> int:
    """The number of steps that most lists state, those of one value a step before vectors.

    Raises Unreadable: `empty` (no step), `shape_changed` (a list of one value a step differs).
    """
    agreed = {size for leaf, size in lists.values() if leaf.stored_values == 1 and size}
    if len(agreed) == 1:
        return agreed.pop()
    single = {key: size for key, (leaf, size) in lists.items() if leaf.stored_values == 1 and size}
    whole = {
        key: size // width
        for key, (leaf, size) in lists.items()
        if (width := leaf.stored_values) and size and size % width == 0
    }
    stated = single or whole or {key: size for key, (_, size) in lists.items() if size}
    if not stated:
        raise Unreadable("empty", f"an episode of 0 steps: all of {sorted(lists)} are empty; remove it from the set")
    votes = Counter(stated.values())
    steps = min(votes, key=lambda size: (-votes[size], size)) if single or whole else min(votes)
    odd = {key: size for key, size in single.items() if size != steps}
    if odd:
        key, size = sorted(odd.items())[0]
        peer = min(key for key, size in stated.items() if size == steps)
        raise Unreadable(
            "shape_changed", f"{key} has {size} steps where {peer} has {steps}; the record is damaged: write it again"
        )
    return steps


def _cast(values: NDArray[np.generic], leaf: Leaf, found: list[Finding]) -> NDArray[np.generic]:
    """Values in their declared dtype; kept as stored where they do not fit it."""
    target = leaf.number
    if target is None or target == values.dtype:
        return values
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            cast = values.astype(target)
            fits = target.kind == "f" or bool((cast.astype(values.dtype) == values).all())
    else:
        cast = values.astype(target)
        fits = target.kind == "f" or cast.astype(values.dtype).tobytes() == values.tobytes()
    if not fits:
        detail = (
            f"{leaf.key} is declared {leaf.dtype} and holds {values.min()} to {values.max()}; kept as {values.dtype}"
        )
        found.append(metadata_finding("dtype", detail, 1.0, "columns"))
        return values
    return cast


@lru_cache(maxsize=64)
def _arrow_type(dtype: np.dtype[np.generic]) -> pa.DataType:
    return pa.from_numpy_dtype(dtype)


def _column(flat: NDArray[np.generic]) -> pa.Array:
    """Numbers as an Arrow array of their dtype, always a copy: a record's bytes are not kept for its columns."""
    dtype = flat.dtype
    stored = np.packbits(flat.view(np.uint8), bitorder="little") if dtype.kind == "b" else flat
    return pa.Array.from_buffers(_arrow_type(dtype), len(flat), [None, pa.py_buffer(stored.tobytes())])


def _unpacked(leaf: Leaf, stored: list[memoryview]) -> NDArray[np.generic]:
    """Tensors that TFDS stored as bytes or zlib, one a step, as one flat array."""
    dtype = leaf.number
    if dtype is None:
        raise Unreadable(
            "wrong_format", f"{leaf.key} is packed {leaf.dtype!r}; this reader unpacks NumPy's numbers only"
        )
    size = prod(size or 0 for size in leaf.shape) * dtype.itemsize
    if size > MAX_PAYLOAD_BYTES:
        raise Unreadable("absurd_size", f"{leaf.key} declares {size} bytes a step; at most {MAX_PAYLOAD_BYTES}")
    parts = []
    for step, item in enumerate(stored):
        if leaf.encoding == "zlib":
            try:
                item = memoryview(zlib.decompressobj().decompress(item, size + 1))
            except zlib.error as error:
                raise Unreadable("corrupt", f"{leaf.key} at step {step}: {error}; write the record again") from error
        if len(item) != size:
            raise Unreadable(
                "shape_changed", f"{leaf.key} at step {step} has {len(item)} bytes; {leaf.shape} {dtype} needs {size}"
            )
        parts.append(np.frombuffer(item, dtype))
    return np.concatenate(parts)


def _width(leaf: Leaf, count: int, steps: int, found: list[Finding]) -> int:
    """Values a step of `count` in all; a finding where another width is declared."""
    width, odd = divmod(count, steps)
    if odd:
        raise Unreadable(
            "shape_changed",
            f"{leaf.key} has {count} values, no multiple of {steps} steps; the record is damaged: write it again",
        )
    if leaf.values is not None and leaf.values != width:
        detail = f"{leaf.key} is declared {leaf.shape} ({leaf.values} values a step) and holds {width}; read as it is"
        found.append(metadata_finding("shape", detail, float(width), "values/step"))
    return width


def _raw_camera(leaf: Leaf, pixels: NDArray[np.generic]) -> Camera:
    """Pixels (T, H * W * C) of a leaf that `is_raw_image`, one image a row."""
    stored = tuple(memoryview(row.tobytes()) for row in pixels)
    return Camera(leaf.key, stored, leaf.dtype == "uint16", tuple(s or 0 for s in leaf.shape), pixels.dtype.name)


def _ragged(features: Mapping[str, Values], stem: str, steps: int) -> pa.Array | None:
    """A list per step from flat values and row lengths; None where the nesting is deeper than one level."""
    flat, lengths = features[stem + _RAGGED_VALUES], features.get(stem + _RAGGED_LENGTHS)
    if not isinstance(lengths, np.ndarray) or stem + _RAGGED_LENGTHS.replace("0", "1") in features:
        return None
    if len(lengths) != steps or (lengths < 0).any() or int(lengths.sum()) != len(flat):
        raise Unreadable(
            "shape_changed",
            f"{stem}: {len(lengths)} rows of {int(lengths.sum())} values; {steps} of {len(flat)} stored",
        )
    values = pa.array([text_of(item) for item in flat]) if isinstance(flat, list) else pa.array(np.array(flat))
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)), values)


def _add_texts(
    leaf: Leaf, stored: list[memoryview], steps: int, texts: dict[str, tuple[str, ...]], columns: dict[str, pa.Array]
) -> None:
    """One text a step goes to `texts`; several a step become a list column, media and undeclared bytes a binary one."""
    first = stored[0]
    if len(stored) == steps and bytes(first[:4]).startswith(MEDIA) and is_media(stored):
        columns[column_name(leaf.key)] = pa.array([bytes(item) for item in stored], pa.binary())
        return
    try:
        if first is stored[-1] and stored.count(first) == len(stored):  # one text throughout: decoded once
            items = [str(first, "utf-8")] * len(stored)
        else:
            items = [str(item, "utf-8") for item in stored]
    except UnicodeDecodeError:
        if leaf.dtype != "string" and len(stored) == steps:
            columns[column_name(leaf.key)] = pa.array([bytes(item) for item in stored], pa.binary())
            return
        items = [text_of(item) for item in stored]
    if len(items) == steps:
        texts[column_name(leaf.key)] = tuple(items)
    elif len(items) % steps:
        raise Unreadable("shape_changed", f"{leaf.key} has {len(items)} texts, no multiple of {steps} steps")
    else:
        columns[column_name(leaf.key)] = pa.FixedSizeListArray.from_arrays(pa.array(items), len(items) // steps)


def read_steps(features: Mapping[str, Values], declared: Mapping[str, Leaf]) -> Steps:
    """The steps of one Example. Raises Unreadable: `wrong_format`, `empty`, `shape_changed`, `corrupt`."""
    found: list[Finding] = []
    keys = sorted([key for key in features if key.startswith(STEP_PREFIX)])
    if not keys:
        raise Unreadable(
            "wrong_format", f"no 'steps/…' among {sorted(features)[:8]}; an RLDS record holds one episode's steps"
        )
    parts = [key for key in keys if "/ragged_" in key]
    ragged = sorted(key.removesuffix(_RAGGED_VALUES) for key in parts if key.endswith(_RAGGED_VALUES))
    plain = [key for key in keys if key not in parts] if parts else keys
    leaves = {key: _own_leaf(key, features[key], declared.get(key), found) for key in plain}
    steps = count_steps({key: (leaf, len(features[key])) for key, leaf in leaves.items()})
    columns: dict[str, pa.Array] = {}
    texts: dict[str, tuple[str, ...]] = {}
    cameras: dict[str, Camera] = {}
    for key, leaf in leaves.items():
        values, name = features[key], leaf.column
        if len(values) == 0:
            continue
        if leaf.kind == "image" and isinstance(values, list):
            if any(len(item) for item in values):
                cameras[camera_name(name)] = Camera(key, tuple(values), leaf.dtype == "uint16")
        elif isinstance(values, list) and leaf.encoding == "none":
            _add_texts(leaf, values, steps, texts, columns)
        else:
            flat = _unpacked(leaf, values) if isinstance(values, list) else _cast(values, leaf, found)
            width = _width(leaf, len(flat), steps, found)
            if leaf.is_raw_image and width == leaf.values:
                cameras[camera_name(name)] = _raw_camera(leaf, flat.reshape(steps, width))
            elif width == 1 and leaf.is_scalar:
                columns[name] = _column(flat)
            else:
                columns[name] = pa.FixedSizeListArray.from_arrays(_column(flat), width)
    for stem in ragged:
        column = _ragged(features, stem, steps)
        if column is None:
            found.append(metadata_finding("column_unread", f"{stem} nests lists deeper than one level; left out"))
        else:
            columns[column_name(stem)] = column
    absent = declared.keys() - {key for key in plain if len(features[key])}
    ragged_names = {column_name(stem) for stem in ragged}
    for key in sorted([key for key in absent if key.startswith(STEP_PREFIX) and column_name(key) not in ragged_names]):
        found.append(metadata_finding("column_absent", f"{key} is declared and not in the record", 1.0, "columns"))
    for key in plain if declared else ():
        if key not in declared:
            found.append(metadata_finding("column_undeclared", f"{key} is stored and not declared", 1.0, "columns"))
    return Steps(steps, columns, texts, cameras, tuple(found))
