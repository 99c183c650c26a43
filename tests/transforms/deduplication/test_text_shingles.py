"""Word n-grams: the definition in plain Python, the same bits on every array library, and what counts as a word."""

import re
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.deduplication import text_shingles
from transforms.deduplication.array_shingles import array_word_hashes
from transforms.deduplication.letters import BYTE_BASE, WORD_BASE, letter_table
from transforms.deduplication.minhash import jaccard
from transforms.deduplication.shingles import Shingles, blocks, joined, sorted_unique
from transforms.deduplication.text_shingles import word_hashes, word_ngrams
from transforms.deduplication.text_words import spaced, text_bytes

WRAP = (1 << 64) - 1
AWKWARD = "aAbz0_ .,-\n\0éÉßİ\u0131ﬁ字か한글ไทย\u00ad\u2019ǅΣς\u0301🤖"
TEXTS = st.text(st.sampled_from(AWKWARD) | st.characters(codec="utf-8"), max_size=40)


def mixed(x: int) -> int:
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & WRAP
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & WRAP
    return x ^ x >> 31


def polynomial(values: list[int], base: int) -> int:
    total = 0
    for value in values:
        total = (total * base + value) & WRAP
    return total


def plain(text: str, n: int) -> list[int]:
    """The definition, by Python's own integers and its own idea of a word."""
    table = letter_table().tolist()
    words = spaced(text).split()
    hashes = [mixed(polynomial([table[byte] for byte in word.encode()], BYTE_BASE)) for word in words]
    grams = [hashes[at : at + n] for at in range(max(len(words) - n + 1, min(len(words), 1)))]
    return [polynomial(gram, WORD_BASE) for gram in grams]


def expected(texts: list[str], n: int) -> list[list[int]]:
    return [plain(text, n) for text in texts]


def listed(shingles: Shingles) -> list[list[int]]:
    bounds = shingles.offsets.tolist()
    return [shingles.hashes[a:b].tolist() for a, b in pairwise(bounds)]


@settings(max_examples=80, deadline=None)
@given(st.lists(TEXTS, max_size=6), st.integers(1, 7))
def test_every_backend_gives_the_bits_of_the_definition(texts, n):
    torch = pytest.importorskip("torch")
    wanted = expected(texts, n)
    array = pa.array(texts, pa.string())
    assert listed(word_hashes(array, n)) == wanted
    held = text_bytes(array)
    by_numpy, bounds = array_word_hashes(held.data, held.offsets, n)
    assert listed(Shingles(by_numpy.view(np.uint64), bounds)) == wanted
    data, offsets = torch.from_numpy(held.data.copy()), torch.from_numpy(held.offsets)
    by_torch, torch_bounds = array_word_hashes(data, offsets, n)
    assert np.array_equal(by_torch.numpy(), by_numpy) and np.array_equal(torch_bounds.numpy(), bounds)
    assert listed(word_ngrams(array, n)) == [sorted(set(gram)) for gram in wanted]


def test_without_numba_chunks_give_the_same_bits(monkeypatch):
    texts = [f"{'word ' * (i % 9)}and {i}" for i in range(300)]
    wanted = expected(texts, 3)
    assert listed(word_hashes(pa.array(texts), 3)) == wanted
    monkeypatch.setattr(text_shingles, "compiled", lambda: None)
    monkeypatch.setattr(text_shingles, "_CHUNK_BYTES", 50)
    assert listed(word_hashes(pa.array(texts), 3)) == wanted
    assert listed(word_hashes(pa.array([], pa.string()), 3)) == []


def test_ascii_words_are_those_of_the_regular_expression():
    text = "Pick-up the RED_cube #2, don't\tdrop\nit!  _ 007."
    assert spaced(text).split() == re.findall(r"\w+", text.lower())
    array = pa.array([text, " ".join(re.findall(r"\w+", text.lower()))])
    first, second = listed(word_hashes(array, 2))
    assert first == second
    assert len(first) == 10


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Straße", "STRASSE"),
        ("cafe\u0301 noir", "CAF\u00c9 NOIR"),
        ("\u1100\u1161 \u2168", "\uac00 \u2178"),
        ("it\u2019s — fine", "it s fine"),
        ("hindi हिन्दी", "hindi\u00a0हिन्दी!"),
        ("\u212a\u00e9", "k\u00e9"),
    ],
)
def test_case_form_and_punctuation_do_not_matter(a, b):
    first, second = listed(word_hashes(pa.array([a, b]), 1))
    assert first == second != []


def test_a_mark_and_an_ideograph_do():
    assert spaced("हिन्दी").split() == ["हिन्दी"]
    assert spaced("漢字かな, ok").split() == ["漢", "字", "か", "な", "ok"]
    assert spaced("한글 문장").split() == ["한글", "문장"]


def test_texts_of_few_words_make_one_shingle_or_none():
    shingles = word_ngrams(pa.array(["", " .,! ", None, "one", "a b c d", "a b c d e", "a b c d e f"]), 5)
    assert shingles.sizes().tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert len(set(shingles.hashes.tolist())) == 4, "the fifth text is the first shingle of the last"
    assert word_ngrams(pa.array([], pa.string())).offsets.tolist() == [0]
    assert word_ngrams(pa.array([None, None], pa.string())).offsets.tolist() == [0, 0, 0]


def test_slices_large_strings_and_chunks_read_the_same():
    texts = ["skip me", "the red cube", "le café rouge", "x y z w v u"]
    wanted = listed(word_hashes(pa.array(texts[1:]), 2))
    assert listed(word_hashes(pa.array(texts).slice(1), 2)) == wanted
    assert listed(word_hashes(pa.array(texts, pa.large_string()).slice(1), 2)) == wanted
    assert listed(word_hashes(pa.chunked_array([texts[1:2], texts[2:]]), 2)) == wanted


def test_ten_thousand_words_of_three_letters_collide_nowhere():
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [a + b + c for a in letters for b in letters for c in letters]
    assert len(np.unique(word_hashes(pa.array([" ".join(words)]), 1).hashes)) == len(words)
    pairs = word_hashes(pa.array([" ".join(words)]), 2).hashes
    assert len(np.unique(pairs)) == len(words) - 1
    assert np.unique(pairs & np.uint64(15), return_counts=True)[1] == pytest.approx(len(words) / 16, rel=0.15)


def test_jaccard_of_two_sentences_by_hand():
    shingles = word_ngrams(pa.array(["a b c d e f", "A b c, d e g"]), 2)
    first, second = (np.array(hashes, np.uint64) for hashes in listed(shingles))
    assert jaccard(first, second) == pytest.approx(4 / 6)


def test_what_cannot_be_read_is_named():
    with pytest.raises(ValueError, match=r"n is 0; a shingle needs at least 1 word"):
        word_ngrams(pa.array(["a"]), 0)
    with pytest.raises(TypeError, match=r"texts are int64; need string or large_string, cast them before"):
        word_ngrams(pa.array([1]))
    broken = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff")])
    with pytest.raises(ValueError, match=r"text 0 is no UTF-8 .*; decode it from its own encoding before"):
        word_ngrams(broken)


def test_sorting_keeps_documents_apart():
    shingles = Shingles(np.array([7, 3, 7, 7, 1], np.uint64), np.array([0, 3, 3, 4, 5], np.int64))
    assert listed(sorted_unique(shingles)) == [[3, 7], [], [7], [1]]
    assert listed(joined([shingles, shingles]))[4:] == [[7, 3, 7], [], [7], [1]]
    assert listed(joined([])) == []
    assert list(blocks(shingles.offsets, 2)) == [(0, 1), (1, 4)]
