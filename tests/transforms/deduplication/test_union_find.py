"""Components for any order and any grouping of edges."""

from hypothesis import given
from hypothesis import strategies as st

from transforms.deduplication.union_find import components

EDGES = st.lists(st.tuples(st.sampled_from("abcdefghij"), st.sampled_from("abcdefghij")), max_size=15)


def flood(edges):
    """Reachability by repeated widening: shares nothing with union-find."""
    label = {node: node for edge in edges for node in edge}
    for _ in label:
        for a, b in edges:
            label[a] = label[b] = min(label[a], label[b])
    return label


def test_a_chain_has_its_smallest_member_as_root():
    assert components([("c", "b"), ("d", "c"), ("b", "a"), ("x", "y")]) == {
        "a": "a",
        "b": "a",
        "c": "a",
        "d": "a",
        "x": "x",
        "y": "x",
    }


@given(EDGES, st.randoms())
def test_any_order_gives_the_flooded_components(edges, random):
    expected = flood(edges)
    random.shuffle(edges)
    assert components(edges) == expected
