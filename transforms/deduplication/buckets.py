"""Buckets of documents that share a band, and the pairs to compare in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import transforms.coders
from transforms.deduplication.pairs import Pair


def bucket_pairs(members: Sequence[int], max_bucket: int) -> Iterator[tuple[int, int]]:
    """Pairs to compare among the sorted members of one bucket: all, or a star in each part and over their centres."""
    if len(members) <= max_bucket:
        yield from combinations(members, 2)
        return
    centres = members[::max_bucket]
    for start, centre in zip(range(0, len(members), max_bucket), centres, strict=True):
        yield from ((centre, other) for other in members[start + 1 : start + max_bucket])
    yield from bucket_pairs(centres, max_bucket)


def candidates(batches: Iterable[bytes], max_bucket: int) -> Iterator[Pair]:
    """Distinct candidate pairs (smaller id first) of one partition's band rows."""
    table = pa.Table.from_batches([transforms.coders.from_ipc(batch) for batch in batches])
    encoded = table.column("id").combine_chunks().dictionary_encode()
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
    full = stops - starts > 1
    seen: set[tuple[int, int]] = set()
    for start, stop in zip(starts[full].tolist(), stops[full].tolist(), strict=True):
        seen.update(bucket_pairs(rank[start:stop].tolist(), max_bucket))
    for low, high in sorted(seen):
        yield names[low].as_py(), names[high].as_py()
