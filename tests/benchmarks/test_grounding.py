"""What the benchmark of swapped instructions swaps, and how it scores."""

import numpy as np
import pytest

from benchmarks.grounding import ANY, OTHER, REWORDED, SAME, WORDINGS, scored, swap

TRUE = (
    ["put carrot on plate"] * 8
    + ["put cup from counter or drying rack into sink"] * 8
    + ["turn lever vertical to front"] * 4
)


def test_a_tenth_is_swapped_for_what_is_asked():
    for how in (ANY, SAME, OTHER):
        labels, swapped = swap(TRUE, how, np.random.default_rng(1))
        assert [i for i in range(20) if labels[i] != TRUE[i]] == sorted(swapped) and len(swapped) == 2
        for i in swapped:
            same_verb = labels[i].split()[0] == TRUE[i].split()[0]
            assert how == ANY or same_verb == (how == SAME)
    labels, swapped = swap(TRUE, REWORDED, np.random.default_rng(1))
    meant = {word: text for text, words in WORDINGS.items() for word in (text, *words)}
    assert [i for i in range(20) if meant[labels[i]] != TRUE[i]] == sorted(swapped)
    assert len(set(labels)) > 3


def test_scores_by_hand():
    values = np.array([0.1, 0.9, 0.5, 0.5, 0.8])
    area, precision = scored(values, np.array([0, 2]))
    assert area == pytest.approx((3 + 2.5) / 6), "0.1 is below three others, 0.5 below two and beside one"
    assert precision == 1.0, "of equals the first counts"
    assert scored(values, np.array([1, 4]))[1] == 0.0
