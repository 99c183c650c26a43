"""Fuzzy deduplication: exact content, then MinHash-LSH over trajectory shingles with every candidate verified.

Only motion makes a candidate; frames and instruction are asked once two motions agree (agreement.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics

from transforms.deduplication.agreement import AgreementParams, agreed, frames_similarity
from transforms.deduplication.document_files import DocumentFiles, Layout
from transforms.deduplication.in_place import WithFiles, with_earlier
from transforms.deduplication.jaccard import Rows, jaccards
from transforms.deduplication.night_index import IndexView
from transforms.deduplication.similar_documents import LshParams, SimilarDocuments
from transforms.evidence import DuplicateEdge, FrameSample
from transforms.handlers.minhash import Device
from transforms.measured import SHINGLES_SCHEMA

EPISODES = Layout("episode_id", "content_id", "trajectory_shingles", every_content=True)
"""Stored fingerprints as documents: their trajectories are what is compared."""
INSTRUCTIONS = replace(EPISODES, shingles="instruction_shingles")


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


class _Judge(WithFiles):
    """Arrow rows of edges -> edges between episodes: exact ones as they are, near ones where all channels agree."""

    def __init__(self, params: DedupParams) -> None:
        super().__init__(EPISODES)
        self._params = params
        self._relabelled = Metrics.counter("demosift", "dedup.relabelled")

    def process(self, batch: pa.RecordBatch, paths: Sequence[str]) -> Iterator[DuplicateEdge]:
        pairs = np.concatenate([batch.column(end).to_numpy() for end in ("a", "b")])
        rows, ends = np.unique(pairs, return_inverse=True)
        a, b = ends.reshape(2, -1)
        files = self.files(paths)
        names = files.ids(rows).to_pylist()
        named = ((names[i], names[j]) for i, j in zip(a.tolist(), b.tolist(), strict=True))
        if batch.schema.get_field_index("similarity") < 0:
            for both in named:
                yield DuplicateEdge(min(both), max(both), "exact", 1.0)
            return
        frames = _frames(files, rows)
        texts = _text_similarities(files, paths, rows, a, b)
        motions = batch.column("similarity").to_pylist()
        for place, (both, motion, text) in enumerate(zip(named, motions, texts, strict=True)):
            shown = frames_similarity(frames[a[place]], frames[b[place]], self._params)
            edge = agreed(both, motion, shown, text, self._params)
            if edge is not None:
                self._relabelled.inc(int(edge.relabelled))
                yield edge


def _frames(files: DocumentFiles, rows: Rows) -> list[tuple[FrameSample, ...]]:
    """The frames of some rows, sorted and unique, in that order."""
    column = files.column("frames", SHINGLES_SCHEMA.field("frames").type, rows)
    return [tuple(FrameSample(**sample) for sample in samples or ()) for samples in column.to_pylist()]


def _text_similarities(files: DocumentFiles, paths: Sequence[str], rows: Rows, a: Rows, b: Rows) -> list[float | None]:
    """Of each pair of places among `rows`: Jaccard similarity of the instructions, None where one is empty."""
    texts = np.asarray(files.column("instruction", pa.string(), rows).to_pylist(), object)
    spoken = np.array([bool(text) for text in texts])
    heard = spoken[a] & spoken[b]
    said = np.ones(len(a))
    other = np.flatnonzero(heard & (texts[a] != texts[b]))
    if len(other):
        shingles = DocumentFiles(paths, INSTRUCTIONS).shingles(rows)
        said[other] = jaccards(shingles, a[other], b[other])
    return [value if both else None for both, value in zip(heard.tolist(), said.tolist(), strict=True)]


class GPUDeduplicator(beam.PTransform):
    """Paths of shingle files -> verified edges of duplicates; who is kept is selection's to say.

    An element is a file, a block of documents or an Arrow batch of rows, never a row. With an `index` only edges come
    out that have an episode of these files; what later searches need of them is written to the folder `run`.
    """

    def __init__(
        self, params: DedupParams | None = None, index: IndexView | None = None, run: str | None = None
    ) -> None:
        super().__init__()
        self._params = params or DedupParams()
        self._index = index or IndexView()
        self._run = run

    def expand(self, files: beam.PCollection[str]) -> beam.PCollection[DuplicateEdge]:
        params, index = self._params, self._index
        found = files | "FindSimilar" >> SimilarDocuments(params.lsh(), EPISODES, index, self._run)
        paths = beam.pvalue.AsList(with_earlier(files, index))
        return (
            (found["exact"], found["near"])
            | "MergeEdges" >> beam.Flatten()
            | "JudgeEdges" >> beam.ParDo(_Judge(params), paths).with_output_types(DuplicateEdge)
        )
