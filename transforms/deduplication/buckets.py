"""Buckets of documents that share a band, and the pairs to compare in them.

In a bucket of up to `max_bucket` documents all pairs are compared. A larger one is dealt out by a salt, a hash of the
document's rank and the bucket's key, into `max_bucket` heaps: each heap is a star around its first by rank, and the
centres are compared with one another. So n documents make at most n + max_bucket^2 / 2 pairs, and a document has
another centre in each band.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.deduplication.jaccard import Rows
from transforms.deduplication.minhash import mix64
from transforms.deduplication.shingles import Hashes

HELD_ROWS = 1 << 22
"""Band rows of one partition held at once (100 MB); beyond it large buckets are thinned out to their centres."""


@dataclass(frozen=True)
class BandRows:
    """R rows in order of (key, rank): `key` (R,), `rank` (R,) and `row` (R,) of the document."""

    key: Hashes
    rank: Hashes
    row: Rows

    def take(self, places: NDArray[np.generic]) -> BandRows:
        """Some of the rows, by place or mask."""
        return BandRows(self.key[places], self.rank[places], self.row[places])

    def bounds(self) -> NDArray[np.int64]:
        """(B + 1,) first row of each of B buckets, and the end."""
        fresh = np.flatnonzero(self.key[1:] != self.key[:-1]) + 1
        return np.concatenate([np.zeros(min(len(self.key), 1), np.int64), fresh, [len(self.key)]])


@dataclass(frozen=True)
class Pairs:
    """P pairs of documents: rows `a` (P,) and `b` (P,), the first by rank in `a`."""

    a: Rows
    b: Rows


def candidates(batches: Iterable[pa.RecordBatch], max_bucket: int, held_rows: int = HELD_ROWS) -> Iterator[Pairs]:
    """The pairs to compare in one partition's buckets; one that shares several buckets comes as often.

    `batches` is read once, and once more where it has more than `held_rows` rows: by then the centres of large buckets
    are known, so that a bucket of any size takes the memory of its centres.
    """
    held, thinned, read = _thinned(batches, max_bucket, held_rows)
    sizes = np.diff(held.bounds())
    large = np.repeat((sizes > max_bucket) | np.isin(held.key[held.bounds()[:-1]], thinned), sizes)
    yield from all_pairs(held.take(~large))
    hot = held.take(large)
    centres = _centres(hot, max_bucket)
    yield from all_pairs(in_order(centres))
    if len(thinned):
        again = 0
        for batch in batches:
            found = _rows(batch)
            again += len(found.key)
            yield from _spokes(found.take(np.isin(found.key, thinned)), centres, max_bucket)
        if again != read:
            raise RuntimeError(
                f"a bucket's rows were {again} when read again, {read} before; the runner must give groups that can be "
                "read twice, or raise held_rows"
            )
        hot = hot.take(~np.isin(hot.key, thinned))
    yield from _spokes(hot, centres, max_bucket)


def _thinned(batches: Iterable[pa.RecordBatch], max_bucket: int, held_rows: int) -> tuple[BandRows, Hashes, int]:
    """All rows in order, but for the buckets (whose keys come too) that kept only their centres; how many were read."""
    empty = np.zeros(0, np.uint64)
    parts = [BandRows(empty, empty, np.zeros(0, np.int64))]
    thinned = empty
    count, limit, read = 0, held_rows, 0
    for batch in batches:
        parts.append(_rows(batch))
        count += batch.num_rows
        read += batch.num_rows
        if count > limit:
            held = in_order(_joined(parts))
            sizes = np.diff(held.bounds())
            large = sizes > max_bucket
            thinned = np.union1d(thinned, held.key[held.bounds()[:-1]][large])
            hot = np.repeat(large, sizes)
            parts = [held.take(~hot), _centres(held.take(hot), max_bucket)]
            count = sum(len(part.key) for part in parts)
            limit = max(held_rows, 2 * count)  # what is cold stays, however much there is
    return in_order(_joined(parts)), thinned, read


def all_pairs(rows: BandRows) -> Iterator[Pairs]:
    """All pairs within each bucket of ordered rows, bucket sizes one after another."""
    bounds = rows.bounds()
    sizes = np.diff(bounds)
    for size in np.unique(sizes[sizes > 1]).tolist():
        members = rows.row[bounds[:-1][sizes == size][:, None] + np.arange(size)]
        first, second = np.triu_indices(size, 1)
        yield Pairs(members[:, first].reshape(-1), members[:, second].reshape(-1))


def _salts(rows: BandRows, max_bucket: int) -> NDArray[np.int64]:
    return (mix64(rows.rank ^ rows.key) % np.uint64(max_bucket)).astype(np.int64)


def _centres(rows: BandRows, max_bucket: int) -> BandRows:
    """The first by rank of each key's heaps, by (key, salt)."""
    salt = _salts(rows, max_bucket)
    order = np.lexsort((rows.rank, salt, rows.key))
    key, salt = rows.key[order], salt[order]
    fresh = np.ones(len(order), np.bool_)
    fresh[1:] = (key[1:] != key[:-1]) | (salt[1:] != salt[:-1])
    return rows.take(order[fresh])


def _spokes(rows: BandRows, centres: BandRows, max_bucket: int) -> Iterator[Pairs]:
    """Each row with the centre of its heap, unless it is the centre."""
    if not len(rows.key):
        return
    bounds = centres.bounds()
    keys = centres.key[bounds[:-1]]
    bucket = np.searchsorted(keys, rows.key)
    # (key, salt) as one number: the centres are in that order
    places = np.repeat(np.arange(len(keys)), np.diff(bounds)) * max_bucket + _salts(centres, max_bucket)
    centre = centres.row[np.searchsorted(places, bucket * max_bucket + _salts(rows, max_bucket))]
    other = rows.row != centre
    yield Pairs(centre[other], rows.row[other])


def in_order(rows: BandRows) -> BandRows:
    """The rows by (key, rank)."""
    return rows.take(np.lexsort((rows.rank, rows.key)))


def _rows(batch: pa.RecordBatch) -> BandRows:
    key, rank, row = (batch.column(name).to_numpy() for name in ("key", "rank", "row"))
    return BandRows(key, rank, row)


def _joined(parts: list[BandRows]) -> BandRows:
    return BandRows(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("key", "rank", "row")))
