"""Exact Jaccard of pairs, compiled and by arrays, against Python's sets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transforms.deduplication.documents import set_jaccard
from transforms.deduplication import jaccard
from transforms.deduplication.jaccard import jaccards, may_reach
from transforms.deduplication.shingles import Shingles

SETS = st.lists(st.sets(st.integers(0, 30), max_size=12), min_size=1, max_size=8)


def shingles(sets) -> Shingles:
    ordered = [sorted(one) for one in sets]
    offsets = np.cumsum([0, *(len(one) for one in ordered)])
    return Shingles(np.array([x for one in ordered for x in one], np.uint64), offsets)


@pytest.mark.parametrize("compiled", [True, False])
@settings(deadline=None)
@given(SETS)
def test_every_pair_is_as_sets_say(compiled, sets):
    a, b = (part.reshape(-1) for part in np.indices((len(sets), len(sets))))
    with pytest.MonkeyPatch.context() as patch:
        if not compiled:
            patch.setattr(jaccard, "pair_kernels", lambda: None)
            patch.setattr(jaccard, "_CHUNK_HASHES", 16)
        found = jaccards(shingles(sets), a, b)
    assert found.tolist() == [set_jaccard(sets[i], sets[j]) for i, j in zip(a, b, strict=True)]


@settings(deadline=None)
@given(SETS, st.sampled_from([0.3, 0.5, 0.7, 1.0]))
def test_sizes_rule_out_only_what_cannot_reach_the_threshold(sets, threshold):
    held = shingles(sets)
    a, b = (part.reshape(-1) for part in np.indices((len(sets), len(sets))))
    able = may_reach(held.sizes(), a, b, threshold)
    assert not (jaccards(held, a, b) >= threshold)[~able].any()
