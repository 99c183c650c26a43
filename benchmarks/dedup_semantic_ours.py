"""Our side of benchmarks.dedup_semantic: a Beam job from Parquet files to edges, on two cores.

python -m benchmarks.dedup_semantic_ours FOLDER OUT.npy RUNNER NEAREST THRESHOLD

Prints one line of JSON: seconds from building the pipeline to its end, and the versions. OUT holds the pairs of rows.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from apache_beam.options.pipeline_options import PipelineOptions

from benchmarks.harness import package_versions
from transforms.coders import from_ipc, to_ipc
from transforms.deduplication.semantic import SemanticEdges, SemanticParams, edge_table


def write(batch: pa.RecordBatch, folder: str) -> None:
    """A batch as a file named by its content."""
    data = to_ipc(batch)
    Path(folder, xxhash.xxh3_128_hexdigest(data)).write_bytes(data)


def rows_of(names: pa.ChunkedArray) -> np.ndarray:
    """(N,) row numbers of ids such as v00000012."""
    return np.asarray(pc.cast(pc.utf8_slice_codeunits(names, 1), pa.int64()))


def main(arguments: list[str]) -> None:
    """Run, time, write the pairs."""
    source, target, runner, nearest, threshold = arguments
    paths = sorted(map(str, Path(source).iterdir()))
    params = SemanticParams(cosine=float(threshold), nearest=int(nearest))
    options = PipelineOptions(["--ray_workers_max=2"] if runner == "RayRunner" else [])
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        if runner == "RayRunner":
            from beam_pipeline.runner import RayRunner

            pipeline = beam.Pipeline(runner=RayRunner(), options=options)
        else:
            pipeline = beam.Pipeline(runner=runner, options=options)
        with pipeline:
            found = pipeline | beam.Create(paths) | SemanticEdges(params)
            found["edges"] | "Write" >> beam.Map(write, folder)
        seconds = time.perf_counter() - started
        edges = edge_table([from_ipc(path.read_bytes()) for path in Path(folder).iterdir()])
    np.save(target, np.stack([rows_of(edges.column("a")), rows_of(edges.column("b"))], axis=1))
    print(json.dumps({"seconds": seconds, "phases": {}, "versions": package_versions("apache-beam", "numpy", "ray")}))


if __name__ == "__main__":
    main(sys.argv[1:])
