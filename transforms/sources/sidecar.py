"""What lies beside a video: tables of sensors, instructions, marks and frame times, from CSV, Parquet, JSON, JSONL."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from transforms.arrays import list_column
from transforms.conventions import Embodiment, Source
from transforms.episode import TIMESTAMP, Finding, Utterance
from transforms.unreadable import Unreadable

SUFFIXES = (".json", ".jsonl", ".csv", ".parquet")
NS_PER_UNIT = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
FRAME_COLUMNS = ("frame_index", "frame")
"""Integer columns that say which frame of the video a row was taken with."""
_TEXT_COLUMNS = ("text", "instruction", "language_instruction")
_MAX_NS = 2**62
_ELEMENT = re.compile(r"(.+)\[(\d+)\]")


@dataclass(frozen=True)
class Sidecar:
    """One file's content: at most one table, and what JSON says besides. Times are ns; `attributes` are JSON."""

    table: pa.RecordBatch | None = None
    utterances: tuple[Utterance, ...] = ()
    episodes: tuple[tuple[int, int], ...] | None = None
    frame_times: tuple[int, ...] | None = None
    success: bool | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


class _Span(msgspec.Struct, frozen=True):
    start: float | int
    end: float | int


class _Said(msgspec.Struct, frozen=True):
    text: str
    start: float | int | None = None
    end: float | int | None = None


def read_sidecar(path: Path, source: Source, embodiment: Embodiment) -> Sidecar:
    """One sidecar, its times in `source.time_unit`.

    Raises Unreadable `corrupt` where it cannot be parsed, `empty` where it has no byte, `absent`.
    """
    try:
        if path.stat().st_size == 0:
            raise Unreadable("empty", f"{path} is empty (0 bytes); write it again or remove it")
        if path.suffix == ".json":
            return _from_json(path, source, embodiment)
        if path.suffix == ".jsonl":
            rows = [_decode(line, path, n) for n, line in enumerate(path.read_bytes().splitlines(), 1) if line.strip()]
            return _from_rows(rows, path, source, embodiment)
        table = _read_csv(path) if path.suffix == ".csv" else pa.parquet.ParquetFile(path).read()
    except FileNotFoundError as error:
        raise Unreadable("absent", f"{path} does not exist any more; restore it") from error
    except (pa.ArrowException, OSError) as error:
        raise Unreadable("corrupt", f"{path}: not readable as {path.suffix[1:]} ({error}); write it again") from error
    return _from_table(table, path, source, embodiment)


def _read_csv(path: Path) -> pa.Table:
    # Arrow's own list of nulls holds NaN, which is a value here
    options = pyarrow.csv.ConvertOptions(null_values=[""], strings_can_be_null=True)
    return pyarrow.csv.read_csv(path, convert_options=options)


def _decode(data: bytes, path: Path, line: int) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable("corrupt", f"{path}, line {line}: not JSON ({error}); write it again") from error


def _converted(value: object, kind: Any, path: Path, key: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise Unreadable("corrupt", f"{path}: {key!r} is malformed ({error}); see docs/video.md") from error


def to_ns(value: float, unit: str, place: Path) -> int:
    """A time in the source's unit as whole ns, exact for whole numbers. Raises Unreadable `corrupt` beyond 2^62 ns."""
    scale = NS_PER_UNIT[unit]
    if not abs(value) < _MAX_NS / scale:
        limit = f"{_MAX_NS / scale:g} {unit}"
        raise Unreadable("corrupt", f"{place}: time {value:g} {unit} is beyond {limit}; correct it or `time_unit`")
    return value * scale if isinstance(value, int) else round(value * scale)


def _from_json(path: Path, source: Source, embodiment: Embodiment) -> Sidecar:
    content = _decode(path.read_bytes(), path, 1)
    if isinstance(content, list):
        return _from_rows(content, path, source, embodiment)
    if not isinstance(content, dict):
        raise Unreadable("corrupt", f"{path} holds {type(content).__name__}, neither an object nor a list")
    unit = source.time_unit
    columns = content.get(source.time_column)
    tabular = isinstance(columns, list) and {k: v for k, v in content.items() if _is_column(v, len(columns))}
    side = _from_table(_table(tabular, path), path, source, embodiment) if tabular else Sidecar()
    spoken = content.get("instruction", content.get("instructions"))
    utterances = side.utterances
    if isinstance(spoken, str):
        utterances = (Utterance(spoken),)
    elif spoken is not None:
        said = _converted(spoken, list[_Said], path, "instruction")
        utterances = tuple(_utterance(item, unit, path) for item in said)
    spans = _converted(content["episodes"], list[_Span], path, "episodes") if "episodes" in content else None
    stamps = content.get("timestamps") if source.time_column != "timestamps" else None
    times = _converted(stamps, list[float | int], path, "timestamps") if stamps is not None else None
    ns = partial(to_ns, unit=unit, place=path)
    known = {"instruction", "instructions", "episodes", "timestamps", *(tabular or ())}
    success = content.get("success")
    return replace(
        side,
        utterances=tuple(u for u in utterances if u.text.strip()),
        episodes=None if spans is None else tuple((ns(s.start), ns(s.end)) for s in spans),
        frame_times=None if times is None else tuple(map(ns, times)),
        success=success if isinstance(success, bool) else None,
        attributes={k: msgspec.json.encode(v).decode() for k, v in sorted(content.items()) if k not in known},
    )


def _is_column(value: object, rows: int) -> bool:
    return isinstance(value, list) and len(value) == rows and not any(isinstance(v, dict) for v in value)


def _utterance(said: _Said, unit: str, path: Path) -> Utterance:
    if said.start is None:
        return Utterance(said.text)
    end = None if said.end is None else to_ns(said.end, unit, path)
    return Utterance(said.text, to_ns(said.start, unit, path), end)


def _from_rows(rows: Sequence[object], path: Path, source: Source, embodiment: Embodiment) -> Sidecar:
    """Objects with a `text` and a start are utterances, others the rows of a table."""
    if not rows:
        return _no_rows(path)
    items = _converted(list(rows), list[dict[str, Any]], path, "rows")
    if all("text" in item for item in items):
        starts = [{"start": item.get(source.time_column), **item} for item in items]
        said = [_converted(item, _Said, path, "text") for item in starts]
        return Sidecar(utterances=tuple(_utterance(item, source.time_unit, path) for item in said if item.text.strip()))
    return _from_table(_table({k: [i.get(k) for i in items] for i in items for k in i}, path), path, source, embodiment)


def _no_rows(path: Path) -> Sidecar:
    detail = f"{path.name} is readable and holds no row"
    return Sidecar(findings=(Finding("load", "metadata.sidecar_empty", 1.0, "files", detail=detail),))


def _table(columns: Mapping[str, list[Any]], path: Path) -> pa.Table:
    try:
        return pa.table({name: pa.array(values) for name, values in columns.items()})
    except pa.ArrowException as error:
        raise Unreadable("corrupt", f"{path}: a column mixes types ({error}); write one type a column") from error


def _from_table(table: pa.Table, path: Path, source: Source, embodiment: Embodiment) -> Sidecar:
    names = table.column_names
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise Unreadable("corrupt", f"{path}: column {repeated[0]!r} appears twice; name each column once")
    batch = table.combine_chunks().to_batches()
    if not batch or not batch[0].num_rows:
        return _no_rows(path)
    columns = {name: _plain(batch[0].column(name)) for name in names}
    times, findings = _stamps(columns.get(source.time_column), batch[0].num_rows, path, source, embodiment)
    gathered = {TIMESTAMP: times, **{k: v for k, v in gather_vectors(columns).items() if k != TIMESTAMP}}
    made = pa.RecordBatch.from_arrays(list(gathered.values()), list(gathered))
    return Sidecar(made, _spoken(columns, times), findings=findings)


def _plain(column: pa.Array) -> pa.Array:
    """A column in the one type of its kind: Polars writes large texts and lists, pandas texts by a dictionary."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(column.dictionary_decode())
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if pa.types.is_large_list(kind):
        return column.cast(pa.list_(kind.value_type))
    return column


def gather_vectors(columns: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
    """`name[0], name[1], …` as one vector `name` where all are numbers, indexed without a gap; others as given."""
    parts: dict[str, dict[int, pa.Array]] = {}
    for name, column in columns.items():
        if (match := _ELEMENT.fullmatch(name)) and _is_number(column.type):
            parts.setdefault(match[1], {})[int(match[2])] = column
    whole = {name: p for name, p in parts.items() if sorted(p) == list(range(len(p))) and name not in columns}
    out: dict[str, pa.Array] = {}
    for name, column in columns.items():
        match = _ELEMENT.fullmatch(name)
        if match is None or match[1] not in whole or not _is_number(column.type):
            out[name] = column
        elif match[1] not in out:
            elements = whole[match[1]]
            out[match[1]] = list_column(
                np.stack([e.to_numpy(zero_copy_only=False) for _, e in sorted(elements.items())], axis=1)
            )
    return out


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _stamps(
    column: pa.Array | None, rows: int, path: Path, source: Source, embodiment: Embodiment
) -> tuple[pa.Array, tuple[Finding, ...]]:
    """The time column as int64 ns, null where a row has none; without one, index over the declared rate."""
    if column is None or not (_is_number(column.type) or pa.types.is_timestamp(column.type)):
        kind = "no column" if column is None else f"no number or time but {column.type} in column"
        detail = f"{path.name}: {kind} {source.time_column!r}; declare `time_column`"
        found = Finding("load", "metadata.time_column", detail=detail, status="not_run")
        if embodiment.rate_hz is None:
            return pa.nulls(rows, pa.int64()), (found,)
        times = np.round(np.arange(rows) * (1e9 / embodiment.rate_hz)).astype(np.int64)
        return pa.array(times), (found,)
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("ns")).cast(pa.int64()), ()
    scale = NS_PER_UNIT[source.time_unit]
    values = column.to_numpy(zero_copy_only=False)
    limit = _MAX_NS // scale
    usable: NDArray[np.bool_] = np.isfinite(values) & (np.abs(values.astype(np.float64)) < limit)
    safe = np.where(usable, values, 0)
    exact = pa.types.is_integer(column.type) and column.null_count == 0
    times = safe.astype(np.int64) * scale if exact else np.round(safe.astype(np.float64) * scale).astype(np.int64)
    lost = int(np.count_nonzero(~usable))
    if not lost:
        return pa.array(times), ()
    at = np.flatnonzero(~usable)
    detail = f"{path.name}: {lost} of {rows} rows have no finite {source.time_column!r}, the first is row {at[0]}"
    found = Finding("load", "metadata.time_missing", float(lost), "rows", detail=detail)
    return pa.array(times, mask=~usable), (found,)


def _spoken(columns: Mapping[str, pa.Array], times: pa.Array) -> tuple[Utterance, ...]:
    """Runs of one text in a table's text column: each holds until the next begins, the last to the end."""
    texts = next((columns[n] for n in _TEXT_COLUMNS if n in columns and pa.types.is_string(columns[n].type)), None)
    if texts is None:
        return ()
    said, clock = texts.to_pylist(), times.to_pylist()
    starts = [i for i in range(len(said)) if i == 0 or said[i] != said[i - 1]]
    if len(starts) == 1:
        return (Utterance(said[0]),) if said[0] and said[0].strip() else ()
    ends = [clock[i] for i in starts[1:]] + [None]
    runs = [Utterance(said[i], clock[i], end) for i, end in zip(starts, ends, strict=True) if said[i]]
    return tuple(run for run in runs if run.text.strip() and run.start_ns is not None)
