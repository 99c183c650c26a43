"""Edges between ids, such as those of vectors, as edges between the rows of document files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.deduplication.document_files import DocumentFiles, Layout
from transforms.deduplication.jaccard import Rows


class RowsOfIds(beam.DoFn):
    """Arrow rows a, b (ids), similarity -> Arrow rows a, b (int64 rows), similarity; a worker holds all ids.

    Raises ValueError for an id that no document has.
    """

    def __init__(self, layout: Layout | None = None) -> None:
        self._layout = layout or Layout()
        self._paths: list[str] = []
        self._ids = pa.array([], pa.string())
        self._rows: Rows = np.zeros(0, np.int64)

    def process(self, batch: pa.RecordBatch, paths: Sequence[str]) -> Iterator[pa.RecordBatch]:
        if self._paths != sorted(paths):
            self._ids, self._rows = DocumentFiles(paths, self._layout).every_id()
            self._paths = sorted(paths)
        yield pa.record_batch(
            [self._found(batch, "a"), self._found(batch, "b"), batch.column("similarity")], batch.schema.names
        )

    def _found(self, batch: pa.RecordBatch, end: str) -> pa.Array:
        places = pc.index_in(batch.column(end), self._ids)
        if places.null_count:
            name = batch.column(end).filter(places.is_null())[0].as_py()
            raise ValueError(f"an edge names {name!r}, which is the id of no document; read both from the same files")
        return pa.array(self._rows[np.asarray(places)])
