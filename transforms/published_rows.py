"""Steps of kept episodes out of parts that were published before, so that they are not read again from raw data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transforms.output_schema import CAMERA_TYPES, EPISODE_ID, convert

_LIST = "list<"
_EXACT = {
    "null": frozenset({"null"}),
    "bool": frozenset({"bool", "int64", "float", "double"}),
    "int64": frozenset({"bool", "int64", "double"}),
    "float": frozenset({"bool", "float", "double"}),
    "double": frozenset({"bool", "float", "double"}),
}
"""Published type -> the types that its values can have had before they were widened, or be widened to."""


def read_schema(path: Path) -> pa.Schema:
    """The schema of a published part, as its writer was given it."""
    if path.suffix == ".parquet":
        return pq.read_schema(path)
    return pa.ipc.open_file(pa.memory_map(str(path))).schema


def can_carry(published: pa.Schema, wanted: pa.Schema) -> bool:
    """Whether every row of a published part can be written under another agreed schema without a loss."""
    names = set(published.names) & set(wanted.names)
    return all(_carries(published.field(name).type, wanted.field(name).type) for name in names)


def _carries(old: pa.DataType, new: pa.DataType) -> bool:
    if old == new:
        return True
    if old in CAMERA_TYPES.values() or new in CAMERA_TYPES.values():
        return old in CAMERA_TYPES.values() and new in CAMERA_TYPES.values()
    if pa.types.is_list(new):
        return _carries(old.value_type if pa.types.is_list(old) else old, new.value_type)
    return pa.types.is_null(old) or str(new) in _EXACT.get(str(old), ())


def published_rows(path: Path, ids: Sequence[str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of some episodes (ids sorted) of a part, in its order, under a schema that can carry them."""
    wanted = pa.array(ids, pa.string())
    for table in _row_groups(path, ids[0], ids[-1]):
        chosen = pc.is_in(table.column(EPISODE_ID), wanted)
        rows = table if pc.all(chosen).as_py() else table.filter(chosen)
        if rows.num_rows:
            columns = [_column(rows, field) for field in schema]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _row_groups(path: Path, first: str, last: str) -> Iterator[pa.Table]:
    """The row groups of a part that may hold ids in [first, last]; of an Arrow file all of them."""
    if path.suffix != ".parquet":
        file = pa.ipc.open_file(pa.memory_map(str(path)))
        for index in range(file.num_record_batches):
            yield pa.Table.from_batches([file.get_batch(index)])
        return
    parquet = pq.ParquetFile(path)
    at = parquet.schema_arrow.get_field_index(EPISODE_ID)
    wanted = []
    for index in range(parquet.num_row_groups):
        known = parquet.metadata.row_group(index).column(at).statistics
        if known is None or not known.has_min_max or (known.min <= last and known.max >= first):
            wanted.append(index)
    with ThreadPoolExecutor(1) as pool:  # one is decoded while the one before it is written
        ahead: Future[pa.Table] | None = None
        for index in wanted:
            ready, ahead = ahead, pool.submit(parquet.read_row_group, index)
            if ready is not None:
                yield ready.result()
        if ahead is not None:
            yield ahead.result()


def _column(rows: pa.Table, field: pa.Field) -> pa.Array:
    index = rows.schema.get_field_index(field.name)
    if index < 0:
        return pa.nulls(rows.num_rows, field.type)
    column = rows.column(index).combine_chunks()
    array = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
    if array.type == field.type:
        return array
    if field.type in CAMERA_TYPES.values():
        parts = {child.name: array.field(at) for at, child in enumerate(array.type)}
        children = [parts.get(child.name, pa.nulls(len(array), child.type)) for child in field.type]
        seen = np.asarray(array.is_valid())
        return pa.StructArray.from_arrays(children, fields=list(field.type), mask=pa.array(~seen))
    return convert(array, field.type)
