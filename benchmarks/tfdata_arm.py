"""The tf.data side of the readers' benchmark, run by an interpreter that has TensorFlow and nothing of this project.

    python benchmarks/tfdata_arm.py SPEC.json

SPEC names the files and the features of their records. For each line `run WAY FILES` on stdin, one pass over the first
FILES files and one JSON line on stdout: wall and CPU seconds (all threads) and the records that came out. A way is how
tf.data is told to parse; the caller keeps the fastest.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import tensorflow as tf  # type: ignore[import-not-found,import-untyped,unused-ignore]

BATCH = 16
EPISODE_TEXT = "episode_metadata/file_path"


def whole() -> dict[str, Any]:
    """The one text of an episode as a whole."""
    return {EPISODE_TEXT: tf.io.FixedLenFeature((), tf.string)}


def sequence_spec(spec: dict[str, Any]) -> dict[str, Any]:
    """What tensorflow_datasets itself declares for steps: a sequence of fixed shapes a feature."""
    return {
        name: tf.io.FixedLenSequenceFeature(shape, tf.dtypes.as_dtype(kind), allow_missing=True)
        for name, (kind, shape) in spec["features"].items()
    } | whole()


def ragged_spec(spec: dict[str, Any]) -> dict[str, Any]:
    """Rows of one length per record, side by side: no padding to the longest of a batch."""
    return {
        name: tf.io.RaggedFeature(
            tf.dtypes.as_dtype(kind), partitions=[tf.io.RaggedFeature.UniformRowLength(n) for n in shape]
        )
        for name, (kind, shape) in spec["features"].items()
    } | whole()


def dataset(spec: dict[str, Any], way: str, files: int) -> Any:
    """Records with both checksums verified, as TFRecordDataset does, and every feature parsed."""
    kind, _, calls = way.partition("/")
    parallel = tf.data.AUTOTUNE if calls == "autotune" else None
    records = tf.data.TFRecordDataset(spec["files"][:files], buffer_size=8 << 20)
    if kind == "single":
        features = sequence_spec(spec)
        parsed = records.map(lambda record: tf.io.parse_single_example(record, features), num_parallel_calls=parallel)
    else:
        features = ragged_spec(spec) if kind == "ragged" else sequence_spec(spec)
        batches = records.batch(BATCH)
        parsed = batches.map(lambda batch: tf.io.parse_example(batch, features), num_parallel_calls=parallel)
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    options.autotune.cpu_budget = 1
    return parsed.with_options(options)


def one_pass(made: Any) -> dict[str, float]:
    """Iterate to the end, a batch's records counted; nothing is copied out of TensorFlow."""
    wall, cpu, records = time.perf_counter(), time.process_time(), 0
    for element in made:
        records += element[EPISODE_TEXT].shape.num_elements()
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, "records": records}


def main() -> None:
    """Answer requests until stdin closes."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps({"tensorflow": tf.__version__}), flush=True)
    made: dict[tuple[str, int], Any] = {}
    for line in sys.stdin:
        _, way, files = line.split()
        key = (way, int(files))
        if key not in made:
            made[key] = dataset(spec, *key)
        print(json.dumps(one_pass(made[key])), flush=True)


if __name__ == "__main__":
    main()
