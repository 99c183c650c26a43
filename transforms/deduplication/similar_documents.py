"""Pairs of similar documents: exact contents, then MinHash-LSH with every candidate verified by exact Jaccard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics

import transforms.coders
import transforms.resources  # noqa: F401  registers the hint `gpus`
from transforms.beam_inference import PredictionResult, RunInference
from transforms.deduplication.bands import Parted, band_rows
from transforms.deduplication.buckets import Pairs, bucket_pairs, gather, lasting
from transforms.deduplication.document_files import Batch, DocumentFiles, Layout
from transforms.deduplication.exact_copies import ExactCopies
from transforms.deduplication.in_place import WithFiles, with_earlier
from transforms.deduplication.jaccard import Rows, jaccards, may_reach
from transforms.deduplication.night_index import BANDS, IndexView, run_path, write_bands
from transforms.deduplication.pairs import pair_rows, pairs_of
from transforms.handlers.minhash import Device, DocumentBlock, MinHashHandler

_HELD_PAIRS = 1 << 21
"""Candidate pairs of one partition that are made distinct at once (32 MB)."""
_CHUNK_BYTES = 64 << 20
"""Shingles of the pairs that are verified at once."""


@dataclass(frozen=True)
class LshParams:
    """How similar documents are found: those of Jaccard `threshold` and more, by `bands * rows` permutations.

    A pair of Jaccard J meets with probability 1 - (1 - J^rows)^bands. `partitions` bound the memory of one group of
    buckets, pairs or contents, `block_bytes` that of one call of the kernel; `max_bucket`: see `buckets`.
    """

    threshold: float = 0.7
    bands: int = 32
    rows: int = 8
    seed: int = 1
    max_bucket: int = 64
    partitions: int = 32
    block_bytes: int = 8 << 20
    device: Device = "cpu"
    gpus: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"dedup.threshold is {self.threshold}; need 0 < threshold <= 1")
        for name, least in (("bands", 1), ("rows", 1), ("max_bucket", 2), ("partitions", 1), ("block_bytes", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"dedup.{name} is {getattr(self, name)}; need at least {least}")


@dataclass(frozen=True)
class RowBlock(DocumentBlock):
    """A block whose documents are known by row and rank: little-endian int64 and uint64 bytes."""

    rows: bytes
    ranks: bytes


def row_block(batch: Batch) -> RowBlock:
    """A batch of documents as the kernel takes it."""
    shingles = batch.shingles
    offsets = tuple(shingles.offsets.tolist())
    return RowBlock((), shingles.hashes.tobytes(), offsets, batch.rows.tobytes(), batch.ranks.tobytes())


class _Blocks(WithFiles):
    """A file -> blocks of its documents that have shingles, one of each content."""

    def __init__(self, params: LshParams, layout: Layout) -> None:
        super().__init__(layout)
        self._params = params

    def process(self, element: str, paths: Sequence[str], repeated: Sequence[pa.RecordBatch]) -> Iterator[RowBlock]:
        left_out = np.sort(np.concatenate([np.zeros(0, np.int64), *(r.column("b").to_numpy() for r in repeated)]))
        for batch in self.files(paths).batches(element, left_out, self._params.block_bytes):
            yield row_block(batch)


class _Verify(WithFiles):
    """Candidate pairs of a partition -> those that exact Jaccard confirms, each once."""

    def __init__(self, params: LshParams, layout: Layout) -> None:
        super().__init__(layout)
        self._params = params
        self._candidates = Metrics.counter("demosift", "dedup.candidates")
        self._verified = Metrics.counter("demosift", "dedup.verified")

    def process(self, row: tuple[int, Iterable[pa.RecordBatch]], paths: Sequence[str]) -> Iterator[pa.RecordBatch]:
        pairs = pairs_of(row[1])
        self._candidates.inc(len(pairs.a))
        for found in verified(self.files(paths), pairs, self._params.threshold):
            self._verified.inc(found.num_rows)
            yield found


def verified(
    files: DocumentFiles, pairs: Pairs, threshold: float, chunk_bytes: int = _CHUNK_BYTES
) -> Iterator[pa.RecordBatch]:
    """Arrow rows a, b, similarity of the distinct pairs whose exact Jaccard is at least `threshold`."""
    rows, ends = np.unique(np.concatenate([pairs.a, pairs.b]), return_inverse=True)
    sizes = files.sizes(rows)
    a, b = ends[: len(pairs.a)], ends[len(pairs.a) :]
    able = may_reach(sizes, a, b, threshold)
    a, b = a[able], b[able]
    filled = np.cumsum(sizes[a] + sizes[b])
    start = 0
    while start < len(a):
        before = filled[start - 1] if start else 0
        stop = max(int(np.searchsorted(filled, before + chunk_bytes, "right")), start + 1)
        similarity = _similarities(files, rows, a[start:stop], b[start:stop])
        same = similarity >= threshold
        if same.any():
            own = [rows[a[start:stop][same]], rows[b[start:stop][same]], similarity[same]]
            yield pa.record_batch([pa.array(values) for values in own], ["a", "b", "similarity"])
        start = stop


def _similarities(files: DocumentFiles, rows: Rows, a: Rows, b: Rows) -> np.ndarray:
    own, ends = np.unique(np.concatenate([a, b]), return_inverse=True)
    return jaccards(files.shingles(rows[own]), ends[: len(a)], ends[len(a) :])


class SimilarDocuments(beam.PTransform):
    """Paths of document files -> Arrow batches of rows: `exact` (a, b) and `near` (a, b, similarity).

    Rows are those of `DocumentFiles` over the same paths, after those of the index. An exact copy takes no part in the
    search for near ones: its edge to the first of its content, `a`, says all. With an index only pairs come out whose
    later document, `b`, is new; what later nights need of the new ones is written as a run to the folder `run`.
    """

    def __init__(
        self, params: LshParams, layout: Layout | None = None, index: IndexView | None = None, run: str | None = None
    ) -> None:
        super().__init__()
        self._params = params
        self._layout = layout or Layout()
        self._index = index or IndexView()
        self._run = run

    def expand(self, files: beam.PCollection[str]) -> dict[str, beam.PCollection[pa.RecordBatch]]:
        params, layout, index, run = self._params, self._layout, self._index, self._run
        all_files = beam.pvalue.AsList(with_earlier(files, index))
        infer = RunInference(MinHashHandler(params.bands * params.rows, params.seed, params.device))
        if params.gpus is not None:
            infer = infer.with_resource_hints(gpus=params.gpus)
        exact = files | "FindExact" >> ExactCopies(params.partitions, layout, index, run)
        near = (
            files
            | "SpreadFiles" >> beam.Reshuffle()
            | "ReadBlocks"
            >> beam.ParDo(_Blocks(params, layout), all_files, beam.pvalue.AsList(exact)).with_output_types(RowBlock)
            | "SignBlocks" >> infer
            | "CutBands" >> beam.FlatMap(_bands_of, params).with_output_types(Parted)
            | "GroupBuckets" >> beam.GroupByKey()
            | "PairBuckets" >> beam.FlatMap(_pairs_of, params, index, run).with_output_types(Parted)
            | "GroupPairs" >> beam.GroupByKey()
            | "VerifyPairs" >> beam.ParDo(_Verify(params, layout), all_files).with_output_types(pa.RecordBatch)
        )
        return {"exact": exact, "near": near}


def _bands_of(result: PredictionResult, params: LshParams) -> Iterator[Parted]:
    block = result.example
    rows, ranks = np.frombuffer(block.rows, "<i8"), np.frombuffer(block.ranks, "<u8")
    yield from band_rows(rows, ranks, result.inference, params.bands, params.rows, params.partitions)


def _pairs_of(
    row: tuple[int, Iterable[pa.RecordBatch]], params: LshParams, index: IndexView, run: str | None
) -> Iterator[Parted]:
    partition, batches = row
    earlier = None
    if index.runs:
        keys = np.unique(np.concatenate([np.unique(batch.column("key").to_numpy()) for batch in batches]))
        earlier = index.bands(partition, keys)
    buckets = gather(batches, params.max_bucket, earlier)
    if run:
        new = lasting(buckets.rows, params.max_bucket) & (buckets.rows.row >= index.first_new_row)
        write_bands(Path(run), run_path(Path(run), BANDS, partition), buckets.rows.take(new))
    held: list[Pairs] = []
    for pairs in bucket_pairs(buckets, batches, params.max_bucket):
        new = pairs.b >= index.first_new_row
        held.append(Pairs(pairs.a[new], pairs.b[new]))
        if sum(len(part.a) for part in held) > _HELD_PAIRS:
            yield from pair_rows(held, params.partitions)
            held = []
    yield from pair_rows(held, params.partitions)
