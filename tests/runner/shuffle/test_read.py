"""The reduce side: elements that Beam's own coders decode, key by key, from any place, hot keys from the state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from apache_beam import coders
from apache_beam.coders import coder_impl
from apache_beam.transforms import core, trigger, window
from apache_beam.utils.windowed_value import WindowedValue
from hypothesis import given
from hypothesis import strategies as st

from beam_pipeline.runner.plan import StageInput
from beam_pipeline.runner.shuffle.read import KeyRange, ShuffleReader
from beam_pipeline.runner.shuffle.runs import Run, RunBuffer

PARTITIONS = 3
KEYS = coders.StrUtf8Coder()
VALUES = coders.BytesCoder()
WINDOWS = coders.coders.GlobalWindowCoder()
SOURCES: dict[bytes, Callable[[], Iterator[bytes]]] = {}


def _read_state(token: bytes, impl: Any) -> list[Any]:
    found = []
    for chunk in SOURCES[token]():
        stream = coder_impl.create_InputStream(chunk)
        while stream.size():
            found.append(impl.decode_from_stream(stream, True))
    return found


GROUPED = coders.WindowedValueCoder(
    coders.TupleCoder([KEYS, coders.coders.StateBackedIterableCoder(VALUES, read_state=_read_state)]), WINDOWS
)
PAIRS = coders.WindowedValueCoder(coders.TupleCoder([KEYS, VALUES]), WINDOWS)


def _context(**windowings: Any) -> Any:
    return SimpleNamespace(coders={"grouped": GROUPED, "pairs": PAIRS}, windowing_strategies=windowings)


def _reader(kind: str = "group", windowing_id: str = "", context: Any = None) -> ShuffleReader:
    stage_input = StageInput("Read", "group:x", kind, "grouped", "pairs", windowing_id)
    return ShuffleReader(stage_input, context or _context(), SOURCES.__setitem__, lambda block: block)


def _run(pairs: list[tuple[str, bytes]], encode: Callable[[bytes], bytes]) -> Run:
    buffer = RunBuffer(PARTITIONS)
    for key, value in pairs:
        buffer.add(KEYS.get_impl().encode_nested(key), encode(value))
    return buffer.finish()


def _values_run(pairs: list[tuple[str, bytes]]) -> Run:
    return _run(pairs, VALUES.get_impl().encode_nested)


def _decode(data: bytes, coder: Any = GROUPED) -> list[Any]:
    stream, impl = coder_impl.create_InputStream(data), coder.get_impl()
    found = []
    while stream.size():
        found.append(impl.decode_from_stream(stream, True))
    return found


pairs = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.binary(max_size=5)), max_size=40)


@given(st.lists(pairs, max_size=4))
def test_groups_hold_every_value_once_in_the_global_window(written: list[list[tuple[str, bytes]]]) -> None:
    expected: dict[str, list[bytes]] = defaultdict(list)
    for bundle in written:
        for key, value in bundle:
            expected[key].append(value)
    streams = [[_values_run(bundle)] for bundle in written]
    groups = [g for piece in _reader().pieces(streams, KeyRange(0, PARTITIONS)) for g in _decode(piece.data)]
    assert {key: list(values) for key, values in (g.value for g in groups)} == expected
    assert len(groups) == len(expected)
    assert all(g.windows == (window.GlobalWindow(),) for g in groups)
    end = window.GlobalWindow().max_timestamp()
    assert all(0 <= end.micros - g.timestamp.micros < 1000 and g.pane_info.is_last for g in groups)


@given(st.lists(pairs, min_size=1, max_size=3), st.integers(0, 8))
def test_reading_may_stop_after_any_piece_and_go_on_there(written: list[list[tuple[str, bytes]]], stop: int) -> None:
    streams = [[_values_run(bundle)] for bundle in written]
    whole = b"".join(p.data for p in _reader().pieces(streams, KeyRange(0, PARTITIONS)))
    done = b""
    for number, piece in enumerate(_reader().pieces(streams, KeyRange(0, PARTITIONS))):
        done += piece.data
        assert piece.key is not None
        if number == stop:
            rest = _reader().pieces(streams, KeyRange(piece.partition, PARTITIONS, piece.key))
            assert done + b"".join(p.data for p in rest) == whole
            again = _reader().pieces(streams, KeyRange(0, piece.partition + 1, upto_key=piece.key))
            assert b"".join(p.data for p in again) == done
            return
    assert done == whole


@pytest.mark.parametrize("size", [3, 20])
def test_a_hot_key_is_read_from_the_state_in_chunks_and_more_than_once(size: int) -> None:
    streams = [[_values_run([("hot", bytes([n]) * 1_000_000), ("cold", b"x")])] for n in range(size)]
    pieces = list(_reader().pieces(streams, KeyRange(0, PARTITIONS)))
    groups = {g.value[0]: g.value[1] for p in pieces for g in _decode(p.data)}
    assert sum(len(p.data) for p in pieces) < 1000
    assert [v[0] for v in groups["hot"]] == list(range(size)) == [v[0] for v in groups["hot"]]
    assert list(groups["cold"]) == [b"x"] * size
    (token,) = [t for t in SOURCES if b"hot" in t]
    assert max(len(chunk) for chunk in SOURCES[token]()) < 1_000_010


def test_elements_of_a_stateful_stage_stay_whole_and_a_key_ends_with_its_last() -> None:
    written = [
        window.GlobalWindows.windowed_value((key, value)) for key, value in [("a", b"1"), ("b", b"2"), ("a", b"3")]
    ]
    buffer = RunBuffer(1)
    for element in written:
        buffer.add(KEYS.get_impl().encode_nested(element.value[0]), PAIRS.get_impl().encode_nested(element))
    pieces = list(_reader("keyed").pieces([[buffer.finish()]], KeyRange(0, 1)))
    assert [e.value for p in pieces for e in _decode(p.data, PAIRS)] == [("a", b"1"), ("a", b"3"), ("b", b"2")]
    assert pieces[-1].key == KEYS.get_impl().encode_nested("b")


@pytest.mark.parametrize("size", [1000, 100_000])
def test_pieces_of_a_large_stateful_key_name_no_key_before_its_last(size: int) -> None:
    buffer = RunBuffer(1)
    for number in range(5):
        element = window.GlobalWindows.windowed_value(("a", bytes([number]) * size))
        buffer.add(KEYS.get_impl().encode_nested("a"), PAIRS.get_impl().encode_nested(element))
    pieces = list(_reader("keyed").pieces([[buffer.finish()]], KeyRange(0, 1)))
    assert [p.key is None for p in pieces] == [size > 1000] * (len(pieces) - 1) + [False]


def test_windows_are_grouped_apart_with_beams_own_triggers() -> None:
    fixed = core.Windowing(window.FixedWindows(10), trigger.DefaultTrigger())
    before = coders.WindowedValueCoder(coders.TupleCoder([KEYS, VALUES]), coders.coders.IntervalWindowCoder())
    after = coders.WindowedValueCoder(
        coders.TupleCoder([KEYS, coders.IterableCoder(VALUES)]), coders.coders.IntervalWindowCoder()
    )
    context = SimpleNamespace(coders={"grouped": after, "pairs": before}, windowing_strategies={"fixed": fixed})
    entry = coders.WindowedValueCoder(VALUES, coders.coders.IntervalWindowCoder()).get_impl()
    buffer = RunBuffer(1)
    for time_s, value in [(1, b"1"), (12, b"2"), (3, b"3")]:
        start = time_s // 10 * 10
        windows = [window.IntervalWindow(start, start + 10)]
        element = WindowedValue(value, time_s, windows)
        buffer.add(KEYS.get_impl().encode_nested("a"), entry.encode_nested(element))
    (piece,) = _reader("group", "fixed", context).pieces([[buffer.finish()]], KeyRange(0, 1))
    groups = {g.windows[0].start.seconds(): g.value for g in _decode(piece.data, after)}
    assert groups == {0: ("a", [b"1", b"3"]), 10: ("a", [b"2"])}
