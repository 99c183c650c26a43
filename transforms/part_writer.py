"""Writes one table file as it streams in, in either format, the same bytes for the same rows."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from transforms.file_hash import file_hash
from transforms.output_files import OUT, PartReport
from transforms.row_bytes import row_bytes

Format = Literal["parquet", "arrow"]
Compression = Literal["zstd", "lz4", "snappy", "none"]
_LEVELS = {"zstd": range(1, 23), "lz4": range(1, 13)}
_GROUP_BYTES = 4 << 20
"""A row group is closed at this size too, so that rows with images bound the memory of writer and reader."""
_HELD_BYTES = 64 << 20
"""Arrow gives back what encoding took, several times a row group's size, whenever this much has been written."""


@dataclass(frozen=True)
class SinkParams:
    """Format of the output's tables. A part is closed before its episodes exceed `part_target_mb` uncompressed."""

    format: Format = "parquet"
    compression: Compression = "zstd"
    compression_level: int | None = None
    row_group_rows: int = 4096
    part_target_mb: float = 64.0
    ledger_part_rows: int = 1_000_000

    def __post_init__(self) -> None:
        if self.format == "arrow" and self.compression == "snappy":
            raise ValueError("sink.compression snappy does not exist in Arrow IPC files; use zstd, lz4 or none")
        levels = _LEVELS.get(self.compression)
        if self.compression_level is not None and levels is None:
            raise ValueError(
                f"sink.compression_level is {self.compression_level}, but {self.compression} has no levels"
            )
        if self.compression_level is not None and levels is not None and self.compression_level not in levels:
            allowed = f"{self.compression} takes {levels[0]} to {levels[-1]}"
            raise ValueError(f"sink.compression_level is {self.compression_level}; {allowed}")
        for name in ("row_group_rows", "part_target_mb", "ledger_part_rows"):
            if not getattr(self, name) > 0:
                raise ValueError(f"sink.{name} is {getattr(self, name)}; need a positive number")

    @property
    def extension(self) -> str:
        """File name ending of the format."""
        return self.format


class _TableWriter(Protocol):
    def write_table(self, table: pa.Table) -> None: ...

    def close(self) -> None: ...


class PartWriter:
    """Collects rows into row groups; a row group may span episodes, so that short episodes do not make small ones.

    Where a group ends depends on its rows alone, never on the batches that they came in or how Arrow holds them: the
    same rows give the same bytes.
    """

    def __init__(self, writer: _TableWriter, schema: pa.Schema, params: SinkParams) -> None:
        self._writer = writer
        self._schema = schema
        self._limit = int(params.row_group_rows)
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0
        self._pending_bytes = 0
        self._written_bytes = 0
        self.rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows of the part's schema."""
        self.rows += batch.num_rows
        self._pending.append(batch)
        self._pending_rows += batch.num_rows
        self._pending_bytes += batch.nbytes
        if self._pending_rows >= self._limit or self._pending_bytes >= _GROUP_BYTES:
            self._write_groups(whole=True)

    def flush(self) -> None:
        """Close the last row group."""
        self._write_groups(whole=False)

    def _write_groups(self, whole: bool) -> None:
        """Write what fills row groups; what is left over too, unless only whole groups are asked for."""
        if not self._pending_rows:
            return
        held = pa.Table.from_batches(self._pending, self._schema)
        start = 0
        for stop, full in group_ends(row_bytes(held), self._limit, _GROUP_BYTES):
            if full or not whole:
                self._writer.write_table(held.slice(start, stop - start).combine_chunks())
                start = stop
        left = held.slice(start)
        self._pending, self._pending_rows, self._pending_bytes = left.to_batches(), left.num_rows, left.nbytes
        self._written_bytes += held.nbytes - left.nbytes
        if self._written_bytes >= _HELD_BYTES or not whole:
            self._written_bytes = 0
            pa.default_memory_pool().release_unused()


def group_ends(sizes: NDArray[np.int64], most_rows: int, most_bytes: int) -> Iterator[tuple[int, bool]]:
    """(end, whether it is full) of each row group of rows with these sizes (N,) in bytes."""
    total = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = int(total[start - 1]) if start else 0
        by_bytes = int(np.searchsorted(total, before + most_bytes)) + 1
        stop = min(by_bytes, start + most_rows, len(sizes))
        yield stop, by_bytes == stop or stop == start + most_rows
        start = stop


class _ParquetTables:
    def __init__(self, path: Path, schema: pa.Schema, params: SinkParams) -> None:
        self._writer = pq.ParquetWriter(
            path,
            schema,
            compression=params.compression,
            compression_level=params.compression_level,
            use_dictionary=dictionary_columns(schema),
            write_statistics=True,
            version="2.6",
        )

    def write_table(self, table: pa.Table) -> None:
        self._writer.write_table(table, row_group_size=max(table.num_rows, 1))

    def close(self) -> None:
        self._writer.close()


class _ArrowTables:
    def __init__(self, path: Path, schema: pa.Schema, params: SinkParams) -> None:
        codec = None if params.compression == "none" else pa.Codec(params.compression, params.compression_level)
        self._writer = pa.ipc.new_file(path, schema, options=pa.ipc.IpcWriteOptions(compression=codec))

    def write_table(self, table: pa.Table) -> None:
        # a slice is written with what lies beside it in its last bytes: rows of their own have none
        own = table.take(pa.array(np.arange(table.num_rows)))
        self._writer.write_table(own.combine_chunks(), max_chunksize=max(table.num_rows, 1))

    def close(self) -> None:
        self._writer.close()


def dictionary_columns(schema: pa.Schema) -> list[str]:
    """Top-level text, flag and integer columns: a dictionary of floats or images only costs space and time."""
    tests = (pa.types.is_string, pa.types.is_boolean, pa.types.is_integer)
    return [field.name for field in schema if any(test(field.type) for test in tests)]


@contextmanager
def open_part(
    staging: Path, path: str, schema: pa.Schema, params: SinkParams, source: str
) -> Iterator[tuple[PartWriter, list[PartReport]]]:
    """A writer of `staging/out/path`; file and report appear, whole, when the context ends well."""
    reports: list[PartReport] = []
    temporary = temporary_file(staging)
    try:
        tables: _TableWriter = (_ParquetTables if params.format == "parquet" else _ArrowTables)(
            temporary, schema, params
        )
        writer = PartWriter(tables, schema, params)
        yield writer, reports
        writer.flush()
        tables.close()
        reports.append(PartReport(path, writer.rows, temporary.stat().st_size, file_hash(temporary), source))
        put_in_place(temporary, staging / OUT / path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_file(staging: Path) -> Path:
    """A new name in the staging area that no other attempt uses."""
    folder = staging / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / uuid.uuid4().hex


def put_in_place(temporary: Path, final: Path) -> None:
    """Give a finished file its name; an earlier attempt's equal file is replaced."""
    final.parent.mkdir(parents=True, exist_ok=True)
    os.replace(temporary, final)  # noqa: PTH105
