"""Buckets: which pairs are compared, for any batching, and in bounded memory for a bucket of any size."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.dedup_memory import bucket_peak_mb
from transforms.deduplication.bands import band_rows
from transforms.deduplication.buckets import candidates
from transforms.deduplication.components import minimum_roots
from transforms.deduplication.minhash import permutations, signatures
from transforms.deduplication.pairs import distinct


def batches(keys, ranks, rows, size=1000):
    table = pa.table(
        [pa.array(np.asarray(keys, np.uint64)), pa.array(np.asarray(ranks, np.uint64)), pa.array(rows)],
        ["key", "rank", "row"],
    )
    return table.to_batches(max_chunksize=size)


def pairs(found):
    held = distinct(found)
    return set(zip(held.a.tolist(), held.b.tolist(), strict=True))


def test_a_small_bucket_compares_all_pairs_first_by_rank_first():
    found = pairs(candidates(batches([5, 7, 5, 5], [30, 1, 10, 20], [0, 1, 2, 3]), 64))
    assert found == {(2, 3), (2, 0), (3, 0)}


@pytest.mark.parametrize("held_rows", [100, 1 << 22])
def test_a_bucket_of_a_hundred_thousand_is_bounded_and_stays_connected(held_rows):
    count = 100_000
    ranks = np.random.default_rng(1).integers(0, 1 << 63, count)
    found = distinct(candidates(batches(np.full(count, 9), ranks, np.arange(count)), 64, held_rows))
    assert len(found.a) < count + 64 * 63
    assert not minimum_roots(count, found.a, found.b).any()
    # every document meets the first by rank of its heap, and the first 64 of the bucket one another
    assert len(np.unique(found.a)) <= 2 * 64


def test_a_bucket_ten_times_as_large_takes_the_same_memory():
    small, large = (bucket_peak_mb(count) for count in (100_000, 1_000_000))
    assert large < 1.1 * small


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(3, 400), st.integers(1, 6), st.integers(1, 399))
def test_later_documents_change_nothing_among_earlier_ones(seed, count, keys, first):
    """Ranks are places, so that the first `first` are an earlier night's."""
    key = np.random.default_rng(seed).integers(0, keys, count)
    rows = np.arange(count)
    both = pairs(candidates(batches(key, rows, rows), 8))
    alone = pairs(candidates(batches(key[:first], rows[:first], rows[:first]), 8))
    assert alone == {pair for pair in both if max(pair) < first}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(3, 400), st.integers(1, 6))
def test_pairs_depend_on_neither_order_nor_batches_nor_the_room(seed, count, keys):
    rng = np.random.default_rng(seed)
    key, rank = rng.integers(0, keys, count), rng.permutation(count)
    whole = pairs(candidates(batches(key, rank, np.arange(count)), 8))
    order = rng.permutation(count)
    thin = pairs(candidates(batches(key[order], rank[order], order, 7), 8, held_rows=20))
    assert whole == thin


def test_a_group_that_can_be_read_only_once_is_refused_where_it_is_read_twice():
    with pytest.raises(RuntimeError, match=r"a bucket's rows were 0 when read again, 100 before; the runner must"):
        list(candidates(iter(batches(np.zeros(100), np.arange(100), np.arange(100), 10)), 8, held_rows=10))


def test_recall_at_the_threshold_is_as_documented():
    rng = np.random.default_rng(0)
    count = 300
    documents = []
    for _ in range(count):
        base = rng.integers(0, 2**63, 100, dtype=np.uint64)
        documents += [np.sort(base[:85]), np.sort(base[15:])]
    signed = signatures(np.concatenate(documents), np.arange(2 * count + 1) * 85, permutations(128, 1))
    rows = np.arange(2 * count)
    parted = [batch for _, batch in band_rows(rows, rows.astype(np.uint64), signed, 32, 4, 1)]
    found = pairs(candidates(parted, 64))
    assert sum((2 * i, 2 * i + 1) in found for i in range(count)) >= 0.99 * count
