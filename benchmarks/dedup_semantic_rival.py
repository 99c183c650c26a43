"""The rival: faiss k-means, the two nearest centroids of each vector, pairs inside clusters by matrix product.

    python dedup_semantic_rival.py FOLDER OUT.npy CLUSTERS ITERATIONS POINTS NEAREST THRESHOLD THREADS AT_ONCE

Run by its path in the rivals' environment (faiss-cpu, NumPy, pyarrow), so it imports nothing of the project. faiss uses
THREADS threads (`faiss.omp_set_num_threads`). Pairs are taken by NumPy's float32 matrix product in tiles above the
diagonal, each compared once, AT_ONCE clusters at a time; OPENBLAS_NUM_THREADS says how many threads a product has.
Prints one line of JSON: seconds by phase, from Parquet files to pairs, and the versions. OUT holds the pairs, rows
counted through the files, each once.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

TILE = 1024


def pairs_within(vectors: Any, members: Any, threshold: float) -> Any:
    """(M, 2) rows of pairs of one cluster at or above the threshold."""
    found = []
    own = vectors[members]
    for low in range(0, len(own), TILE):
        left = own[low : low + TILE]
        for high in range(low, len(own), TILE):
            right = own[high : high + TILE]
            a, b = np.divmod(np.flatnonzero((left @ right.T).ravel() >= threshold), len(right))
            if high == low:
                a, b = a[a < b], b[a < b]
            if len(a):
                found.append(np.stack([members[a + low], members[b + high]], 1))
    return np.concatenate(found) if found else np.zeros((0, 2), np.int64)


def main(arguments: list[str]) -> None:
    """Read, cluster, assign, compare, write."""
    source, target = arguments[:2]
    clusters, iterations, points, nearest = map(int, arguments[2:6])
    threshold, threads, at_once = float(arguments[6]), int(arguments[7]), int(arguments[8])
    faiss.omp_set_num_threads(threads)
    started = time.perf_counter()
    column = pa.concat_tables([pq.read_table(path) for path in sorted(Path(source).iterdir())]).column("vector")
    vectors = np.concatenate([c.values.to_numpy().reshape(len(c), -1) for c in column.chunks])
    read = time.perf_counter()
    kmeans = faiss.Kmeans(
        vectors.shape[1], clusters, niter=iterations, max_points_per_centroid=points, spherical=True, seed=1
    )
    kmeans.train(vectors)
    trained = time.perf_counter()
    _, assigned = kmeans.index.search(vectors, nearest)
    looked_up = time.perf_counter()
    flat = assigned.reshape(-1)
    order = np.argsort(flat, kind="stable")
    rows = order // nearest
    bounds = np.searchsorted(flat[order], np.arange(clusters + 1))
    members = [rows[a:b] for a, b in itertools.pairwise(bounds)]
    with ThreadPoolExecutor(at_once) as pool:
        largest_first = sorted(members, key=len, reverse=True)
        found = list(pool.map(lambda own: pairs_within(vectors, own, threshold), largest_first))
    pairs = np.unique(np.sort(np.concatenate(found), axis=1), axis=0)
    ended = time.perf_counter()
    np.save(target, pairs)
    phases = {
        "read": read - started,
        "train": trained - read,
        "assign": looked_up - trained,
        "pairs": ended - looked_up,
    }
    versions = [f"faiss {faiss.__version__}", f"numpy {np.__version__}"]
    print(json.dumps({"seconds": ended - started, "phases": phases, "versions": versions}))


if __name__ == "__main__":
    main(sys.argv[1:])
