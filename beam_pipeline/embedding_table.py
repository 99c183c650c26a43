"""Vectors of episodes as their readers see them: the stored files of each source, and the rows as one matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from beam_pipeline.evidence_folder import read_source, source_folder
from beam_pipeline.output_folder import OutputError
from transforms.measured import StoredFile, table_of
from transforms.stored_embeddings import EMBEDDINGS, SCHEMA


def stored_embeddings(output: Path, sources: Sequence[str], channel: str | None = None) -> pa.Table:
    """The vectors of some sources, of one channel or of all, in order of source, episode, channel, camera and step.

    Raises OutputError where none of the sources was measured with `embedding:`.
    """
    parts, stored = [_EMPTY], False
    for source in sorted(sources):
        record = read_source(output, source)
        for file in record.files if record is not None else ():
            path = source_folder(output, source) / (record.folder if record else "") / Path(file.path).name
            if table_of(StoredFile(source, path)) != EMBEDDINGS:
                continue
            stored = True
            part = pq.ParquetFile(path).read()
            if channel is not None:
                part = part.filter(pc.equal(part.column("channel"), channel))
            parts.append(part.append_column("source", pa.array([source] * part.num_rows, pa.string())))
    if not stored:
        raise OutputError(
            f"{output} holds no embeddings of {', '.join(sorted(sources)) or 'any source'}; "
            "add `embedding:` to the configuration and measure anew"
        )
    return pa.concat_tables(parts)


def vectors_of(rows: pa.Table) -> NDArray[np.float32]:
    """(N, D) vectors of N rows. Raises ValueError where one has none, or where two models gave them."""
    models = pc.unique(rows.column("model_revision")).to_pylist()
    if rows.column("vector").null_count or len(models) > 1:
        raise ValueError(
            f"{rows.column('vector').null_count} of {rows.num_rows} rows have no vector and the others are of "
            f"{len(models)} models ({', '.join(map(str, models))}); filter by `error` and `model_revision` first"
        )
    codes = rows.column("vector").combine_chunks()
    flat = np.asarray(pc.list_flatten(codes), np.float32).reshape(rows.num_rows, -1)
    return flat * np.asarray(rows.column("scale"), np.float32)[:, None]


_EMPTY = pa.schema([*SCHEMA, pa.field("source", pa.string())]).empty_table()
