"""Fuzzy deduplication: exact content, then MinHash-LSH over trajectory shingles with every candidate verified.

The instruction alone never makes a candidate. It is asked once two motions agree: equal motion under another text
is an edge marked `relabelled`, which is reported and drops nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics
from numpy.typing import NDArray

from transforms.deduplication.document_files import DocumentFiles, Layout
from transforms.deduplication.minhash import jaccard
from transforms.deduplication.similar_documents import LshParams, SimilarDocuments
from transforms.evidence import DuplicateEdge, Fingerprint
from transforms.handlers.minhash import Device

EPISODES = Layout("episode_id", "content_id", "trajectory_shingles", every_content=True)
"""Stored fingerprints as documents: their trajectories are what is compared."""


@dataclass(frozen=True)
class DedupParams:
    """How near duplicates are found, by `bands * rows` permutations.

    A pair of Jaccard J meets with probability 1 - (1 - J^rows)^bands: at 32 x 4, 0.9998 for J = 0.7. Two texts are the
    same from `instruction_jaccard`, where both are there. In a bucket of more than `max_bucket` documents not all
    pairs are compared, but stars and their centres. `partitions` bound the memory of one group of buckets,
    `block_bytes` that of one call of the kernel.
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


class _Named(beam.DoFn):
    """Arrow rows of edges -> edges between episodes; where motions agree, texts are asked."""

    def __init__(self, params: DedupParams) -> None:
        self._params = params
        self._relabelled = Metrics.counter("demosift", "dedup.relabelled")

    def process(self, batch: pa.RecordBatch, paths: Sequence[str]) -> Iterator[DuplicateEdge]:
        rows, ends = np.unique(
            np.concatenate([batch.column(end).to_numpy() for end in ("a", "b")]), return_inverse=True
        )
        files = DocumentFiles(paths, EPISODES)
        names = files.ids(rows).to_pylist()
        pairs = zip(*ends.reshape(2, -1).tolist(), strict=True)
        if batch.schema.get_field_index("similarity") < 0:
            for a, b in pairs:
                low, high = sorted((names[a], names[b]))
                yield DuplicateEdge(low, high, "exact", 1.0)
            return
        texts = [
            Fingerprint(*fields)
            for fields in zip(
                names,
                names,
                files.column("instruction", pa.string(), rows).to_pylist(),
                files.column("instruction_shingles", pa.binary(), rows).to_pylist(),
                strict=True,
            )
        ]
        for (a, b), similarity in zip(pairs, batch.column("similarity").to_pylist(), strict=True):
            relabelled = not same_text(texts[a], texts[b], self._params)
            self._relabelled.inc(int(relabelled))
            low, high = sorted((names[a], names[b]))
            yield DuplicateEdge(low, high, "trajectory", similarity, relabelled=relabelled)


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
            | "NameEdges" >> beam.ParDo(_Named(params), beam.pvalue.AsList(files)).with_output_types(DuplicateEdge)
        )
