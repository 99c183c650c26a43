"""Semantic deduplication: vectors that point nearly the same way, found inside clusters and decided by integers.

Each vector is compared with those that share its nearest centroid (as in SemDeDup, arXiv 2303.09540) or another that
is nearly as near. What is shuffled are numbers of rows and clusters; vectors are read in place, from their documents'
files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa

import transforms.coders
import transforms.resources  # noqa: F401  makes the hint `gpus` known
from transforms.beam_inference import RunInference
from transforms.deduplication.bands import Parted
from transforms.deduplication.byte_columns import row_column, rows_of
from transforms.deduplication.centroids import Centroids, Sample, cluster_count, merged, train
from transforms.deduplication.document_files import PLACE, in_sorted
from transforms.deduplication.exact_copies import ExactCopies
from transforms.deduplication.in_place import WithFiles, with_earlier
from transforms.deduplication.night_index import CENTROIDS, CLUSTERS, IndexView, run_path, write_run
from transforms.deduplication.ordering import by_two
from transforms.deduplication.quantised import Threshold
from transforms.deduplication.vector_blocks import cluster_rows, clusters_of, columns_of, near_of, nearest_column
from transforms.deduplication.vector_products import Device, arrays_of
from transforms.handlers.vectors import LikePairsHandler, NearestHandler, Strip, Unassigned

STRIP = 4096


@dataclass(frozen=True)
class SemanticParams:
    """How like vectors are found: those of at least `cosine`, a decimal of at most four places.

    `clusters` None takes a number that suits the count of vectors. `sample` distinct vectors train the centroids in
    `iterations` rounds; each vector is in the clusters of its `nearest` centroids, but for those whose cosine falls
    short of the nearest one's by more than `margin`. `partitions` bound the memory of one group of clusters. Results
    are the same on each `device`.
    """

    cosine: float = 0.95
    clusters: int | None = None
    nearest: int = 3
    margin: float = 0.1
    sample: int = 16_384
    iterations: int = 6
    partitions: int = 64
    device: Device = "cpu"
    gpus: float | None = None

    def __post_init__(self) -> None:
        Threshold.of(self.cosine)
        for name, least in (("nearest", 1), ("sample", 1), ("iterations", 0), ("partitions", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"semantic.{name} is {getattr(self, name)}; need at least {least}")
        if not self.margin >= 0:
            raise ValueError(f"semantic.margin is {self.margin}; need at least 0")
        if self.clusters is not None and not 1 <= self.clusters <= self.sample:
            raise ValueError(f"semantic.clusters is {self.clusters}; need 1 to semantic.sample, {self.sample}")
        if self.device not in ("cpu", "cuda", "torch"):
            raise ValueError(f"semantic.device is {self.device!r}; use 'cpu', 'cuda' or 'torch'")

    @property
    def shortfall(self) -> float:
        """By how much the cosine of a vector and a centroid may fall short of its best.

        For like u and v with nearest centroids a and b, (u - v).(a - b) is what u loses by b and v by a. So one of them
        loses at most half of it, which is less the nearer they are.
        """
        return self.margin * math.sqrt(2 - 2 * self.cosine)


class _SampleFile(WithFiles):
    """A file -> the sample of its vectors."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def process(self, element: str) -> Iterator[Sample]:
        for _, batch in self.files([element]).held(element):
            yield sample_of(batch, self._most)


class _MergeSamples(beam.CombineFn):
    """Samples -> the sample of all of them."""

    def __init__(self, most: int) -> None:
        self._most = most

    def create_accumulator(self) -> list[Sample]:
        return []

    def add_input(self, accumulator: list[Sample], element: Sample) -> list[Sample]:
        accumulator.append(element)
        return self.compact(accumulator) if len(accumulator) >= 16 else accumulator

    def merge_accumulators(self, accumulators: Iterable[list[Sample]]) -> list[Sample]:
        return [merged([sample for accumulator in accumulators for sample in accumulator], self._most)]

    def compact(self, accumulator: list[Sample]) -> list[Sample]:
        return [merged(accumulator, self._most)]

    def extract_output(self, accumulator: list[Sample]) -> Sample:
        return merged(accumulator, self._most)


def sample_of(documents: pa.RecordBatch, most: int) -> Sample:
    """The sample of one batch of documents: those of the smallest contents, which are hashes of the vectors."""
    own = np.flatnonzero(np.asarray(documents.column("content").is_valid()))
    contents = documents.column("content").take(pa.array(own))
    hashes = np.frombuffer(b"".join(contents.to_pylist()), "<u8").reshape(-1, 2)[:, 0].astype(np.uint64)
    chosen = np.argsort(hashes, kind="stable")[:most]
    rows = rows_of(documents.column("vector").take(pa.array(own[chosen])))
    place = documents.schema.metadata[PLACE].decode()
    return Sample(len(own), hashes[chosen], rows, ((rows.shape[1], place),))


def trained(sample: Sample, params: SemanticParams) -> bytes:
    """The centroids of a sample as bytes; empty where there are no vectors."""
    if not sample.count:
        return b""
    clusters = params.clusters or min(cluster_count(sample.count), params.sample)
    return train(sample, clusters, params.iterations, arrays_of(params.device)).to_bytes()


class _Blocks(WithFiles):
    """A file -> blocks of its vectors, one of each content, with the centroids."""

    def process(
        self, element: str, paths: Sequence[str], repeated: Sequence[pa.RecordBatch], centroids: bytes
    ) -> Iterator[Unassigned]:
        left_out = np.sort(np.concatenate([np.zeros(0, np.int64), *(r.column("b").to_numpy() for r in repeated)]))
        for rows, batch in self.files(paths).held(element):
            own = np.flatnonzero(np.asarray(batch.column("content").is_valid()) & ~in_sorted(rows, left_out))
            if len(own):
                vectors = batch.column("vector").take(pa.array(own))
                yield centroids, pa.record_batch([pa.array(rows[own]), vectors], ["row", "vector"])


class _Strips(WithFiles):
    """The new rows of a partition of clusters -> the clusters' vectors, earlier ones among them, cut into strips."""

    def __init__(self, index: IndexView, run: str | None) -> None:
        super().__init__()
        self._index = index
        self._run = run

    def process(self, row: tuple[int, Iterable[pa.RecordBatch]], paths: Sequence[str]) -> Iterator[Strip]:
        partition, files, new = row[0], self.files(paths), columns_of(row[1])
        order = by_two(new["key"], new["row"])
        new = {name: values[order] for name, values in new.items()}
        lasting = []
        for key, own, earlier in clusters_of(new, self._index.clusters(partition)):
            vectors = files.vectors(own["row"])
            if self._run:
                lasting.append(vectors)
            members = [*earlier, {**own, "vector": rows_of(vectors)}]
            columns = {name: np.concatenate([part[name] for part in members]) for name in members[-1]}
            first_new, count = len(columns["row"]) - len(vectors), len(columns["row"])
            if count < 2:
                continue
            batch = pa.record_batch(
                {
                    "row": columns["row"],
                    "vector": row_column(columns["vector"]),
                    "nearest": nearest_column(near_of(columns)),
                    "cluster": np.full(count, key, np.int32),
                }
            )
            for low in range(first_new, count, STRIP):
                high = min(low + STRIP, count)
                yield batch.slice(0, high), low, high
        if self._run:
            new["vector"] = np.concatenate([rows_of(vectors) for vectors in lasting])
            write_run(Path(self._run), run_path(Path(self._run), CLUSTERS, partition), CLUSTERS, new)


class _KeepCentroids(beam.DoFn):
    """The bytes of centroids -> their file in the run, where there are any."""

    def __init__(self, run: str) -> None:
        self._run = run

    def process(self, element: bytes) -> None:
        if element:
            Centroids.from_bytes(element).save(Path(self._run) / CENTROIDS)


class SimilarVectors(beam.PTransform):
    """Paths of document files of vectors -> Arrow batches of rows: `exact` (a, b) and `near` (a, b, similarity), and
    `centroids`, one element, the bytes of `Centroids`.

    Rows are those of `DocumentFiles` over the same paths, after those of the index. Vectors that are the same as int8
    are exact copies: the edge to the first of them, `a`, says all. `frozen` centroids, or those of the index, are taken
    as they are. With an index only pairs come out whose later document is new; what later nights need of the new ones
    is written as a run to the folder `run`.
    """

    def __init__(
        self,
        params: SemanticParams,
        frozen: Centroids | None = None,
        index: IndexView | None = None,
        run: str | None = None,
    ) -> None:
        super().__init__()
        self._params = params
        self._index = index or IndexView()
        self._frozen = frozen or frozen_centroids(self._index)
        self._run = run

    def expand(self, files: beam.PCollection[str]) -> dict[str, beam.PCollection]:
        params, index = self._params, self._index
        all_files = beam.pvalue.AsList(with_earlier(files, index))
        exact = files | "FindExact" >> ExactCopies(params.partitions, index=index, run=self._run)
        if self._frozen is None:
            samples = files | "SampleVectors" >> beam.ParDo(_SampleFile(params.sample)).with_output_types(Sample)
            centroids = (
                samples
                | "MergeSamples" >> beam.CombineGlobally(_MergeSamples(params.sample))
                | "TrainCentroids" >> beam.Map(trained, params).with_output_types(bytes)
            )
            if self._run:
                _ = centroids | "KeepCentroids" >> beam.ParDo(_KeepCentroids(self._run))
        else:
            centroids = files.pipeline | "TakeCentroids" >> beam.Create([self._frozen.to_bytes()])
        near = RunInference(NearestHandler(params.nearest, params.shortfall, params.device))
        like = RunInference(LikePairsHandler(Threshold.of(params.cosine), params.device))
        if params.gpus is not None:
            near = near.with_resource_hints(gpus=params.gpus)
            like = like.with_resource_hints(gpus=params.gpus)
        blocks = beam.ParDo(_Blocks(), all_files, beam.pvalue.AsList(exact), beam.pvalue.AsSingleton(centroids))
        pairs = (
            files
            | "SpreadFiles" >> beam.Reshuffle()
            | "ReadBlocks" >> blocks.with_output_types(Unassigned)
            | "FindNearest" >> near.with_output_types(pa.RecordBatch)
            | "SpreadClusters" >> beam.FlatMap(cluster_rows, params.partitions).with_output_types(Parted)
            | "GroupClusters" >> beam.GroupByKey()
            | "CutStrips" >> beam.ParDo(_Strips(index, self._run), all_files).with_output_types(Strip)
            | "FindLikePairs" >> like.with_output_types(pa.RecordBatch)
            | "DropEmpty" >> beam.Filter(_has_rows).with_output_types(pa.RecordBatch)
        )
        return {"exact": exact, "near": pairs, "centroids": centroids}


def frozen_centroids(index: IndexView) -> Centroids | None:
    """The centroids of an index: those of its first night with vectors; None before it."""
    return None if index.centroids is None else Centroids.load(Path(index.centroids))


def _has_rows(batch: pa.RecordBatch) -> bool:
    return bool(batch.num_rows)
