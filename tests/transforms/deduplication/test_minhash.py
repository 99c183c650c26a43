"""MinHash to the bit: against plain integers, against the rectangle form, and against theory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.deduplication.minhash import Permutations, band_keys, jaccard, mix32, permutations, signatures
from transforms.handlers.minhash import rectangle_signatures


def lowbias32(x: int) -> int:
    x = ((x ^ x >> 16) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ x >> 15) * 0x846CA68B) & 0xFFFFFFFF
    return x ^ x >> 16


def int32(x: int) -> int:
    return (x + 2**31) % 2**32 - 2**31


def slow(documents, perms: Permutations):
    return [
        [
            min(int32(int(a) * lowbias32((x ^ x >> 32) & 0xFFFFFFFF) + int(b)) for x in document)
            for a, b in zip(perms.a, perms.b, strict=True)
        ]
        for document in documents
    ]


def layout(documents):
    offsets = np.cumsum([0, *(len(d) for d in documents)])
    return np.array([x for d in documents for x in d], np.uint64), offsets


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=12), min_size=1, max_size=6))
def test_every_form_gives_the_bits_of_plain_integers(documents):
    perms = permutations(8, 5)
    shingles, offsets = layout(documents)
    expected = slow(documents, perms)
    assert signatures(shingles, offsets, perms).tolist() == expected
    assert rectangle_signatures(shingles, offsets, perms, np).tolist() == expected


def test_one_value_by_hand():
    assert mix32(np.array([0], np.uint64)).tolist() == [0]
    perms = Permutations(np.array([1, 3], np.int32), np.array([-7, 2**31 - 1], np.int32))
    assert signatures(np.zeros(2, np.uint64), np.array([0, 2]), perms).tolist() == [[-7, 2**31 - 1]]
    assert (permutations(64, 1).a & 1).all()


def test_documents_are_independent_of_their_block():
    rng = np.random.default_rng(2)
    documents = [rng.integers(0, 2**63, n).tolist() for n in (200_000, 3, 70_000, 70_000, 1)]
    perms = permutations(4, 1)
    whole = signatures(*layout(documents), perms)
    assert np.array_equal(whole, np.vstack([signatures(*layout([d]), perms) for d in documents]))


def test_signatures_estimate_jaccard_as_theory_says():
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(200):
        both, left, right = np.split(rng.integers(0, 2**63, 300), [100, 200])
        a, b = signatures(*layout([[*both, *left], [*both, *right]]), permutations(256, 1))
        errors.append((a == b).mean() - 1 / 3)
    rmse = np.sqrt(np.mean(np.square(errors)))
    assert rmse == pytest.approx(np.sqrt(1 / 3 * 2 / 3 / 256), rel=0.2)
    assert abs(np.mean(errors)) < 0.01


def test_band_keys_agree_exactly_where_the_rows_do():
    signed = np.array([[1, 2, 3, 4], [1, 2, 9, 4], [2, 1, 3, 4]], np.int32)
    keys = band_keys(signed, 2, 2)
    assert keys.shape == (3, 2)
    assert keys[0, 0] == keys[1, 0] != keys[2, 0]
    assert keys[0, 1] == keys[2, 1] != keys[1, 1]
    with pytest.raises(ValueError, match=r"signatures have 4 values; 3 bands of 2 rows need 6"):
        band_keys(signed, 3, 2)


def test_a_document_without_shingles_is_refused():
    with pytest.raises(ValueError, match=r"document 1 has no shingles; leave it out"):
        signatures(np.arange(3, dtype=np.uint64), np.array([0, 2, 2, 3]), permutations(4, 1))


def test_jaccard_by_hand():
    assert jaccard(np.array([1, 2, 3], np.uint64), np.array([2, 3, 4], np.uint64)) == 0.5
    assert jaccard(np.array([], np.uint64), np.array([], np.uint64)) == 0.0
