"""Buckets of documents that share a band, and the pairs to compare in them.

The first `max_bucket` of a bucket by rank are compared all with all. Each later one is dealt out by a salt, a hash of
its rank and the bucket's key, into one of `max_bucket` heaps, and is compared with the first of its heap by rank; the
first of the heaps, the centres, are compared with one another. So n documents make at most n + max_bucket^2 pairs, and
a document has another centre in each band. With which earlier documents one is compared depends on earlier ones only:
documents of a later night change nothing among those before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.deduplication.jaccard import Rows
from transforms.deduplication.minhash import mix64
from transforms.deduplication.ordering import by_two
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


@dataclass(frozen=True)
class Buckets:
    """One partition's rows in order of (key, rank), of `thinned` keys only those that last; how many were `read`."""

    rows: BandRows
    thinned: Hashes
    read: int


def candidates(batches: Iterable[pa.RecordBatch], max_bucket: int, held_rows: int = HELD_ROWS) -> Iterator[Pairs]:
    """The pairs to compare in one partition's buckets; one that shares several buckets comes as often."""
    yield from bucket_pairs(gather(batches, max_bucket, held_rows=held_rows), batches, max_bucket)


def gather(
    batches: Iterable[pa.RecordBatch], max_bucket: int, earlier: BandRows | None = None, held_rows: int = HELD_ROWS
) -> Buckets:
    """One partition's buckets, `earlier` rows of an index among them.

    Beyond `held_rows` rows, large buckets are thinned out, so that a bucket of any size takes bounded memory.
    """
    empty = np.zeros(0, np.uint64)
    parts = [earlier or BandRows(empty, empty, np.zeros(0, np.int64))]
    thinned = empty
    count, limit, read = 0, held_rows, 0
    for batch in batches:
        parts.append(_rows(batch))
        count += batch.num_rows
        read += batch.num_rows
        if count > limit:
            kept, large = _thin(in_order(_joined(parts)), max_bucket)
            thinned = np.union1d(thinned, large)
            parts = [kept]
            count = len(kept.key)
            limit = max(held_rows, 2 * count)  # what is cold stays, however much there is
    rows = in_order(_joined(parts))
    if len(thinned):
        rows = rows.take(lasting(rows, max_bucket) | ~np.isin(rows.key, thinned))
    return Buckets(rows, thinned, read)


def _thin(rows: BandRows, max_bucket: int) -> tuple[BandRows, Hashes]:
    """The lasting ones of ordered rows, and the keys of large buckets."""
    bounds = rows.bounds()
    return rows.take(lasting(rows, max_bucket)), rows.key[bounds[:-1]][np.diff(bounds) > max_bucket]


def bucket_pairs(buckets: Buckets, batches: Iterable[pa.RecordBatch], max_bucket: int) -> Iterator[Pairs]:
    """The pairs of gathered buckets; `batches` are read again where buckets were thinned.

    Raises RuntimeError where they are then others.
    """
    rows, thinned = buckets.rows, buckets.thinned
    core = _places(rows) < max_bucket
    yield from all_pairs(rows.take(core))
    sizes = np.diff(rows.bounds())
    scarce = np.isin(rows.key, thinned)
    large = np.repeat(sizes > max_bucket, sizes) | scarce
    if not large.any():
        return
    centres = _centres(rows.take(large), max_bucket)
    yield from all_pairs(in_order(centres))
    yield from _spokes(rows.take(large & ~core & ~scarce), centres, max_bucket)
    if not len(thinned):
        return
    cores = rows.take(core & scarce)
    last = cores.rank[cores.bounds()[1:] - 1]
    again = 0
    for batch in batches:
        found = _rows(batch)
        again += len(found.key)
        found = found.take(np.isin(found.key, thinned))
        later = found.rank > last[np.searchsorted(thinned, found.key)]
        yield from _spokes(found.take(later), centres, max_bucket)
    if again != buckets.read:
        raise RuntimeError(
            f"a bucket's rows were {again} when read again, {buckets.read} before; the runner must give groups that "
            "can be read twice, or raise held_rows"
        )


def lasting(rows: BandRows, max_bucket: int) -> NDArray[np.bool_]:
    """Which of ordered rows later documents may be compared with: the first of each bucket, and the centres."""
    core = _places(rows) < max_bucket
    sizes = np.diff(rows.bounds())
    large = np.flatnonzero(np.repeat(sizes > max_bucket, sizes))
    core[large[_centre_places(rows.take(large), max_bucket)]] = True
    return core


def _places(rows: BandRows) -> NDArray[np.int64]:
    """(R,) place of each ordered row in its bucket."""
    bounds = rows.bounds()
    return np.arange(len(rows.key)) - np.repeat(bounds[:-1], np.diff(bounds))


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
    return rows.take(_centre_places(rows, max_bucket))


def _centre_places(rows: BandRows, max_bucket: int) -> NDArray[np.int64]:
    salt = _salts(rows, max_bucket)
    order = np.lexsort((rows.rank, salt, rows.key))
    key, salt = rows.key[order], salt[order]
    fresh = np.ones(len(order), np.bool_)
    fresh[1:] = (key[1:] != key[:-1]) | (salt[1:] != salt[:-1])
    return np.asarray(order[fresh])


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
    return rows.take(by_two(rows.key, rows.rank))


def _rows(batch: pa.RecordBatch) -> BandRows:
    key, rank, row = (batch.column(name).to_numpy() for name in ("key", "rank", "row"))
    return BandRows(key, rank, row)


def _joined(parts: list[BandRows]) -> BandRows:
    return BandRows(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("key", "rank", "row")))
