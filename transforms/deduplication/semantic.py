"""Semantic deduplication: vectors that point nearly the same way, found inside clusters and decided by integers.

Each vector is compared with those that share one of its two nearest centroids (as in SemDeDup, arXiv 2303.09540, which
takes one). Elements are blocks of vectors, never a vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics

import transforms.coders
import transforms.resources  # noqa: F401  makes the hint `gpus` known
from transforms.deduplication.centroids import Centroids, Sample, cluster_count, merged, row_hashes, train
from transforms.deduplication.quantised import Threshold
from transforms.deduplication.vector_blocks import PLACE, clusters_of, rows_of, spread
from transforms.deduplication.vector_files import (
    REASONS,
    Portion,
    VectorColumns,
    batches,
    portions,
    read_vectors,
)
from transforms.deduplication.vector_products import Device, arrays_of
from transforms.handlers.vectors import EDGES, LikePairsHandler, NearestHandler, Strip, Unassigned
from transforms.run_inference import RunInference

STRIP = 4096
ABSTAINED_TAG = "abstained"
Parted = tuple[int, pa.RecordBatch]


@dataclass(frozen=True)
class SemanticParams:
    """How like vectors are found: those of at least `cosine`, a decimal of at most four places.

    `clusters` None takes a number that suits the count of vectors. `sample` distinct vectors train the centroids in
    `iterations` rounds; each vector is in the clusters of its `nearest` centroids. `partitions` bound the memory of one
    group of clusters. Results are the same on each `device`.
    """

    cosine: float = 0.95
    clusters: int | None = None
    nearest: int = 2
    sample: int = 16_384
    iterations: int = 6
    partitions: int = 64
    device: Device = "cpu"
    gpus: float | None = None
    columns: VectorColumns = field(default_factory=VectorColumns)

    def __post_init__(self) -> None:
        Threshold.of(self.cosine)
        for name, least in (("nearest", 1), ("sample", 1), ("iterations", 0), ("partitions", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"semantic.{name} is {getattr(self, name)}; need at least {least}")
        if self.clusters is not None and not 1 <= self.clusters <= self.sample:
            raise ValueError(f"semantic.clusters is {self.clusters}; need 1 to semantic.sample, {self.sample}")
        if self.device not in ("cpu", "cuda", "torch"):
            raise ValueError(f"semantic.device is {self.device!r}; use 'cpu', 'cuda' or 'torch'")


class _Read(beam.DoFn):
    """A portion of a file -> blocks of vectors; those that say nothing go to `abstained`, and are counted."""

    def __init__(self, columns: VectorColumns, width: int | None) -> None:
        self._columns = columns
        self._width = width
        self._vectors = Metrics.counter("demosift", "dedup.vectors")
        self._abstained = {name: Metrics.counter("demosift", f"dedup.vectors_{name}") for name in REASONS}

    def process(self, element: Portion) -> Iterator[pa.RecordBatch | beam.pvalue.TaggedOutput]:
        for first, batch in batches(element, self._columns):
            found = read_vectors(element.path, first, batch, self._width)
            self._vectors.inc(found.used)
            if found.abstained.num_rows:
                for reason in found.abstained.column("reason").to_pylist():
                    self._abstained[reason].inc()
                yield beam.pvalue.TaggedOutput(ABSTAINED_TAG, found.abstained)
            if found.block is not None:
                yield found.block


class _SampleRows(beam.CombineFn):
    """Blocks -> the sample of all of them; samples travel as (count, Arrow rows, widths)."""

    def __init__(self, most: int) -> None:
        self._most = most

    def create_accumulator(self) -> list[Sample]:
        return []

    def add_input(self, accumulator: list[Sample], element: pa.RecordBatch) -> list[Sample]:
        accumulator.append(sample_of(element, self._most))
        return self.compact(accumulator) if len(accumulator) >= 16 else accumulator

    def merge_accumulators(self, accumulators: Iterable[list[Sample]]) -> list[Sample]:
        return [merged([sample for accumulator in accumulators for sample in accumulator], self._most)]

    def compact(self, accumulator: list[Sample]) -> list[Sample]:
        return [merged(accumulator, self._most)]

    def extract_output(self, accumulator: list[Sample]) -> Sample:
        return merged(accumulator, self._most)


def sample_of(block: pa.RecordBatch, most: int) -> Sample:
    """The sample of one block."""
    rows = rows_of(block)
    hashes = row_hashes(rows)
    chosen = np.argsort(hashes, kind="stable")[:most]
    count = len(block.column("ids").flatten())
    place = block.schema.metadata[PLACE].decode()
    return Sample(count, hashes[chosen], rows[chosen], ((rows.shape[1], place),))


def trained(sample: Sample, params: SemanticParams) -> bytes:
    """The centroids of a sample as bytes; empty where there are no vectors."""
    if not sample.count:
        return b""
    clusters = params.clusters or min(cluster_count(sample.count), params.sample)
    return train(sample, clusters, params.iterations, arrays_of(params.device)).to_bytes()


def strips(batches: Iterable[pa.RecordBatch]) -> Iterator[Strip | beam.pvalue.TaggedOutput]:
    """The clusters of a partition, cut into strips; copies of a row are edges already."""
    for members, copies in clusters_of(batches):
        if copies is not None:
            yield beam.pvalue.TaggedOutput("copies", copies.cast(EDGES))
        for low in range(0, members.num_rows - 1, STRIP):
            yield members, low, min(low + STRIP, members.num_rows)


class SemanticEdges(beam.PTransform):
    """Paths of Parquet or Arrow files of ids and vectors -> `edges`, `abstained` and `centroids`.

    `edges` are Arrow batches of a, b (a < b) and similarity, each pair once; a similarity of 1.0 means equal vectors,
    which are a star from the smallest id. `abstained` are Arrow batches of the vectors that are absent, not finite or
    zero, with reason, file and row. `centroids` is one element, the bytes of `Centroids`: given again as `frozen`, they
    keep later vectors in the same clusters. Raises VectorError where the files do not hold such vectors.
    """

    def __init__(self, params: SemanticParams | None = None, frozen: Centroids | None = None) -> None:
        super().__init__()
        self._params = params or SemanticParams()
        self._frozen = frozen

    def expand(self, files: beam.PCollection[str]) -> dict[str, beam.PCollection]:
        params, frozen = self._params, self._frozen
        width = None if frozen is None else frozen.rows.shape[1]
        read = (
            files
            | "ListPortions" >> beam.FlatMap(portions).with_output_types(Portion)
            | "SpreadPortions" >> beam.Reshuffle()
            | "ReadVectors"
            >> beam.ParDo(_Read(params.columns, width))
            .with_output_types(pa.RecordBatch)
            .with_outputs(ABSTAINED_TAG, main="blocks")
        )
        blocks, abstained = read["blocks"], read[ABSTAINED_TAG]
        abstained.element_type = pa.RecordBatch
        if frozen is None:
            centroids = (
                blocks
                | "SampleVectors" >> beam.CombineGlobally(_SampleRows(params.sample))
                | "TrainCentroids" >> beam.Map(trained, params).with_output_types(bytes)
            )
        else:
            centroids = files.pipeline | "TakeCentroids" >> beam.Create([frozen.to_bytes()])
        near = RunInference(NearestHandler(params.nearest, params.device))
        like = RunInference(LikePairsHandler(Threshold.of(params.cosine), params.device))
        if params.gpus is not None:
            near = near.with_resource_hints(gpus=params.gpus)
            like = like.with_resource_hints(gpus=params.gpus)
        cut = (
            blocks
            | "GiveCentroids"
            >> beam.Map(_with_centroids, beam.pvalue.AsSingleton(centroids)).with_output_types(Unassigned)
            | "FindNearest" >> near.with_output_types(pa.RecordBatch)
            | "SpreadClusters" >> beam.FlatMap(spread, params.partitions).with_output_types(Parted)
            | "GroupClusters" >> beam.GroupByKey()
            | "CutStrips" >> beam.FlatMap(_strips_of).with_output_types(Strip).with_outputs("copies", main="strips")
        )
        cut["copies"].element_type = pa.RecordBatch
        pairs = (
            cut["strips"]
            | "FindLikePairs" >> like.with_output_types(pa.RecordBatch)
            | "DropEmpty" >> beam.Filter(_has_rows).with_output_types(pa.RecordBatch)
        )
        edges = (pairs, cut["copies"]) | "MergeEdges" >> beam.Flatten()
        return {"edges": edges, ABSTAINED_TAG: abstained, "centroids": centroids}


def _with_centroids(block: pa.RecordBatch, centroids: bytes) -> Unassigned:
    return centroids, block


def _strips_of(row: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[Strip | beam.pvalue.TaggedOutput]:
    return strips(row[1])


def _has_rows(batch: pa.RecordBatch) -> bool:
    return bool(batch.num_rows)


def edge_table(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """All edges in order: the same for any grouping of them."""
    return pa.Table.from_batches(batches, EDGES).sort_by([("a", "ascending"), ("b", "ascending")])
