"""Who stays: by standing, and only where a direct edge says so."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.deduplication import survivors
from transforms.deduplication.survivors import Edges, owners, standing_order


def decide(count, edges, quality=None, published=None):
    """{node: (owner, similarity, exactly)} of the nodes that go; ids are in order of nodes."""
    ids = pa.array([f"n{i:03d}" for i in range(count)])
    order = standing_order(
        ids,
        np.array(quality or [np.nan] * count, float),
        np.array(published or [False] * count, np.int8),
    )
    a, b, similarity, exact = (np.array(column) for column in zip(*edges, strict=True))
    found = owners(order, Edges(a, b, similarity.astype(float), exact.astype(bool)))
    return {
        i: (int(found.owner[i]), float(found.similarity[i]), bool(found.exact[i]))
        for i in range(count)
        if found.owner[i] != i
    }


def test_a_chain_keeps_its_far_end():
    assert decide(3, [(0, 1, 0.8, False), (1, 2, 0.8, False)]) == {1: (0, 0.8, False)}


def test_published_comes_before_quality_and_quality_before_the_id():
    star = [(0, 1, 0.9, False), (0, 2, 0.8, False), (1, 2, 0.7, False)]
    assert set(decide(3, star)) == {1, 2}
    assert decide(3, star, quality=[0.1, 0.9, np.nan]) == {0: (1, 0.9, False), 2: (1, 0.7, False)}
    assert set(decide(3, star, [0.1, 0.9, np.nan], [False, False, True])) == {0, 1}


def test_exact_copies_share_their_edges():
    edges = [(1, 3, 1.0, True), (0, 1, 0.75, False), (2, 3, 1.0, True)]
    assert decide(4, edges) == {1: (0, 0.75, False), 2: (0, 0.75, False), 3: (0, 0.75, False)}
    assert decide(4, edges, quality=[0, 0, 0, 1]) == {
        0: (3, 0.75, False),
        1: (3, 1.0, True),
        2: (3, 1.0, True),
    }


@st.composite
def graphs(draw):
    count = draw(st.integers(2, 12))
    pairs = draw(st.sets(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), min_size=1, max_size=20))
    edges = [(a, b, draw(st.sampled_from([0.7, 0.8, 0.9])), draw(st.integers(0, 3)) == 0) for a, b in pairs if a < b]
    return (
        count,
        edges or [(0, 1, 0.7, False)],
        draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=count, max_size=count)),
    )


@pytest.mark.parametrize("compiled", [True, False])
@settings(deadline=None)
@given(graphs(), st.randoms())
def test_a_document_that_goes_has_an_edge_to_one_that_stays_and_stands_higher(compiled, graph, random):
    count, edges, quality = graph
    with pytest.MonkeyPatch.context() as patch:
        if not compiled:
            patch.setattr(survivors, "pair_kernels", lambda: None)
        gone = decide(count, edges, quality)
    copies = {i: {i} for i in range(count)}
    for a, b, _, exact in edges:
        if exact:
            joined = copies[a] | copies[b]
            for member in joined:
                copies[member] = joined
    near = {(x, y) for a, b, _, exact in edges if not exact for x in copies[a] for y in copies[b]}
    near |= {(y, x) for x, y in near}
    for member, (owner, _, exact) in gone.items():
        assert owner not in gone
        assert (owner in copies[member]) if exact else ((member, owner) in near)
        assert (-quality[owner], owner) < (-quality[member], member) or not exact
    # nobody who stays repeats another who stays
    stays = set(range(count)) - set(gone)
    assert not {(x, y) for x, y in near if x in stays and y in stays and y not in copies[x]}
    assert all(len(copies[x] & stays) == 1 for x in stays)
    random.shuffle(edges)
    assert decide(count, edges, quality) == gone
