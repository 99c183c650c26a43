"""Fuzzy deduplication: exact content, then MinHash-LSH over trajectory shingles with every candidate verified.

The instruction alone never makes a candidate. It is asked once two motions agree: equal motion under another text
is an edge marked `relabelled`, which is reported and drops nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import PredictionResult, RunInference
from numpy.typing import NDArray

import transforms.coders
import transforms.resources
from transforms.evidence import DuplicateCluster, DuplicateEdge, Fingerprint
from transforms.handlers.minhash import Device, DocumentBlock, MinHashHandler
from transforms.minhash import band_keys, jaccard, mix64
from transforms.shingle_files import ShingleFiles
from transforms.union_find import components

Pair = tuple[str, str]


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


def bucket_pairs(members: Sequence[int], max_bucket: int) -> Iterator[tuple[int, int]]:
    """Pairs to compare among the sorted members of one bucket: all, or a star in each part and over their centres."""
    if len(members) <= max_bucket:
        yield from combinations(members, 2)
        return
    centres = members[::max_bucket]
    for start, centre in zip(range(0, len(members), max_bucket), centres, strict=True):
        yield from ((centre, other) for other in members[start + 1 : start + max_bucket])
    yield from bucket_pairs(centres, max_bucket)


def band_rows(block: DocumentBlock, signed: NDArray[np.int32], params: DedupParams) -> Iterator[tuple[int, bytes]]:
    """(partition, Arrow rows of band, key, id) of a block: rows that share a bucket share a partition."""
    keys = band_keys(signed, params.bands, params.rows)
    bands = np.broadcast_to(np.arange(params.bands, dtype=np.uint16), keys.shape).reshape(-1)
    flat = keys.reshape(-1)
    owner = np.repeat(np.arange(len(block.ids), dtype=np.int32), params.bands)
    part = (mix64(flat + bands) % np.uint64(params.partitions)).astype(np.int64)
    ids = pa.array(block.ids, pa.string())
    for p in np.unique(part):
        rows = np.flatnonzero(part == p)
        named = pa.DictionaryArray.from_arrays(pa.array(owner[rows]), ids)
        columns = [pa.array(bands[rows]), pa.array(flat[rows]), named]
        yield int(p), transforms.coders.to_ipc(pa.record_batch(columns, ["band", "key", "id"]))


def candidates(batches: Iterable[bytes], max_bucket: int) -> Iterator[Pair]:
    """Distinct candidate pairs (smaller id first) of one partition's band rows."""
    table = pa.Table.from_batches([transforms.coders.from_ipc(batch) for batch in batches])
    encoded = table.unify_dictionaries().column("id").combine_chunks()
    order_of_names = pc.sort_indices(encoded.dictionary)
    names = encoded.dictionary.take(order_of_names)
    ranks = np.empty(len(names), np.int64)
    ranks[np.asarray(order_of_names)] = np.arange(len(names))
    rank = ranks[encoded.indices.to_numpy()]
    band, key = (table.column(name).to_numpy() for name in ("band", "key"))
    order = np.lexsort((rank, key, band))
    band, key, rank = band[order], key[order], rank[order]
    cuts = np.flatnonzero((band[1:] != band[:-1]) | (key[1:] != key[:-1])) + 1
    starts, stops = np.concatenate([[0], cuts]), np.concatenate([cuts, [len(rank)]])
    twos = starts[stops - starts == 2]
    full = stops - starts > 2
    seen = set(zip(rank[twos].tolist(), rank[twos + 1].tolist(), strict=True))
    for start, stop in zip(starts[full].tolist(), stops[full].tolist(), strict=True):
        seen.update(bucket_pairs(rank[start:stop].tolist(), max_bucket))
    pairs = np.array(sorted(seen), np.int64).reshape(-1, 2)
    yield from zip(*(names.take(pa.array(end)).to_pylist() for end in pairs.T), strict=True)


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


def pair_rows(pairs: Iterable[Pair], partitions: int) -> Iterator[tuple[int, bytes]]:
    """(partition, Arrow rows of a, b) of candidate pairs: the same pair out of two buckets meets in one partition."""
    parts: dict[int, list[Pair]] = {}
    for pair in pairs:
        parts.setdefault(zlib.crc32("\0".join(pair).encode()) % partitions, []).append(pair)
    for part, members in sorted(parts.items()):
        columns = [pa.array(end, pa.string()) for end in zip(*members, strict=True)]
        yield part, transforms.coders.to_ipc(pa.record_batch(columns, ["a", "b"]))


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


def clusters(edges: Iterable[DuplicateEdge]) -> list[DuplicateCluster]:
    """The components of verified edges, by their smallest members; each has its members and edges in order."""
    held = sorted(edges, key=lambda edge: (edge.a, edge.b, edge.channel))
    roots = components((edge.a, edge.b) for edge in held)
    grouped: dict[str, list[DuplicateEdge]] = {}
    for edge in held:
        grouped.setdefault(roots[edge.a], []).append(edge)
    return [
        DuplicateCluster(smallest, tuple(sorted({end for edge in own for end in (edge.a, edge.b)})), tuple(own))
        for smallest, own in sorted(grouped.items())
    ]


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
    return band_rows(result.example, result.inference, params)


def _pairs_of(row: tuple[int, Iterable[bytes]], params: DedupParams) -> Iterator[tuple[int, bytes]]:
    return pair_rows(candidates(row[1], params.max_bucket), params.partitions)
