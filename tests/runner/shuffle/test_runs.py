"""Runs: whatever is added comes back under its key and in its partition, in order, also after merges."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipeline.runner.shuffle.runs import Run, RunBuffer, entries_of_key, merge_runs, merged_entries, partition_of

PARTITIONS = 5
pairs = st.lists(st.tuples(st.binary(max_size=3), st.binary(max_size=9)), max_size=60)


def _run(written: Iterable[tuple[bytes, bytes]]) -> Run:
    buffer = RunBuffer(PARTITIONS)
    for key, value in written:
        buffer.add(key, value)
    return buffer.finish()


def _same(item: Any) -> Any:
    return item


def _read(runs: Sequence[Sequence[Run]], first: int = 0, last: int = PARTITIONS, after: bytes | None = None) -> Any:
    return [(p, e.key, e.count, e.values.tobytes()) for p, e in merged_entries(runs, first, last, after, _same)]


@given(st.lists(pairs, max_size=5))
def test_what_several_bundles_wrote_comes_back_by_key(written: list[list[tuple[bytes, bytes]]]) -> None:
    expected: dict[bytes, list[bytes]] = defaultdict(list)
    for bundle in written:
        for key, value in bundle:
            expected[key].append(value)
    entries = _read([[_run(bundle)] for bundle in written])
    assert [(p, k) for p, k, *_ in entries] == sorted((p, k) for p, k, *_ in entries)
    found: dict[bytes, tuple[int, bytes]] = defaultdict(lambda: (0, b""))
    for partition, key, count, values in entries:
        assert partition == partition_of(key, PARTITIONS)
        found[key] = found[key][0] + count, found[key][1] + values
    assert dict(found) == {key: (len(values), b"".join(values)) for key, values in expected.items()}


@given(st.lists(pairs, min_size=1, max_size=5), st.integers(1, 200))
def test_a_merge_changes_nothing_that_is_read(written: list[list[tuple[bytes, bytes]]], block_bytes: int) -> None:
    runs = [[_run(bundle)] for bundle in written]
    merged = list(merge_runs(runs, range(PARTITIONS), block_bytes, _same))
    assert _read([merged]) == _read(runs)
    assert sum(block.info.nbytes for block in merged) == sum(run[0].info.nbytes for run in runs)
    assert all(block.info.nbytes_of(0, PARTITIONS) == block.info.nbytes for block in merged)


@given(pairs, st.integers(0, PARTITIONS - 1), st.binary(max_size=3))
def test_a_range_begins_above_a_key_and_holds_its_partitions(
    written: list[tuple[bytes, bytes]], first: int, after: bytes
) -> None:
    run = _run(written)
    whole = [e for e in _read([[run]]) if e[0] >= first]
    assert _read([[run]], first) == whole
    assert _read([[run]], first, after=after) == [e for e in whole if e[0] > first or e[1] > after]
    assert bool(whole) == (run.info.nbytes_of(first, PARTITIONS) > 0)
    assert sum(len(k) + len(v) for _, k, _, v in whole) <= run.info.nbytes_of(first, PARTITIONS)


@given(st.lists(pairs, min_size=1, max_size=4), st.binary(max_size=3))
def test_one_key_alone_is_what_the_whole_has_of_it(written: list[list[tuple[bytes, bytes]]], key: bytes) -> None:
    runs = [list(merge_runs([[_run(bundle)]], range(PARTITIONS), 40, _same)) for bundle in written]
    partition = partition_of(key, PARTITIONS)
    alone = [e.values.tobytes() for e in entries_of_key(runs, partition, key, _same)]
    assert alone == [values for p, k, _, values in _read(runs) if k == key]


def test_large_values_keep_arrays_of_their_own() -> None:
    large = bytes(300_000)
    run = _run([(b"a", b"1"), (b"b", large), (b"c", b"22"), (b"b", b"3")])
    assert {len(array) for array in run.values} >= {len(large) + 1}
    assert {k: v for _, k, _, v in _read([[run]])} == {b"a": b"1", b"b": large + b"3", b"c": b"22"}


def test_small_values_count_with_what_they_occupy() -> None:
    buffer = RunBuffer(PARTITIONS)
    for _ in range(1000):
        buffer.add(b"key", b"v")
    assert buffer.nbytes > 30_000
    assert 1003 < buffer.finish().info.nbytes < 1100


@pytest.mark.parametrize(("key", "published"), [(b"", 0x2D06800538D394C2), (b"a", 0xE6C632B61E964E1F)])
def test_partitions_follow_the_published_values_of_xxh3(key: bytes, published: int) -> None:
    assert [partition_of(key, n) for n in (1, 5, 32)] == [0, published % 5, published % 32]
