"""The signature benchmark's corpus and its verdicts; the sides themselves check their own estimates when it runs."""

import statistics

import pytest

from benchmarks.dedup_english import english, true_jaccard
from benchmarks.dedup_signature_arms import ARMS, estimates, grams
from benchmarks.dedup_signatures import OURS, RIVALS, _ratios, bars


def test_the_corpus_is_what_it_says_and_the_same_each_time():
    texts = english(400, 50)
    assert texts == english(400, 50)
    assert texts != english(400, 50, seed=1)
    strings = texts.to_pylist()
    assert statistics.fmean(len(text.split()) for text in strings) == pytest.approx(198, rel=0.1)
    assert statistics.fmean(map(len, strings)) / 198 == pytest.approx(6.3, rel=0.15)
    assert min(len(text.split()) for text in strings) >= 40
    likeness = [true_jaccard(strings[i], strings[350 + i], True) for i in range(50)]
    assert 0.15 < min(likeness) < 0.5 and 0.85 < max(likeness) < 1


def test_true_jaccard_by_hand():
    assert true_jaccard("a b c d e f.", "A b c d e g", whole_words=True) == pytest.approx(1 / 3)
    assert true_jaccard("a b c d e f.", "A b c d e g", whole_words=False) == 0
    assert list(grams("a b c d e f")) == ["a b c d e", "b c d e f"]


def test_our_side_estimates_what_the_texts_share():
    texts = english(60, 20)
    strings = texts.to_pylist()
    truth = [true_jaccard(strings[i], strings[40 + i], True) for i in range(20)]
    for name in ("ours", "ours, NumPy"):
        found = estimates(ARMS[name][0](texts)(), 20)
        assert found == pytest.approx(truth, abs=0.15)
    assert set(ARMS) == {*OURS, *RIVALS}


def test_a_rival_is_judged_by_its_fastest_way_and_an_absent_one_not_at_all():
    found = {"ours": 100.0, "rensa batch": 10.0, "rensa update": 20.0, "hashes: ours": 1.0}
    ratios = {row.name: row for row in _ratios(found)}
    assert ratios["text: ours / rensa RMinHash"].value == 5
    assert ratios["text: ours / rensa RMinHash"].note == "against rensa update"
    assert ratios["text: ours / datatrove"].value is None
    assert "make rivals" in ratios["text: ours / datatrove"].note
    assert {bar.row for bar in bars()} == set(ratios)
