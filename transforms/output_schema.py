"""One schema for every file of a table: what each episode would write, joined over all sources."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from transforms.episode import IMAGES, TIMESTAMP, ImageRef, VideoRef
from transforms.evidence import StagedColumn
from transforms.schema import FRAME_INDEX

EPISODE_ID = "episode_id"
LEADING = (EPISODE_ID, FRAME_INDEX, TIMESTAMP)
"""Columns that every transition has, in this order; the others follow by name."""
IMAGE, VIDEO, MIXED = "image", "video", "image|video"
"""Type names of camera columns, beside Arrow's own."""
_BYTES, _PATH = pa.field("bytes", pa.binary()), pa.field("path", pa.string())
_TIMESTAMP = pa.field("timestamp", pa.float64())
_INSTANT = pa.timestamp("ns", "UTC")
CAMERA_TYPES = {
    IMAGE: pa.struct([_BYTES, _PATH]),
    VIDEO: pa.struct([_PATH, _TIMESTAMP]),
    MIXED: pa.struct([_BYTES, _PATH, _TIMESTAMP]),
}
"""`datasets` decodes exactly struct<bytes, path> as an image, so a timestamp joins it only where sources are mixed."""


@dataclass(frozen=True)
class AgreedSchema:
    """Columns of transitions, sorted by name behind the leading ones."""

    columns: tuple[StagedColumn, ...] = ()


def list_of(value: pa.DataType) -> pa.DataType:
    """Variable-length list with one spelling of its field in every version of Arrow."""
    return pa.list_(pa.field("item", value))


def output_type(kind: pa.DataType) -> pa.DataType:
    """The type that a step column has in the output: int64, float32, float64, bool, string, or lists of these.

    Fixed-size lists become lists, since robots differ in size. Instants become nanoseconds, in UTC where they have a
    zone: readers of text tell seconds or nanoseconds by a file's digits. What has no plain form becomes JSON text.
    """
    is_list = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if any(test(kind) for test in is_list):
        return list_of(output_type(kind.value_type))
    if pa.types.is_dictionary(kind):
        return output_type(kind.value_type)
    if pa.types.is_timestamp(kind):
        return pa.timestamp("ns", None if kind.tz is None else "UTC")
    if pa.types.is_boolean(kind) or pa.types.is_null(kind) or pa.types.is_temporal(kind):
        return kind
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_floating(kind):
        return pa.float64() if kind == pa.float64() else pa.float32()
    is_bytes = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    if any(test(kind) for test in is_bytes):
        return pa.binary()
    return pa.string()


def parse_type(text: str) -> pa.DataType:
    """The Arrow type behind a StagedColumn's text."""
    if text in CAMERA_TYPES:
        return CAMERA_TYPES[text]
    if text.startswith("list<item: "):
        return list_of(parse_type(text.removeprefix("list<item: ").removesuffix(">")))
    if text == str(_INSTANT):
        return _INSTANT  # Arrow has no alias for a type with a zone
    return pa.type_for_alias(text)


def join_types(a: str, b: str) -> str | None:
    """The narrowest type that holds both, None where there is none; the order of joining does not matter."""
    if a == b or b == "null":
        return a
    if a == "null":
        return b
    if {a, b} <= set(CAMERA_TYPES):
        return MIXED
    if {a, b} & set(CAMERA_TYPES):
        return None
    if a.startswith("list<") or b.startswith("list<"):
        inner = join_types(_item(a), _item(b))
        return None if inner is None else f"list<item: {inner}>"
    pair = {a, b}
    if pair == {"bool", "int64"}:
        return "int64"
    if pair == {"bool", "float"}:
        return "float"
    return "double" if pair <= {"bool", "int64", "float", "double"} else None


def _item(text: str) -> str:
    return text.removeprefix("list<item: ").removesuffix(">") if text.startswith("list<") else text


def camera_columns(videos: Mapping[str, VideoRef | ImageRef]) -> tuple[StagedColumn, ...]:
    """A column for each camera, by where its pixels are."""
    kinds = {camera: VIDEO if isinstance(ref, VideoRef) else IMAGE for camera, ref in videos.items()}
    return tuple(StagedColumn(IMAGES + camera, kind) for camera, kind in sorted(kinds.items()))


def step_columns(schema: pa.Schema) -> tuple[StagedColumn, ...]:
    """The output columns of a batch of transitions, cameras aside."""
    return tuple(StagedColumn(field.name, str(output_type(field.type))) for field in schema)


def convert(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """A step column in its agreed type; raises pa.ArrowInvalid where a value does not fit (uint64 beyond int64)."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_list(kind):
        return _to_list(column, kind)
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), kind)
    if pa.types.is_string(kind) and output_type(column.type) == kind and not _is_text(column.type):
        texts = [None if v is None else json.dumps(v, sort_keys=True, default=str) for v in column.to_pylist()]
        return pa.array(texts, kind)
    return column.cast(kind, safe=not pa.types.is_floating(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _to_list(column: pa.Array, kind: pa.DataType) -> pa.Array:
    valid = np.asarray(column.is_valid())
    present = column.drop_null()
    if pa.types.is_fixed_size_list(column.type):
        lengths, values = np.full(len(present), column.type.list_size), present.flatten()
    elif pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        lengths, values = np.asarray(present.value_lengths(), np.int64), present.flatten()
    else:
        lengths, values = np.ones(len(present), np.int64), present
    ends = np.zeros(len(column), np.int64)
    ends[valid] = lengths
    offsets = pa.array(np.concatenate([[0], np.cumsum(ends)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, convert(values, kind.value_type), type=kind, mask=pa.array(~valid))


def arrow_schema(agreed: AgreedSchema) -> pa.Schema:
    """The transitions' schema; image columns are announced to `datasets`, which then shows pictures."""
    fields = [pa.field(column.name, parse_type(column.type)) for column in agreed.columns]
    images = {column.name: {"_type": "Image"} for column in agreed.columns if column.type == IMAGE}
    features = json.dumps({"info": {"features": images}}, sort_keys=True)
    return pa.schema(fields, metadata={"huggingface": features} if images else None)


@dataclass(frozen=True)
class _Claim:
    column: str
    type: str


def agree_on_columns(claims: Iterable[tuple[str, Sequence[StagedColumn]]]) -> AgreedSchema:
    """The one schema of all files from (source, its episodes' columns); the first source of a claim is named in errors.

    Raises ValueError where two sources cannot share a column.
    """
    found: dict[_Claim, str] = {}
    for source, columns in claims:
        for column in columns:
            _remember(found, _Claim(column.name, column.type), source)
    return AgreedSchema(agree(found))


def _remember(claims: dict[_Claim, str], claim: _Claim, source: str) -> None:
    claims[claim] = min(source, claims.get(claim, source))


def agree(claims: dict[_Claim, str]) -> tuple[StagedColumn, ...]:
    """One type a column, leading columns first; raises ValueError naming both sources of a conflict."""
    types: dict[str, list[str]] = {}
    for claim in claims:
        types.setdefault(claim.column, []).append(claim.type)
    columns = []
    for name in sorted(types, key=lambda n: (LEADING.index(n) if n in LEADING else len(LEADING), n)):
        kinds = sorted(types[name])
        joined: str | None = "null"
        for kind in kinds:
            joined = None if joined is None else join_types(joined, kind)
        if joined is None:
            raise ValueError(_conflict(name, kinds, claims))
        columns.append(StagedColumn(name, joined))
    return tuple(columns)


def _conflict(name: str, kinds: Sequence[str], claims: dict[_Claim, str]) -> str:
    a, b = next(((x, y) for x in kinds for y in kinds if join_types(x, y) is None), next(pairwise(kinds)))
    return (
        f"column {name!r} is {a} in source {claims[_Claim(name, a)]!r} and {b} in source {claims[_Claim(name, b)]!r}; "
        "one folder has one schema: rename the column in one of them or curate the two into separate outputs"
    )
