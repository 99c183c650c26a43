"""Fuzzy deduplication: exact content, then MinHash-LSH over trajectory shingles with every candidate verified.

The instruction alone never makes a candidate. It is asked once two motions agree: equal motion under another text
is an edge marked `relabelled`, which is reported and drops nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import PredictionResult, RunInference
from numpy.typing import NDArray

import transforms.coders
import transforms.resources
from transforms.evidence import DuplicateCluster, DuplicateEdge, Fingerprint
from transforms.handlers.minhash import Device, DocumentBlock, MinHashHandler, pack
from transforms.minhash import band_keys, jaccard, mix64
from transforms.union_find import JoinComponents

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
    owner = np.repeat(np.arange(len(block.ids)), params.bands)
    part = (mix64(flat + bands) % np.uint64(params.partitions)).astype(np.int64)
    ids = pa.array(block.ids, pa.string())
    for p in np.unique(part):
        rows = np.flatnonzero(part == p)
        columns = [pa.array(bands[rows]), pa.array(flat[rows]), ids.take(pa.array(owner[rows]))]
        yield int(p), transforms.coders.to_ipc(pa.record_batch(columns, ["band", "key", "id"]))


def candidates(batches: Iterable[bytes], max_bucket: int) -> Iterator[Pair]:
    """Distinct candidate pairs (smaller id first) of one partition's band rows."""
    table = pa.Table.from_batches([transforms.coders.from_ipc(batch) for batch in batches])
    encoded = table.column("id").combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_pylist()
    rank = np.argsort(np.argsort(np.array(names, object)))[encoded.indices.to_numpy()]
    band, key = (table.column(name).to_numpy() for name in ("band", "key"))
    order = np.lexsort((rank, key, band))
    band, key, rank = band[order], key[order], rank[order]
    cuts = np.flatnonzero((band[1:] != band[:-1]) | (key[1:] != key[:-1])) + 1
    starts, stops = np.concatenate([[0], cuts]), np.concatenate([cuts, [len(rank)]])
    full = stops - starts > 1
    names.sort()
    seen: set[tuple[int, int]] = set()
    for start, stop in zip(starts[full].tolist(), stops[full].tolist(), strict=True):
        seen.update(bucket_pairs(rank[start:stop].tolist(), max_bucket))
    for low, high in sorted(seen):
        yield names[low], names[high]


class _SameContent(beam.CombineFn):
    """Fingerprints of one content -> the one of the smallest id, and every id."""

    def create_accumulator(self) -> list[Fingerprint | list[str]]:
        return []

    def add_input(self, held: list, found: Fingerprint) -> list:
        return self.merge_accumulators([held, [found, [found.episode_id]]])

    def merge_accumulators(self, many: Iterable[list]) -> list:
        full = [held for held in many if held]
        if not full:
            return []
        first = min((held[0] for held in full), key=lambda f: (f.episode_id, f.trajectory_shingles, f.instruction))
        return [first, [episode_id for held in full for episode_id in held[1]]]

    def extract_output(self, held: list) -> tuple[Fingerprint, list[str]]:
        return held[0], sorted(set(held[1]))


def content_key(found: Fingerprint) -> tuple[str, Fingerprint]:
    """The fingerprint under its content; raises ValueError where it has none."""
    if not found.content_id:
        raise ValueError(f"episode {found.episode_id} has no content_id; fill it by content_id() before deduplication")
    return found.content_id, found


def content_edges(group: tuple[Fingerprint, list[str]]) -> Iterator[DuplicateEdge]:
    """A star from the smallest id of one content: equality is transitive, so it says all."""
    first, *others = group[1]
    return (DuplicateEdge(first, other, "exact", 1.0) for other in others)


def send_document(row: tuple[str, dict]) -> Iterator[tuple[str, Fingerprint]]:
    """A document to every partner that it is to be compared with, each once."""
    for document in row[1]["document"]:
        yield from ((partner, document) for partner in sorted(set(row[1]["partners"])))


class _Verify(beam.DoFn):
    def __init__(self, params: DedupParams) -> None:
        self._params = params
        self._candidates = Metrics.counter("demosift", "dedup.candidates")
        self._verified = Metrics.counter("demosift", "dedup.verified")
        self._relabelled = Metrics.counter("demosift", "dedup.relabelled")

    def process(self, row: tuple[str, dict]) -> Iterator[DuplicateEdge]:
        for document in row[1]["document"]:
            for other in row[1]["others"]:
                self._candidates.inc()
                edge = verify(document, other, self._params)
                if edge is not None:
                    self._verified.inc()
                    self._relabelled.inc(int(edge.relabelled))
                    yield edge


def send_edges(row: tuple[str, dict]) -> Iterator[tuple[str, DuplicateEdge]]:
    """An episode's edges to the root of its component."""
    for smallest in row[1]["root"]:
        yield from ((smallest, edge) for edge in row[1]["edges"])


def cluster(row: tuple[str, Iterable[DuplicateEdge]]) -> DuplicateCluster:
    """One component with its members and edges in order."""
    edges = sorted(row[1], key=lambda edge: (edge.a, edge.b, edge.channel))
    members = {member for edge in edges for member in (edge.a, edge.b)}
    return DuplicateCluster(row[0], tuple(sorted(members)), tuple(edges))


class CompareTrajectories(beam.PTransform):
    """Distinct contents -> verified trajectory edges."""

    def __init__(self, params: DedupParams) -> None:
        super().__init__()
        self._params = params

    def expand(self, documents: beam.PCollection[Fingerprint]) -> beam.PCollection[DuplicateEdge]:
        params = self._params
        infer = RunInference(MinHashHandler(params.bands * params.rows, params.seed, params.device))
        if params.gpus is not None:
            infer = infer.with_resource_hints(gpus=params.gpus)
        by_id = documents | "KeyById" >> beam.Map(lambda f: (f.episode_id, f)).with_output_types(
            tuple[str, Fingerprint]
        )
        pairs = (
            documents
            | "TakeMoving" >> beam.Filter(lambda f: bool(f.trajectory_shingles))
            | "TakeShingles" >> beam.Map(lambda f: (f.episode_id, f.trajectory_shingles))
            | "CollectBlocks"
            >> beam.BatchElements(
                min_batch_size=params.block_bytes,
                max_batch_size=params.block_bytes,
                element_size_fn=lambda document: len(document[1]),
            )
            | "PackBlocks" >> beam.Map(pack).with_output_types(DocumentBlock)
            | "SignBlocks" >> infer
            | "CutBands" >> beam.FlatMap(_bands_of, params).with_output_types(tuple[int, bytes])
            | "GroupBuckets" >> beam.GroupByKey()
            | "PairBuckets"
            >> beam.FlatMap(lambda kv, most: candidates(kv[1], most), params.max_bucket).with_output_types(Pair)
        )
        sent = (
            {"document": by_id, "partners": pairs}
            | "JoinFirst" >> beam.CoGroupByKey()
            | "SendFirst" >> beam.FlatMap(send_document).with_output_types(tuple[str, Fingerprint])
        )
        return (
            {"document": by_id, "others": sent}
            | "JoinSecond" >> beam.CoGroupByKey()
            | "VerifyPairs" >> beam.ParDo(_Verify(params)).with_output_types(DuplicateEdge)
        )


def _bands_of(result: PredictionResult, params: DedupParams) -> Iterator[tuple[int, bytes]]:
    return band_rows(result.example, result.inference, params)


class GPUDeduplicator(beam.PTransform):
    """Fingerprints -> clusters of duplicates with their verified edges; who is kept is selection's to say."""

    def __init__(self, params: DedupParams | None = None) -> None:
        super().__init__()
        self._params = params or DedupParams()

    def expand(self, fingerprints: beam.PCollection[Fingerprint]) -> beam.PCollection[DuplicateCluster]:
        contents = (
            fingerprints
            | "KeyByContent" >> beam.Map(content_key).with_output_types(tuple[str, Fingerprint])
            | "CollapseContent" >> beam.CombinePerKey(_SameContent())
            | "DropContentKey" >> beam.Values()
        )
        exact = contents | "LinkContent" >> beam.FlatMap(content_edges).with_output_types(DuplicateEdge)
        near = (
            contents
            | "TakeContent" >> beam.Map(lambda group: group[0]).with_output_types(Fingerprint)
            | "CompareTrajectories" >> CompareTrajectories(self._params)
        )
        edges = (exact, near) | "MergeEdges" >> beam.Flatten()
        roots = (
            edges
            | "TakeEnds" >> beam.Map(lambda edge: (edge.a, edge.b))
            | "JoinComponents" >> beam.CombineGlobally(JoinComponents())
            | "ListRoots" >> beam.FlatMap(lambda found: found.items()).with_output_types(tuple[str, str])
        )
        by_end = edges | "KeyByEnd" >> beam.Map(lambda edge: (edge.a, edge)).with_output_types(
            tuple[str, DuplicateEdge]
        )
        return (
            {"root": roots, "edges": by_end}
            | "JoinRoots" >> beam.CoGroupByKey()
            | "SendEdges" >> beam.FlatMap(send_edges).with_output_types(tuple[str, DuplicateEdge])
            | "GroupClusters" >> beam.GroupByKey()
            | "BuildClusters" >> beam.Map(cluster).with_output_types(DuplicateCluster)
        )
