"""Fuzzy deduplication: exact content, then MinHash-LSH over trajectory shingles with every candidate verified.

Only motion makes a candidate; frames and instruction are asked once two motions agree (agreement.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import PredictionResult, RunInference

import transforms.coders
import transforms.resources
from transforms.deduplication.agreement import AgreementParams, verify
from transforms.deduplication.bands import band_rows
from transforms.deduplication.buckets import candidates
from transforms.deduplication.pairs import pair_rows
from transforms.deduplication.shingle_files import ShingleFiles
from transforms.evidence import DuplicateEdge
from transforms.handlers.minhash import Device, DocumentBlock, MinHashHandler


@dataclass(frozen=True)
class DedupParams(AgreementParams):
    """How near duplicates are found, by `bands * rows` permutations, and from when on two episodes agree.

    A pair of Jaccard J meets with probability 1 - (1 - J^rows)^bands: at 32 x 4, 0.87 for J = 0.5, 0.988 for 0.6,
    0.9998 for 0.7. In a bucket of more than `max_bucket` documents not all pairs are compared, but a star of stars.
    `partitions` bound the memory of one group of buckets, `block_bytes` that of one call of the kernel.

    Trajectories and texts agree by the Jaccard similarity of their shingles. Two frames agree where at most
    `frame_bits` of 256 differ, two cameras where at least `frames_share` of the frames do that both show at the same
    place of the path; with fewer than `min_frames` of these a camera abstains.
    """

    bands: int = 32
    rows: int = 4
    seed: int = 1
    max_bucket: int = 64
    partitions: int = 16
    block_bytes: int = 8 << 20
    device: Device = "cpu"
    gpus: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("bands", 1), ("rows", 1), ("max_bucket", 2), ("partitions", 1), ("block_bytes", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"dedup.{name} is {getattr(self, name)}; need at least {least}")


class _Blocks(beam.DoFn):
    """A shingle file -> its moving, distinct contents as blocks."""

    def __init__(self, params: DedupParams) -> None:
        self._params = params
        self._files: ShingleFiles | None = None

    def process(self, element: str, paths: Sequence[str]) -> Iterator[DocumentBlock]:
        if self._files is None or not self._files.are(paths):
            self._files = ShingleFiles(paths)
        yield from self._files.blocks(element, self._params.block_bytes)

    def teardown(self) -> None:
        self._files = None


class _Verify(beam.DoFn):
    """Candidate pairs of a partition -> the edges that exact Jaccard confirms, each once."""

    def __init__(self, params: DedupParams) -> None:
        self._params = params
        self._candidates = Metrics.counter("demosift", "dedup.candidates")
        self._verified = Metrics.counter("demosift", "dedup.verified")
        self._relabelled = Metrics.counter("demosift", "dedup.relabelled")

    def process(self, row: tuple[int, Iterable[bytes]], paths: Sequence[str]) -> Iterator[DuplicateEdge]:
        batches = [transforms.coders.from_ipc(batch) for batch in row[1]]
        pairs = sorted({pair for b in batches for pair in zip(*(c.to_pylist() for c in b.columns), strict=True)})
        known = ShingleFiles(paths).fingerprints(sorted({end for pair in pairs for end in pair}))
        self._candidates.inc(len(pairs))
        for a, b in pairs:
            edge = verify(known[a], known[b], self._params)
            if edge is not None:
                self._verified.inc()
                self._relabelled.inc(int(edge.relabelled))
                yield edge


class GPUDeduplicator(beam.PTransform):
    """Paths of shingle files -> verified edges of duplicates; who is kept is selection's to say.

    An element is a file, a block of documents or an Arrow batch of rows, never a row.
    """

    def __init__(self, params: DedupParams | None = None) -> None:
        super().__init__()
        self._params = params or DedupParams()

    def expand(self, files: beam.PCollection[str]) -> beam.PCollection[DuplicateEdge]:
        params = self._params
        all_files = beam.pvalue.AsList(files)
        infer = RunInference(MinHashHandler(params.bands * params.rows, params.seed, params.device))
        if params.gpus is not None:
            infer = infer.with_resource_hints(gpus=params.gpus)
        near = (
            files
            | "ReadBlocks" >> beam.ParDo(_Blocks(params), all_files).with_output_types(DocumentBlock)
            | "SignBlocks" >> infer
            | "CutBands" >> beam.FlatMap(_bands_of, params).with_output_types(tuple[int, bytes])
            | "GroupBuckets" >> beam.GroupByKey()
            | "PairBuckets" >> beam.FlatMap(_pairs_of, params).with_output_types(tuple[int, bytes])
            | "GroupPairs" >> beam.GroupByKey()
            | "VerifyPairs" >> beam.ParDo(_Verify(params), all_files).with_output_types(DuplicateEdge)
        )
        exact = (
            files.pipeline
            | "StartContents" >> beam.Create([None])
            | "LinkContents" >> beam.FlatMap(_content_edges, all_files).with_output_types(DuplicateEdge)
        )
        return (exact, near) | "MergeEdges" >> beam.Flatten()


def _content_edges(element: None, paths: Sequence[str]) -> Iterator[DuplicateEdge]:
    yield from ShingleFiles(paths).content_edges()


def _bands_of(result: PredictionResult, params: DedupParams) -> Iterator[tuple[int, bytes]]:
    return band_rows(result.example, result.inference, params.bands, params.rows, params.partitions)


def _pairs_of(row: tuple[int, Iterable[bytes]], params: DedupParams) -> Iterator[tuple[int, bytes]]:
    return pair_rows(candidates(row[1], params.max_bucket), params.partitions)
