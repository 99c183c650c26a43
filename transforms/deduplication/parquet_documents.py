"""Parquet files of any origin as Arrow batches of documents: id, text, source, quality, published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from transforms.deduplication.document_files import FIRST_ROW, PLACE

_BATCH_BYTES = 8 << 20
"""Text or vectors of one batch, uncompressed, as the file's metadata tells it."""
_MOST_ROWS = 1 << 16


class ColumnError(ValueError):
    """A column that is absent or of a type that the job cannot take."""


@dataclass(frozen=True)
class DocumentColumns:
    """Names of the columns that are read; documents without texts are known by id alone."""

    text: str | None = None
    id: str | None = None
    source: str | None = None
    quality: str | None = None
    published: str | None = None
    vector: str | None = None

    def named(self) -> list[tuple[str, str]]:
        """(our name, the file's) of each column that is read."""
        return [(ours, theirs) for ours, theirs in vars(self).items() if theirs is not None]


@dataclass(frozen=True)
class RowGroup:
    """A row group of a file: `place` is the file's path as ids carry it, `first_row` counts from the file's start."""

    path: str
    place: str
    index: int
    first_row: int
    rows: int
    batch_rows: int


def places(files: Sequence[Path]) -> list[str]:
    """Each file's path from the deepest folder that holds all of them."""
    parents = [path.resolve().parent for path in files]
    root = Path(*_common([parent.parts for parent in parents])) if parents else Path()
    return [path.resolve().relative_to(root).as_posix() for path in files]


def _common(parts: list[tuple[str, ...]]) -> tuple[str, ...]:
    held: list[str] = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        held.append(level[0])
    return tuple(held)


def row_groups(files: Sequence[Path], columns: DocumentColumns) -> list[RowGroup]:
    """All row groups of Parquet files; raises ColumnError for a column that cannot be read."""
    found = []
    for path, place in zip(files, places(files), strict=True):
        try:
            metadata = pq.read_metadata(path)
            schema = metadata.schema.to_arrow_schema()
        except pa.ArrowInvalid as error:
            raise ColumnError(f"{path} is no Parquet file ({error}); leave it out of --input") from error
        _check(path, schema, columns)
        first = 0
        for index in range(metadata.num_row_groups):
            group = metadata.row_group(index)
            if group.num_rows:
                rows = _rows_at_once(group, columns.text or columns.vector)
                found.append(RowGroup(str(path), place, index, first, group.num_rows, rows))
            first += group.num_rows
    return found


def _rows_at_once(group: pq.RowGroupMetaData, large: str | None) -> int:
    chunks = [group.column(i) for i in range(group.num_columns)]
    size = sum(c.total_uncompressed_size for c in chunks if c.path_in_schema.split(".")[0] == large)
    return max(1, min(_MOST_ROWS, group.num_rows * _BATCH_BYTES // max(size, 1)))


def _check(path: Path, schema: pa.Schema, columns: DocumentColumns) -> None:
    for ours, name in columns.named():
        if schema.get_field_index(name) < 0:
            raise ColumnError(f"{path} has no column {name!r}; it has {', '.join(schema.names)}")
        kind = schema.field(name).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view()
        whole = pa.types.is_integer(kind)
        lists = pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
        numbers = lists and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))
        fits = {
            "text": text,
            "id": text or whole,
            "source": text or whole,
            "quality": whole or pa.types.is_floating(kind),
            "published": pa.types.is_boolean(kind),
            "vector": numbers,
        }[ours]
        if not fits:
            raise ColumnError(f"{path}: column {name!r} is {kind}, which is no {_WANTED[ours]}; name another column")


_WANTED = {
    "text": "text",
    "id": "text or integer",
    "source": "text or integer",
    "quality": "number",
    "published": "boolean",
    "vector": "list of numbers",
}


class ReadParquet(beam.DoFn):
    """A row group -> Arrow batches of its documents, of about 8 MB of text or vectors each.

    Without a column for it, an id is `PLACE:ROW-HASH`, of the file's place, the row in it and the text's xxh3-64.
    """

    def __init__(self, columns: DocumentColumns) -> None:
        self._columns = columns

    def process(self, element: RowGroup) -> Iterator[pa.RecordBatch]:
        named = self._columns.named()
        with pq.ParquetFile(element.path) as file:
            batches = file.iter_batches(element.batch_rows, [element.index], [theirs for _, theirs in named])
            first = element.first_row
            for batch in batches:
                yield self._documents(batch, element, first)
                first += batch.num_rows

    def _documents(self, batch: pa.RecordBatch, group: RowGroup, first: int) -> pa.RecordBatch:
        kinds = {"text": pa.large_string(), "quality": pa.float64(), "published": pa.bool_()}
        held = {
            ours: _plain(batch.column(theirs)).cast(kinds.get(ours, pa.string()))
            for ours, theirs in self._columns.named()
            if ours != "vector"
        }
        if "id" not in held:
            held["id"] = place_ids(held["text"], group.place, first)
        elif held["id"].null_count:
            row = first + int(np.flatnonzero(~np.asarray(held["id"].is_valid()))[0])
            raise ColumnError(
                f"{group.path}: row {row} has no {self._columns.id!r}; fill it, or leave --id out for ids from places"
            )
        if self._columns.vector is None:
            return pa.record_batch(list(held.values()), list(held))
        held["vector"] = batch.column(self._columns.vector)
        place = {PLACE: group.path, FIRST_ROW: str(first)}
        return pa.record_batch(list(held.values()), list(held)).replace_schema_metadata(place)


def place_ids(texts: pa.Array, place: str, first: int) -> pa.Array:
    """(N,) ids of texts by where they are and what they say."""
    bodies = pc.fill_null(texts.cast(pa.large_binary()), b"").to_pylist()
    rows = enumerate(bodies, first)
    return pa.array([f"{place}:{row:09d}-{xxhash.xxh3_64_hexdigest(body)}" for row, body in rows], pa.string())


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


class ReadParquetDocuments(beam.PTransform):
    """Row groups -> Arrow batches of documents; texts are dealt out anew: a large row group feeds all workers."""

    def __init__(self, columns: DocumentColumns) -> None:
        super().__init__()
        self._columns = columns

    def expand(self, groups: beam.PCollection[RowGroup]) -> beam.PCollection[pa.RecordBatch]:
        read = (
            groups
            | "SpreadRowGroups" >> beam.Reshuffle()
            | "ReadRowGroups" >> beam.ParDo(ReadParquet(self._columns)).with_output_types(pa.RecordBatch)
        )
        # storing vectors costs less than moving them
        return read if self._columns.vector is not None else read | "SpreadBatches" >> beam.Reshuffle()
