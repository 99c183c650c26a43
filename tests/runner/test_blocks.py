"""Blocks: whatever is written comes back whole, wherever a block is cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from beam_pipeline.runner.blocks import BlockBuffer, Span, after, pieces, take


def _written(sizes: list[int]) -> tuple[BlockBuffer, list[bytes]]:
    buffer = BlockBuffer()
    elements = [bytes([i % 251]) * size for i, size in enumerate(sizes)]
    for element in elements:
        buffer.write(element)
        buffer.maybe_flush()
    return buffer, elements


@given(st.lists(st.integers(1, 40), max_size=300), st.integers(1, 4000))
def test_a_block_cut_anywhere_still_tiles_its_elements(sizes: list[int], step: int) -> None:
    buffer, elements = _written(sizes)
    info, payload = buffer.finish()
    assert (info.nbytes, info.elements) == (sum(sizes), len(sizes))
    ends = {sum(sizes[: i + 1]) for i in range(len(sizes))}
    assert set(info.cuts) <= ends
    rest: Span | None = Span(0, info.nbytes, info.cuts) if info.nbytes else None
    read = b""
    while rest:
        front, rest = take(rest, step)
        assert front.stop in ends
        for position, piece in pieces(payload, front):
            read += piece
            assert position == len(read)
    assert read == b"".join(elements)


def test_a_few_elements_can_be_dealt_out_one_by_one() -> None:
    info, payload = _written([5, 1, 7])[0].finish()
    assert info.cuts == (5, 6, 13)
    front, rest = take(Span(0, 13, info.cuts), 1)
    assert (front.stop, rest) == (5, Span(5, 13, (6, 13)))
    assert [len(p) for _, p in pieces(payload, Span(0, 13, info.cuts))] == [5, 1, 7]


def test_many_elements_keep_few_cuts() -> None:
    info, _ = _written([3] * 100_000)[0].finish()
    assert len(info.cuts) <= 4096
    assert info.cuts[-1] == 300_000


def test_large_blocks_are_several_arrays_that_end_between_elements() -> None:
    info, payload = _written([1 << 20] * 11)[0].finish()
    assert [len(a) for a in payload] == [5 << 20, 5 << 20, 1 << 20]
    assert info.cuts[-1] == 11 << 20


def test_what_is_left_after_a_position_keeps_its_cuts() -> None:
    assert after(Span(0, 10, (4, 8, 10)), 4) == Span(4, 10, (8, 10))
    assert after(Span(0, 10, (4, 8, 10)), 10) is None
