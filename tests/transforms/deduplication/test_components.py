"""Components between integers: compiled, by scipy, and by rounds of stars that fail rather than stop short."""

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.deduplication import components, star_components
from transforms.deduplication.components import minimum_roots
from transforms.deduplication.star_components import NotConverged, StarComponents

NODES = 20
EDGES = st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1)), max_size=30)


def flood(count, edges):
    label = list(range(count))
    for _ in range(count):
        for a, b in edges:
            label[a] = label[b] = min(label[a], label[b])
    return label


def ends(edges):
    return (np.array([edge[end] for edge in edges], np.int64) for end in (0, 1))


@pytest.mark.parametrize("compiled", [True, False])
@settings(deadline=None)
@given(EDGES, st.randoms())
def test_roots_are_the_smallest_nodes_for_any_order(compiled, edges, random):
    expected = flood(NODES, edges)
    random.shuffle(edges)
    with pytest.MonkeyPatch.context() as patch:
        if not compiled:
            patch.setattr(components, "pair_kernels", lambda: None)
        assert minimum_roots(NODES, *ends(edges)).tolist() == expected


def chain(length, seed=1):
    nodes = np.random.default_rng(seed).permutation(length).astype(np.int64)
    return nodes[:-1], nodes[1:]


def test_a_chain_of_ten_thousand_with_random_ids_is_one_component():
    assert not minimum_roots(10_000, *chain(10_000)).any()


def star_roots(folder, a, b, rounds, count, parts=3):
    table = pa.table([pa.array(a), pa.array(b)], ["a", "b"])

    def hold(batches):
        found = pa.Table.from_batches(list(batches), table.schema)
        pq.write_table(found, folder / "roots.parquet")

    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        batches = table.to_batches(max_chunksize=max(1, len(a) // parts))
        edges = pipeline | beam.Create(batches, reshuffle=False).with_output_types(pa.RecordBatch)
        assert_that(edges | (StarComponents(rounds, 4) if rounds else StarComponents()), hold)
    label = np.arange(count)
    found = pq.read_table(folder / "roots.parquet")
    label[found.column("a").to_numpy()] = found.column("b").to_numpy()
    return label


def test_stars_give_the_roots_of_union_find(tmp_path):
    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 3000, (2, 2000))
    assert star_roots(tmp_path, a, b, 8, 3000).tolist() == minimum_roots(3000, a, b).tolist()


def test_too_few_rounds_fail_and_never_stop_short(tmp_path):
    a, b = chain(10_000)
    with pytest.raises(Exception, match=r"nodes of a partition have no one root after 8 rounds of stars; give more"):
        star_roots(tmp_path, a, b, 8, 10_000)
    assert issubclass(NotConverged, RuntimeError)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_chain_of_ten_thousand_is_one_component_by_stars_as_they_come(tmp_path, seed):
    assert not star_roots(tmp_path, *chain(10_000, seed), None, 10_000).any()


def test_edges_that_are_stars_after_eight_rounds_skip_the_rest(tmp_path, monkeypatch):
    log, star = tmp_path / "rounds", star_components._star_large

    def counted(row):
        with log.open("a") as file:
            file.write(".")
        yield from star(row)

    monkeypatch.setattr(star_components, "_star_large", counted)
    a, b = np.random.default_rng(4).integers(0, 3000, (2, 2000))
    assert star_roots(tmp_path, a, b, None, 3000).tolist() == minimum_roots(3000, a, b).tolist()
    assert len(log.read_text()) == 8 * 16


def test_rounds_are_checked():
    with pytest.raises(ValueError, match="rounds is 0 and partitions 16; need at least 1 of each"):
        StarComponents(0)
