"""Our side of benchmarks.dedup_semantic: a Beam job from Parquet files to edges, on two cores.

python -m benchmarks.dedup_semantic_ours FOLDER OUT.npy RUNNER CLUSTERS NEAREST THRESHOLD

CLUSTERS 0 takes the default. Prints one line of JSON: seconds from building the pipeline to its end (and those of all
processes' CPUs), and the versions. OUT holds the pairs of rows.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipeline.runner import PipelineExecutor, PipelineLifecycleManager
from benchmarks.harness import package_versions
from transforms.coders import from_ipc, to_ipc
from transforms.deduplication.document_files import DocumentFiles, Layout
from transforms.deduplication.parquet_documents import DocumentColumns, ReadParquetDocuments, row_groups
from transforms.deduplication.semantic import SemanticParams, SimilarVectors
from transforms.deduplication.vector_documents import ABSTAINED_TAG, StoreVectors

COLUMNS = DocumentColumns(id="id", vector="vector")


def write(batch: pa.RecordBatch, folder: str) -> None:
    """A batch as a file named by its content."""
    data = to_ipc(batch)
    Path(folder, xxhash.xxh3_128_hexdigest(data)).write_bytes(data)


def build(pipeline: beam.Pipeline, source: Path, staging: Path, params: SemanticParams) -> None:
    """The graph: Parquet files in, files of edges below `staging` out."""
    stored = (
        pipeline
        | beam.Create(row_groups(sorted(source.iterdir()), COLUMNS), reshuffle=False)
        | ReadParquetDocuments(COLUMNS)
        | beam.ParDo(StoreVectors(str(staging))).with_outputs(ABSTAINED_TAG, main="files")
    )
    stored["files"].element_type = str
    found = stored["files"] | SimilarVectors(params)
    edges = staging / "edges"
    edges.mkdir()
    _ = (found["exact"], found["near"]) | beam.Flatten() | "Write" >> beam.Map(write, str(edges))


def pairs(staging: Path) -> Iterator[np.ndarray]:
    """(M, 2) row numbers of the corpus, from ids such as v00000012."""
    files = DocumentFiles(list(map(str, (staging / "documents").iterdir())), Layout())
    ids, places = files.every_id()
    rows = np.asarray(pc.cast(pc.utf8_slice_codeunits(ids, 1), pa.int64()))
    for path in (staging / "edges").iterdir():
        batch = from_ipc(path.read_bytes())
        ends = [rows[np.searchsorted(places, batch.column(name).to_numpy())] for name in ("a", "b")]
        yield np.sort(np.stack(ends, axis=1), axis=1)


def main(arguments: list[str]) -> None:
    """Run, time, write the pairs."""
    source, target, runner, clusters, nearest, threshold = arguments
    params = SemanticParams(float(threshold), int(clusters) or None, int(nearest))
    options = PipelineOptions(["--ray_workers_max=2"] if runner == "RayRunner" else [])
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        with PipelineLifecycleManager():
            PipelineExecutor(runner, options).run(lambda p: build(p, Path(source), Path(folder), params))
            seconds = time.perf_counter() - started
        used = os.times()
        np.save(target, np.concatenate([np.zeros((0, 2), np.int64), *pairs(Path(folder))]))
    phases = {"CPU of this process": used.user + used.system, "of others": used.children_user + used.children_system}
    print(
        json.dumps({"seconds": seconds, "phases": phases, "versions": package_versions("apache-beam", "numpy", "ray")})
    )


if __name__ == "__main__":
    main(sys.argv[1:])
