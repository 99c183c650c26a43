"""Memory of the fuzzy job on a million texts over that of a job without any, and of one bucket of any size.

The job runs on RayRunner with an object store of 500 MB; memory is the peak proportional set size of the command and
all its children every 50 ms, which counts what they share once, the object store too. A bucket is paired on its own, as
a worker does it, and its peak counted by tracemalloc, which sees NumPy's arrays.
"""

from __future__ import annotations

import sys
import tempfile
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.dedup_texts import SEED, write_texts
from benchmarks.harness import Bar, Row
from benchmarks.memory import watched
from transforms.deduplication.buckets import candidates

DOCUMENTS = 1_000_000
STORE_MB = 500
OVER, FLAT = "memory over the base, a million texts", "memory of a bucket, ten times as large"
_HELD = 1 << 16


def bars() -> Sequence[Bar]:
    """At most 2 GB over the base, and a bucket of 10^6 takes what one of 10^5 takes."""
    return [Bar(OVER, "max", 2.0), Bar(FLAT, "max", 1.1)]


def rows(quick: bool) -> Sequence[Row]:
    """Peaks in GB, and a ratio."""
    documents = 10_000 if quick else DOCUMENTS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pq.write_table(pa.table({"id": ["a"], "text": ["one text"]}), folder / "base.parquet")
        size = write_texts(folder / "texts.parquet", documents)
        base, _ = _peak(folder, "base")
        peak, seconds = _peak(folder, "texts")
    small, large = (bucket_peak_mb(count) for count in (100_000, 1_000_000))
    return [
        Row("memory, base", base / 1e3, "GB", "the command on one text"),
        Row(
            "memory, a million texts",
            peak / 1e3,
            "GB",
            f"{documents} texts, {size:.0f} MB, seed {SEED}, {seconds:.0f} s",
        ),
        Row(OVER, (peak - base) / 1e3, "GB", f"RayRunner, object store of {STORE_MB} MB"),
        Row("memory of a bucket of 10^5", small, "MB", f"{_HELD} rows held"),
        Row(FLAT, large / small, "x", f"10^6: {large:.1f} MB"),
    ]


def _peak(folder: Path, name: str) -> tuple[float, float]:
    flags = ["--input", str(folder / f"{name}.parquet"), "--output", str(folder / name), "--text", "text", "--id", "id"]
    ray = ["--runner", "RayRunner", f"--ray_object_store_mb={STORE_MB}"]
    return watched([sys.executable, "-m", "beam_pipeline", "dedup", *flags, *ray])


class _Bucket:
    """Band rows of one bucket, made anew each time they are read, as a worker gets them from a shuffle."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __iter__(self):  # type: ignore[no-untyped-def]
        for start in range(0, self._count, 4096):
            rows = np.arange(start, min(start + 4096, self._count))
            ranks = np.random.default_rng([SEED, start]).integers(0, 1 << 63, len(rows), np.uint64)
            columns = [pa.array(np.full(len(rows), 7, np.uint64)), pa.array(ranks), pa.array(rows)]
            yield pa.record_batch(columns, ["key", "rank", "row"])


def bucket_peak_mb(count: int) -> float:
    """Peak of pairing one bucket of `count` rows, its pairs taken batch by batch."""
    tracemalloc.start()
    pairs = sum(len(found.a) for found in candidates(_Bucket(count), 64, _HELD))
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    if pairs < count - 64:
        raise RuntimeError(f"{pairs} pairs do not link {count} rows")
    return peak
