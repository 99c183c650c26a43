"""Sets of vectors for tests, files of them, and what brute force finds."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from apache_beam.options.pipeline_options import PipelineOptions
from numpy.typing import NDArray

from transforms.coders import from_ipc, to_ipc
from transforms.deduplication.centroids import Centroids
from transforms.deduplication.parquet_documents import DocumentColumns, ReadParquetDocuments, row_groups
from transforms.deduplication.semantic import SemanticParams, SimilarVectors
from transforms.deduplication.vector_documents import ABSTAINED_TAG, StoreVectors

Found = dict[tuple[str, str], float]


def clustered(count: int, width: int, seed: int) -> NDArray[np.float32]:
    """(N, D) vectors around a few centres, a fifth of them near another vector."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(count // 40, 1), width))
    vectors = centres[rng.integers(0, len(centres), count)] + 0.6 * rng.standard_normal((count, width))
    near = rng.choice(count, count // 5, replace=False)
    vectors[near] = vectors[rng.integers(0, count, len(near))] + 0.2 * rng.standard_normal((len(near), width))
    return vectors.astype(np.float32)


def write_vectors(path: Path, ids: Sequence[str], vectors: NDArray[np.floating], row_group_size: int = 1000) -> str:
    """A Parquet file of id and vector."""
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    pq.write_table(pa.table({"id": pa.array(ids), "vector": column}), path, row_group_size=row_group_size)
    return str(path)


def rounded(vectors: NDArray[np.floating]) -> list[list[int]]:
    """What int8 rows must be, by fractions where floats could differ: nearest integers, the largest entry 127."""
    return [[round(float(x) / float(np.abs(row).max()) * 127) for x in row] for row in vectors.astype(np.float64)]


def row_hashes(rows: NDArray[np.int8]) -> NDArray[np.uint64]:
    """(N,) hashes of rows (N, D)."""
    return np.array([xxhash.xxh3_64_intdigest(row.tobytes()) for row in rows], np.uint64)


def brute_force(ids: Sequence[str], rows: Sequence[Sequence[int]], cosine: str) -> set[tuple[str, str]]:
    """Pairs (a < b) of distinct rows at or above a cosine, by Python's integers; equal rows stand as the smallest id,
    and make a star from it."""
    stands: dict[tuple[int, ...], str] = {}
    pairs = set()
    for name, row in sorted(zip(ids, rows, strict=True)):
        if tuple(row) in stands:
            pairs.add((stands[tuple(row)], name))
        else:
            stands[tuple(row)] = name
    least = Fraction(cosine)
    held = sorted((name, row) for row, name in stands.items())
    matrix = np.array([row for _, row in held], dtype=object)
    squares = (matrix * matrix).sum(axis=1)
    for i in range(len(held)):
        dots = matrix[i + 1 :] @ matrix[i]
        for j, dot in enumerate(dots.tolist(), i + 1):
            if dot > 0 and dot**2 * least.denominator**2 >= least.numerator**2 * squares[i] * squares[j]:
                pairs.add((held[i][0], held[j][0]))
    return pairs


def _keep(batch: pa.RecordBatch, folder: str, name: str) -> None:
    data = to_ipc(batch)
    Path(folder, f"{name}-{xxhash.xxh3_128_hexdigest(data)}").write_bytes(data)


def _keep_bytes(data: bytes, folder: str) -> None:
    Path(folder, "centroids").write_bytes(data)


def find_edges(
    paths: Sequence[str],
    folder: Path,
    params: SemanticParams,
    frozen: Centroids | None = None,
    runner: object = "FnApiRunner",
    flags: Sequence[str] = (),
) -> pa.Table:
    """The edges that the pipeline finds, by ids, in order; what abstained and the centroids are left in `folder`."""
    folder.mkdir(parents=True)
    columns = DocumentColumns(id="id", vector="vector")
    width = None if frozen is None else frozen.rows.shape[1]
    with beam.Pipeline(runner=runner, options=PipelineOptions(list(flags))) as pipeline:
        stored = (
            pipeline
            | beam.Create(row_groups([Path(path) for path in paths], columns))
            | ReadParquetDocuments(columns)
            | beam.ParDo(StoreVectors(str(folder), width)).with_outputs(ABSTAINED_TAG, main="files")
        )
        stored["files"].element_type, stored[ABSTAINED_TAG].element_type = str, pa.RecordBatch
        found = stored["files"] | SimilarVectors(params, frozen)
        for name in ("exact", "near"):
            found[name] | f"Keep-{name}" >> beam.Map(_keep, str(folder), name)
        stored[ABSTAINED_TAG] | "KeepAbstained" >> beam.Map(_keep, str(folder), "abstained")
        found["centroids"] | "KeepCentroids" >> beam.Map(_keep_bytes, str(folder))
    return _named(folder)


def _named(folder: Path) -> pa.Table:
    """Edges between rows as edges between ids, by the documents' files alone."""
    files = [pa.ipc.open_file(str(path)).read_all() for path in sorted((folder / "documents").glob("*.arrow"))]
    ids = [file.column("id").to_pylist() for file in files]
    rows = []
    for path in [*folder.glob("exact-*"), *folder.glob("near-*")]:
        for row in from_ipc(path.read_bytes()).to_pylist():
            a, b = sorted(ids[end >> 32][end & 0xFFFFFFFF] for end in (row["a"], row["b"]))
            rows.append({"a": a, "b": b, "similarity": row.get("similarity", 1.0)})
    schema = pa.schema([("a", pa.string()), ("b", pa.string()), ("similarity", pa.float64())])
    return pa.Table.from_pylist(sorted(rows, key=lambda row: (row["a"], row["b"])), schema=schema)


def pairs_in(table: pa.Table) -> Found:
    """Pairs and similarities; fails where a pair appears twice."""
    rows = table.to_pylist()
    found = {(row["a"], row["b"]): row["similarity"] for row in rows}
    assert len(found) == len(rows), "a pair appears twice"
    return found
