"""Fuzzy deduplication: exact content, then MinHash-LSH over trajectory shingles with every candidate verified.

Only motion makes a candidate; frames and instruction are asked once two motions agree (agreement.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics

from transforms.deduplication.agreement import AgreementParams, verify
from transforms.deduplication.document_files import DocumentFiles, Layout
from transforms.deduplication.jaccard import Rows
from transforms.deduplication.similar_documents import LshParams, SimilarDocuments
from transforms.evidence import DuplicateEdge, Fingerprint, FrameSample
from transforms.handlers.minhash import Device

EPISODES = Layout("episode_id", "content_id", "trajectory_shingles", every_content=True)
"""Stored fingerprints as documents: their trajectories are what is compared."""


@dataclass(frozen=True)
class DedupParams(AgreementParams):
    """How near duplicates are found, by `bands * rows` permutations, and from when on two episodes agree.

    A pair of Jaccard J meets with probability 1 - (1 - J^rows)^bands: at 32 x 4, 0.87 for J = 0.5, 0.988 for 0.6,
    0.9998 for 0.7. In a bucket of more than `max_bucket` documents not all pairs are compared, but stars and centres.
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
        self.lsh()  # refuses what it cannot work with

    def lsh(self) -> LshParams:
        """What finds similar trajectories."""
        return LshParams(
            threshold=self.trajectory_jaccard,
            bands=self.bands,
            rows=self.rows,
            seed=self.seed,
            max_bucket=self.max_bucket,
            partitions=self.partitions,
            block_bytes=self.block_bytes,
            device=self.device,
            gpus=self.gpus,
        )


class _Judge(beam.DoFn):
    """Arrow rows of edges -> edges between episodes: exact ones as they are, near ones where all channels agree."""

    def __init__(self, params: DedupParams) -> None:
        self._params = params
        self._relabelled = Metrics.counter("demosift", "dedup.relabelled")

    def process(self, batch: pa.RecordBatch, paths: Sequence[str]) -> Iterator[DuplicateEdge]:
        pairs = np.concatenate([batch.column(end).to_numpy() for end in ("a", "b")])
        rows, ends = np.unique(pairs, return_inverse=True)
        files = DocumentFiles(paths, EPISODES)
        both = zip(*ends.reshape(2, -1).tolist(), strict=True)
        if batch.schema.get_field_index("similarity") < 0:
            names = files.ids(rows).to_pylist()
            for a, b in both:
                low, high = sorted((names[a], names[b]))
                yield DuplicateEdge(low, high, "exact", 1.0)
            return
        known = fingerprints(files, rows)
        for a, b in both:
            edge = verify(known[a], known[b], self._params)
            if edge is not None:
                self._relabelled.inc(int(edge.relabelled))
                yield edge


def fingerprints(files: DocumentFiles, rows: Rows) -> list[Fingerprint]:
    """The stored fingerprints of some rows, sorted and unique, in that order."""
    found = []
    for record in files.records(rows).to_pylist():
        samples = tuple(FrameSample(**sample) for sample in record.pop("frames", None) or ())
        found.append(Fingerprint(**record, frames=samples))
    return found


class GPUDeduplicator(beam.PTransform):
    """Paths of shingle files -> verified edges of duplicates; who is kept is selection's to say.

    An element is a file, a block of documents or an Arrow batch of rows, never a row.
    """

    def __init__(self, params: DedupParams | None = None) -> None:
        super().__init__()
        self._params = params or DedupParams()

    def expand(self, files: beam.PCollection[str]) -> beam.PCollection[DuplicateEdge]:
        params = self._params
        found = files | "FindSimilar" >> SimilarDocuments(params.lsh(), EPISODES)
        return (
            (found["exact"], found["near"])
            | "MergeEdges" >> beam.Flatten()
            | "JudgeEdges" >> beam.ParDo(_Judge(params), beam.pvalue.AsList(files)).with_output_types(DuplicateEdge)
        )
