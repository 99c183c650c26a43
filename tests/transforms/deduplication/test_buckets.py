"""Buckets: which pairs are compared, for any batching, and how many of the pairs at the threshold meet."""

import numpy as np

from transforms.deduplication.bands import band_rows
from transforms.deduplication.buckets import bucket_pairs, candidates
from transforms.deduplication.deduplicator import DedupParams
from transforms.deduplication.minhash import permutations, signatures
from transforms.deduplication.union_find import components
from transforms.handlers.minhash import pack


def test_a_hot_bucket_is_bounded_and_stays_connected():
    members = list(range(1000))
    pairs = list(bucket_pairs(members, 10))
    assert len(pairs) < 2000
    assert len(set(components((f"{a:04d}", f"{b:04d}") for a, b in pairs).values())) == 1
    assert len(list(bucket_pairs(members[:10], 10))) == 45


def test_candidates_do_not_depend_on_how_rows_were_batched():
    params = DedupParams(partitions=1)
    perms = permutations(params.bands * params.rows, params.seed)
    documents = [(f"d{i}", np.array(range(i % 3 * 100, i % 3 * 100 + 30), "<u8").tobytes()) for i in range(9)]

    def rows(groups):
        blocks = [pack(group) for group in groups]
        for block in blocks:
            signed = signatures(block.hashes(), np.array(block.offsets), perms)
            yield from (data for _, data in band_rows(block, signed, params.bands, params.rows, params.partitions))

    whole = list(candidates(rows([documents]), 64))
    parts = list(candidates(rows([documents[5:], documents[:5]]), 64))
    assert whole == parts == sorted(whole)
    assert len(whole) == 9  # three motions, three pairs each


def test_recall_at_the_threshold_is_as_documented():
    rng = np.random.default_rng(0)
    pairs = 300
    documents = []
    for i in range(pairs):
        base = rng.integers(0, 2**63, 100, dtype=np.uint64)
        documents += [(f"{i}a", np.sort(base[:85]).tobytes()), (f"{i}b", np.sort(base[15:]).tobytes())]
    params = DedupParams(partitions=1)
    block = pack(documents)
    signed = signatures(block.hashes(), np.array(block.offsets), permutations(128, params.seed))
    found = set(
        candidates((data for _, data in band_rows(block, signed, params.bands, params.rows, params.partitions)), 64)
    )
    assert sum((f"{i}a", f"{i}b") in found for i in range(pairs)) >= 0.99 * pairs
