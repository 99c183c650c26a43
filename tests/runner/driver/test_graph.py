"""How the driver cuts a shuffle into the inputs of bundles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_pipeline.runner.blocks import BlockInfo, Span
from beam_pipeline.runner.driver.graph import Block, BlockSpan, Shuffle, StageState
from beam_pipeline.runner.shuffle.runs import RunInfo

NOTHING: Any = None


def parts(sizes: Sequence[int], parallel: int, bundle_bytes: int) -> list[tuple[int, int, int]]:
    """(first, last, bytes) of each part of a shuffle whose one run has partitions of these sizes."""
    offsets = [sum(sizes[:n]) for n in range(len(sizes) + 1)]
    shuffle = Shuffle("t", len(sizes), fresh=[Block(RunInfo(1, tuple(offsets)), None, NOTHING, 0)])
    shuffle.cut_into_parts(parallel, bundle_bytes)
    ranges = [(part.keys.first, part.keys.last) for part in shuffle.parts]
    return [(first, last, sum(sizes[first:last])) for first, last in ranges]


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine draws slowly
@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.integers(1, 8), st.integers(1, 200))
def test_every_entry_is_in_one_part_and_no_part_is_far_above_a_bundle(
    sizes: list[int], parallel: int, bundle_bytes: int
) -> None:
    found = parts(sizes, parallel, bundle_bytes)
    assert sum(nbytes for *_, nbytes in found) == sum(sizes)
    ends = [0]
    for first, last, nbytes in found:
        assert first == ends[-1] and last > first and nbytes > 0
        assert nbytes < bundle_bytes + max(sizes)
        ends.append(last)


def test_parts_get_smaller_so_that_two_workers_end_together() -> None:
    assert [nbytes for *_, nbytes in parts([8] * 32, 2, 32)] == [32] * 5 + [24, 16, 16] + [8] * 5


def test_one_worker_is_given_whole_bundles() -> None:
    assert parts([8] * 4, 1, 1000) == [(0, 4, 32)]
    assert [nbytes for *_, nbytes in parts([8] * 8, 1, 24)] == [24, 24, 16]


def test_what_waits_are_spans_encoded_elements_and_shuffles_that_are_cut() -> None:
    stage = StageState(NOTHING, 0)
    assert stage.waiting_bytes() == 0
    block = Block(BlockInfo(100, 4, (25, 50, 75, 100)), None, NOTHING, 0)
    stage.push(BlockSpan(block, "t", Span(25, 100, (50, 75, 100))))
    stage.defer(0.0, "t", b"12345")
    assert stage.waiting_bytes() == 80
    shuffle = stage.shuffles["t"] = Shuffle("t", 4, fresh=[Block(RunInfo(4, (0, 8, 16, 24, 32)), None, NOTHING, 0)])
    assert stage.waiting_bytes() == 80, "what is not all there cannot be taken"
    shuffle.cut_into_parts(2, 8)
    assert stage.waiting_bytes() == 112
    shuffle.parts.popleft()
    assert stage.waiting_bytes() == 104
    stage.next_inputs(0.0, 1, 1000)
    assert stage.waiting_bytes() == 99
