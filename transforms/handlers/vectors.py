"""The two kernels of semantic deduplication as RunInference models: nearest centroids, and like pairs in a cluster."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from threadpoolctl import ThreadpoolController

from transforms.beam_inference import ModelHandler
from transforms.deduplication.byte_columns import rows_of
from transforms.deduplication.centroids import Centroids
from transforms.deduplication.quantised import Threshold
from transforms.deduplication.vector_blocks import matrix_of, nearest_column
from transforms.deduplication.vector_pairs import first_shared, like_pairs
from transforms.deduplication.vector_products import Arrays, Device, arrays_of, nearest

EDGES = pa.schema([("a", pa.int64()), ("b", pa.int64()), ("similarity", pa.float64())])
"""A verified pair of documents' rows, a < b, and its cosine, below 1.0."""

Unassigned = tuple[bytes, pa.RecordBatch]
"""Centroids as bytes, and a block of vectors: row, vector."""
Strip = tuple[pa.RecordBatch, int, int]
"""Members of a cluster in order (row, vector, nearest, cluster), and which of them, low <= b < high, are compared with
those before them."""

_SIDE_BY_SIDE_BYTES = 32_000_000
"""Strips compared side by side: many small ones, so that threads end at about the same time; a large one alone."""


@dataclass
class DeviceArrays:
    """The model: a device's arrays, what multiplies on the CPU, and the centroids last seen."""

    arrays: Arrays
    products: ThreadpoolController = field(default_factory=lambda: ThreadpoolController().select(user_api="blas"))
    held: tuple[bytes, Centroids] | None = None

    def threads(self) -> int:
        """Threads that a matrix product on the CPU may have."""
        return max((library["num_threads"] for library in self.products.info()), default=1)

    def centroids(self, data: bytes) -> Centroids:
        """Centroids of these bytes, decoded once."""
        if self.held is None or self.held[0] != data:
            self.held = (data, Centroids.from_bytes(data))
        return self.held[1]


class _Kernel(ModelHandler[Any, pa.RecordBatch, DeviceArrays]):
    """What both have in common: a model that is a device."""

    def __init__(self, device: Device, **batching: Any) -> None:
        super().__init__(**{"min_batch_size": 1, "max_batch_size": 4, **batching})
        self._device: Device = device

    def load_model(self) -> DeviceArrays:
        return DeviceArrays(arrays_of(self._device))

    def get_num_bytes(self, batch: Sequence[tuple[Any, ...]]) -> int:
        """Bytes of Arrow data; Beam's default would pickle the batch to count them."""
        return sum(part.nbytes for element in batch for part in element if isinstance(part, pa.RecordBatch))

    def get_metrics_namespace(self) -> str:
        return "demosift"

    def share_model_across_processes(self) -> bool:
        """There is nothing to share."""
        return False


class NearestHandler(_Kernel):
    """Blocks of vectors -> their rows and the column `nearest` of their `count` nearest centroids within `margin`."""

    def __init__(self, count: int, margin: float = math.inf, device: Device = "cpu") -> None:
        super().__init__(device)
        self._count = count
        self._margin = margin

    def run_inference(
        self,
        batch: Sequence[Unassigned],
        model: DeviceArrays,
        inference_args: Mapping[str, Any] | None = None,
    ) -> Iterable[pa.RecordBatch]:
        for data, block in batch:
            centroids = model.centroids(data)
            count = min(self._count, len(centroids.rows))
            rows = rows_of(block.column("vector"))
            found = nearest(rows, centroids.rows, centroids.weights, count, model.arrays, self._margin)
            yield pa.record_batch([block.column("row"), nearest_column(found)], ["row", "nearest"])


class LikePairsHandler(_Kernel):
    """Strips of a cluster -> the edges that integers confirm, each in the first cluster that its ends share.

    On the CPU as many strips are worked on at a time as the matrix product may have threads, by one of them each: what
    lies between the products takes as long as they do.
    """

    def __init__(self, threshold: Threshold, device: Device = "cpu") -> None:
        size = _SIDE_BY_SIDE_BYTES
        by_bytes = {"min_batch_size": size, "max_batch_size": size, "element_size_fn": _strip_bytes}
        super().__init__(device, **(by_bytes if device == "cpu" else {}))
        self._threshold = threshold

    def run_inference(
        self,
        batch: Sequence[Strip],
        model: DeviceArrays,
        inference_args: Mapping[str, Any] | None = None,
    ) -> Iterable[pa.RecordBatch]:
        found = functools.partial(self._edges_of, model.arrays)
        threads = model.threads() if self._device == "cpu" and len(batch) > 1 else 1
        if threads == 1:
            yield from map(found, batch)
            return
        with model.products.limit(limits=1), ThreadPoolExecutor(threads) as pool:
            yield from list(pool.map(found, batch))

    def _edges_of(self, arrays: Arrays, strip: Strip) -> pa.RecordBatch:
        return edges_of(*strip, self._threshold, arrays)


def _strip_bytes(strip: Strip) -> int:
    return int(strip[0].nbytes)


def edges_of(members: pa.RecordBatch, low: int, high: int, threshold: Threshold, arrays: Arrays) -> pa.RecordBatch:
    """`EDGES` of a strip."""
    rows, clusters = rows_of(members.column("vector")), matrix_of(members.column("nearest"))
    cluster = members.column("cluster")[0].as_py()
    a, b, cosine = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for found in like_pairs(rows, low, high, threshold, arrays):
        first = first_shared(clusters[found.a], clusters[found.b]) == cluster
        a.append(found.a[first])
        b.append(found.b[first])
        cosine.append(found.cosine[first])
    ends_a, ends_b, all_cosines = np.concatenate(a), np.concatenate(b), np.concatenate(cosine)
    order = np.lexsort((ends_b, ends_a))
    names = members.column("row")
    columns = [names.take(pa.array(ends_a[order])), names.take(pa.array(ends_b[order])), pa.array(all_cosines[order])]
    return pa.record_batch(columns, schema=EDGES)
