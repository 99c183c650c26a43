"""A search among vectors that goes on for 30 nights: what the last costs beside the second, and what it reads.

The vectors are benchmarks/dedup_semantic_corpus.py's in their shuffled order, dealt out into nights of equal size, so
that partners come on other nights than what they partner. The clusters are as many as suit all nights together, as
docs/deduplication_semantic.md advises. CPU seconds are of this process and its threads (in-process runner).
"""

from __future__ import annotations

import functools
import statistics
import tempfile
from math import isqrt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_pipeline.deduplication.job import DedupConfig, run_dedup
from beam_pipeline.deduplication.nights import IndexManifest
from beam_pipeline.output_folder import read_record
from benchmarks.dedup_nights import TURNS
from benchmarks.dedup_semantic_corpus import SEED, Corpus, make_corpus
from benchmarks.harness import Bar, Row, timed
from transforms.deduplication.night_index import CLUSTERS, CONTENTS, PAGE_BYTES, read_run
from transforms.deduplication.parquet_documents import DocumentColumns
from transforms.deduplication.semantic import SemanticParams

NIGHTS, NIGHT_VECTORS = 30, 5_000
_RATIO, _RECALL = "vectors: night 30 over night 2", "vectors: planted pairs found, at cosine 0.99"


def rows(quick: bool) -> list[Row]:
    """Run all nights, then all of it at once."""
    nights, size = (5, 300) if quick else (NIGHTS, NIGHT_VECTORS)
    corpus = make_corpus(nights * size)
    clusters = max(1, isqrt(nights * size) // 3)
    config = DedupConfig(DocumentColumns(id="id", vector="vector"), semantic=SemanticParams(clusters=clusters))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = _write_nights(corpus, folder, nights)
        spent = []
        for n, file in enumerate(files):
            turns = TURNS if n in (1, len(files) - 1) else 1
            night = functools.partial(run_dedup, [str(file)], folder / f"out{n}", config, index=folder / "index")
            spent.append(statistics.median(timed(night) for _ in range(turns)))
        looked_up, compared = _bytes_read(folder / "index", nights - 1, corpus.vectors.shape[1])
        whole = timed(lambda: run_dedup([str(f) for f in files], folder / "whole", config))
        found = {edge for n in range(nights) for edge in _edges(folder / f"out{n}/edges.parquet")}
        size_mb = sum(path.stat().st_size for path in (folder / "index").rglob("*") if path.is_file()) / 1e6
    ids = corpus.ids()
    nearest = [(ids[a], ids[b]) for a, b in corpus.planted[corpus.cosine == corpus.cosine.max()].tolist()]
    last, slowest = len(spent), int(np.argmax(spent)) + 1
    how = f"CPU, median of {TURNS} turns"
    note = f"{last} nights of {size:,} vectors of {corpus.vectors.shape[1]}, {clusters} clusters, seed {SEED}"
    return [
        Row("vectors: night 2", spent[1], "s", f"{how}; {note}"),
        Row("vectors: night 30", spent[-1], "s", how + ("" if last == NIGHTS else f"; here night {last}")),
        Row(_RATIO, spent[-1] / spent[1], "x"),
        Row("vectors: median of all nights", statistics.median(spent), "s", "CPU"),
        Row("vectors: slowest night", max(spent), "s", f"CPU; night {slowest}"),
        Row(
            "vectors: index looked up per new vector, last night",
            looked_up / size,
            "bytes",
            "runs, but for vectors",
        ),
        Row("vectors: index compared per new vector, last night", compared / size, "bytes", "vectors of its clusters"),
        Row("vectors: index", size_mb, "MB", f"on disk, of {last * size:,} vectors"),
        Row("vectors: all at once", whole, "s", "CPU; one run over the same files without an index"),
        Row(_RECALL, sum(pair in found for pair in nearest) / len(nearest), "", f"of {len(nearest)}, over all nights"),
    ]


def bars() -> list[Bar]:
    """A night costs by its own size, and what a pair needs to be found does not depend on its nights."""
    return [Bar(_RATIO, "max", 1.3), Bar(_RECALL, "min", 0.99)]


def _write_nights(corpus: Corpus, folder: Path, nights: int) -> list[Path]:
    ids, files = corpus.ids(), []
    for night, own in enumerate(np.array_split(np.arange(len(ids)), nights)):
        files.append(folder / f"night{night:02d}.parquet")
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(corpus.vectors[own].reshape(-1)), corpus.vectors.shape[1])
        pq.write_table(pa.table({"id": [ids[row] for row in own], "vector": vectors}), files[-1])
    return files


def _bytes_read(index: Path, night: int, width: int) -> tuple[int, int]:
    """What a night's keys touched of the runs that were there before it, and the bytes of the vectors that its own were
    compared with: each earlier member of their clusters.
    """
    before = read_record(index / "manifests" / f"{night - 1:08d}.json", IndexManifest).view(index)
    run = index / f"night={night:05d}" / "run"
    pages = members = 0
    for kind, column in ((CLUSTERS, "key"), (CONTENTS, "low")):
        for path in sorted((run / kind).glob("*.arrow")):
            partition, keys = int(path.stem), np.unique(read_run(path)[column])
            if kind == CONTENTS:
                pages += before.pages(kind, partition, keys) * PAGE_BYTES
                continue
            for part in before.clusters(partition):
                own = np.isin(part["key"], keys)
                pages += sum(values[own].nbytes for name, values in part.items() if name != "vector")
                members += int(own.sum())
    return pages, members * width


def _edges(path: Path) -> list[tuple[str, str]]:
    table = pq.read_table(path)
    return list(zip(table.column("a").to_pylist(), table.column("b").to_pylist(), strict=True))
