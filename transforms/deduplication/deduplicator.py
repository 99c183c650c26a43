"""Fuzzy deduplication: exact content, then MinHash-LSH over trajectory shingles with every candidate verified.

The instruction alone never makes a candidate. It is asked once two motions agree: equal motion under another text
is an edge marked `relabelled`, which is reported and drops nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import PredictionResult, RunInference
from numpy.typing import NDArray

import transforms.coders
import transforms.resources
from transforms.deduplication.bands import band_rows
from transforms.deduplication.buckets import candidates
from transforms.deduplication.minhash import jaccard
from transforms.deduplication.pairs import pair_rows
from transforms.deduplication.shingle_files import ShingleFiles
from transforms.evidence import DuplicateEdge, Fingerprint
from transforms.handlers.minhash import Device, DocumentBlock, MinHashHandler


@dataclass(frozen=True)
class DedupParams:
    """How near duplicates are found, by `bands * rows` permutations.

    A pair of Jaccard J meets with probability 1 - (1 - J^rows)^bands: at 32 x 4, 0.9998 for J = 0.7. Two texts are the
    same from `instruction_jaccard`, where both are there. In a bucket of more than `max_bucket` documents not all
    pairs are compared, but a star of stars. `partitions` bound the memory of one group of buckets, `block_bytes`
    that of one call of the kernel.
    """

    trajectory_jaccard: float = 0.7
    instruction_jaccard: float = 0.9
    bands: int = 32
    rows: int = 4
    seed: int = 1
    max_bucket: int = 64
    partitions: int = 16
    block_bytes: int = 8 << 20
    device: Device = "cpu"
    gpus: float | None = None

    def __post_init__(self) -> None:
        for name in ("trajectory_jaccard", "instruction_jaccard"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"dedup.{name} is {getattr(self, name)}; need 0 < {name} <= 1")
        for name, least in (("bands", 1), ("rows", 1), ("max_bucket", 2), ("partitions", 1), ("block_bytes", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"dedup.{name} is {getattr(self, name)}; need at least {least}")


def shingle_array(data: bytes) -> NDArray[np.uint64]:
    """A fingerprint's shingles as an array."""
    return np.frombuffer(data, "<u8").astype(np.uint64)


def verify(a: Fingerprint, b: Fingerprint, params: DedupParams) -> DuplicateEdge | None:
    """The edge of two fingerprints by exact Jaccard; None where the motions differ or a trajectory is absent."""
    similarity = jaccard(shingle_array(a.trajectory_shingles), shingle_array(b.trajectory_shingles))
    if similarity < params.trajectory_jaccard:
        return None
    low, high = sorted((a.episode_id, b.episode_id))
    return DuplicateEdge(low, high, "trajectory", similarity, relabelled=not same_text(a, b, params))


def same_text(a: Fingerprint, b: Fingerprint, params: DedupParams) -> bool:
    """Whether two instructions agree; an empty one abstains, and so agrees with any."""
    if not (a.instruction and b.instruction) or a.instruction == b.instruction:
        return True
    text = jaccard(shingle_array(a.instruction_shingles), shingle_array(b.instruction_shingles))
    return text >= params.instruction_jaccard


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
