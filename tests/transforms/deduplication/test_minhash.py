"""MinHash to the bit: against plain integers, on every array library and in numba, and against theory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.deduplication.array_minhash import array_signatures
from transforms.deduplication.array_minhash import mix32 as array_mix32
from transforms.deduplication.minhash import (
    Permutations,
    band_keys,
    jaccard,
    mix32,
    numpy_signatures,
    permutations,
    signatures,
)


def lowbias32(x: int) -> int:
    x = ((x ^ x >> 16) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ x >> 15) * 0x846CA68B) & 0xFFFFFFFF
    return x ^ x >> 16


def int32(x: int) -> int:
    return (x + 2**31) % 2**32 - 2**31


def slow(documents, perms: Permutations):
    """The definition: a minimum of plain integers for every multiplier and offset."""
    pairs = list(zip(*(values.tolist() for values in perms.linear()), strict=True))
    return [
        [min(int32(a * lowbias32((x ^ x >> 32) & 0xFFFFFFFF) + b) for x in document) for a, b in pairs]
        for document in documents
    ]


def layout(documents):
    offsets = np.cumsum([0, *(len(d) for d in documents)])
    return np.array([x for d in documents for x in d], np.uint64), offsets


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=14), min_size=1, max_size=6),
    st.integers(1, 9),
    st.integers(0, 2**63),
)
def test_every_backend_gives_the_bits_of_plain_integers(documents, count, seed):
    torch = pytest.importorskip("torch")
    perms = permutations(count, seed)
    shingles, offsets = layout(documents)
    expected = slow(documents, perms)
    assert numpy_signatures(shingles, offsets, perms).tolist() == expected
    assert signatures(shingles, offsets, perms).tolist() == expected
    assert signatures(shingles, offsets, perms, threads=3).tolist() == expected
    assert array_signatures(shingles.view(np.int64), offsets, perms).tolist() == expected
    of_torch = array_signatures(torch.from_numpy(shingles.view(np.int64)), torch.from_numpy(offsets), perms)
    assert of_torch.tolist() == expected
    assert array_mix32(shingles.view(np.int64)).tolist() == mix32(shingles).tolist()


def test_long_documents_of_every_backend_agree():
    rng = np.random.default_rng(6)
    sizes = [1, 2, 5, 6, 7, 2047, 2048, 2049, 5000, 140_000, 3]
    offsets = np.cumsum([0, *sizes])
    shingles = rng.integers(0, 2**64 - 1, offsets[-1], np.uint64)
    perms = permutations(30, 3)
    expected = numpy_signatures(shingles, offsets, perms)
    assert np.array_equal(signatures(shingles, offsets, perms), expected)
    assert np.array_equal(signatures(shingles, offsets, perms, threads=2), expected)
    assert np.array_equal(array_signatures(shingles.view(np.int64), offsets, perms), expected)


def test_without_numba_numpy_signs(monkeypatch):
    monkeypatch.setattr("transforms.deduplication.minhash.compiled", lambda: None)
    perms = permutations(8, 5)
    assert signatures(*layout([[1, 2], [3]]), perms, threads=4).tolist() == slow([[1, 2], [3]], perms)


def test_one_value_by_hand():
    assert mix32(np.array([0], np.uint64)).tolist() == [0]
    perms = Permutations(np.array([1, 3], np.int32), np.array([-7, 2**31 - 1], np.int32), 8)
    # x = 0: b, then b + 2^31, then -b - 1, then that + 2^31
    by_hand = [-7, 2**31 - 1, 2**31 - 7, -1, 6, -(2**31), -(2**31) + 6, 0]
    assert signatures(np.zeros(2, np.uint64), np.array([0, 2]), perms).tolist() == [by_hand]
    assert perms.linear()[0].tolist() == [1, 3, 1, 3, -1, -3, -1, -3]
    assert perms.linear()[1].tolist() == by_hand
    assert (permutations(64, 1).linear()[0] & 1).all()
    assert len(permutations(7, 1).linear()[0]) == 7


def test_wrong_counts_of_permutations_are_named():
    with pytest.raises(ValueError, match=r"0 permutations; need at least 1"):
        permutations(0, 1)
    with pytest.raises(ValueError, match=r"2 multipliers, 1 offsets; 5 values need 2"):
        Permutations(np.ones(2, np.int32), np.ones(1, np.int32), 5)


def test_documents_are_independent_of_their_block():
    rng = np.random.default_rng(2)
    documents = [rng.integers(0, 2**63, n).tolist() for n in (200_000, 3, 70_000, 70_000, 1)]
    perms = permutations(4, 1)
    whole = signatures(*layout(documents), perms)
    assert np.array_equal(whole, np.vstack([signatures(*layout([d]), perms) for d in documents]))


@pytest.mark.parametrize(("shared", "own"), [(100, 100), (1, 1), (2, 1), (6, 2), (40, 5)])
def test_signatures_estimate_jaccard_as_theory_says(shared, own):
    # the four forms of a product must cost nothing, of long documents as of tiny ones
    rng = np.random.default_rng(shared)
    truth = shared / (shared + 2 * own)
    documents = []
    for _ in range(1000):
        both, left, right = np.split(rng.integers(0, 2**63, shared + 2 * own), [shared, shared + own])
        documents += [[*both, *left], [*both, *right]]
    signed = signatures(*layout(documents), permutations(256, 1))
    errors = (signed[::2] == signed[1::2]).mean(axis=1) - truth
    theory = np.sqrt(truth * (1 - truth) / 256)
    assert np.sqrt(np.mean(np.square(errors))) <= theory * 1.1
    assert abs(np.mean(errors)) < 4 * theory / np.sqrt(1000)


def test_a_band_of_rows_agrees_as_often_as_independent_rows_would():
    rng = np.random.default_rng(3)
    documents = []
    for _ in range(2000):
        both, left, right = np.split(rng.integers(0, 2**63, 120), [80, 100])
        documents += [[*both, *left], [*both, *right]]
    keys = band_keys(signatures(*layout(documents), permutations(256, 1)), 32, 8)
    met = (keys[::2] == keys[1::2]).any(axis=1).mean()
    expected = 1 - (1 - (2 / 3) ** 8) ** 32
    assert met == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 2000))


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
