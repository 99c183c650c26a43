"""An index answers with the values of every window and key, whatever the chunks that it was made of."""

from __future__ import annotations

import pickle
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from apache_beam import coders
from apache_beam.transforms.window import GlobalWindow, IntervalWindow
from apache_beam.utils.windowed_value import WindowedValue
from hypothesis import given
from hypothesis import strategies as st

from beam_pipeline.runner.beam_internals import common_urns
from beam_pipeline.runner.worker import side_inputs
from beam_pipeline.runner.worker.side_inputs import SideInputReader, build_side_input_index

ITERABLE = common_urns.side_inputs.ITERABLE.urn
MULTIMAP = common_urns.side_inputs.MULTIMAP.urn
WINDOWS = [IntervalWindow(0, 10), IntervalWindow(5, 15), IntervalWindow(10, 20)]
WINDOW = coders.coders.IntervalWindowCoder()
VALUE = coders.StrUtf8Coder()
# what a user's own coder becomes in a stage: its encoding behind its length
KEY = coders.coders.LengthPrefixCoder(coders.FastPrimitivesCoder())
PAIR = coders.TupleCoder([KEY, VALUE])
GLOBAL_STRINGS = coders.WindowedValueCoder(VALUE, coders.coders.GlobalWindowCoder())

_Element = tuple[Any, list[IntervalWindow]]


def _encoded(elements: list[_Element], coder: Any) -> list[bytes]:
    impl = coders.WindowedValueCoder(coder, WINDOW).get_impl()
    return [impl.encode_nested(WindowedValue(value, 3, windows)) for value, windows in elements]


def _reader(elements: list[_Element], coder: Any, urn: str, per_chunk: int = 3) -> SideInputReader:
    encoded = _encoded(elements, coder)
    chunks = (b"".join(encoded[i : i + per_chunk]) for i in range(0, len(encoded), per_chunk))
    index = build_side_input_index(chunks, coders.WindowedValueCoder(coder, WINDOW), urn)
    return SideInputReader(pickle.loads(pickle.dumps(index, protocol=5)))


def _decoded(chunks: Any, coder: Any) -> list[Any]:
    return [value for chunk in chunks for value in coder.get_impl().decode_all(chunk)]


_IN_WINDOWS = st.lists(st.sampled_from(WINDOWS), min_size=1, max_size=3, unique=True)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_inputs, "_CHUNK_BYTES", 16)


@given(st.lists(st.tuples(st.text(max_size=9), _IN_WINDOWS), max_size=40), st.integers(1, 7))
def test_an_iterable_has_the_values_of_each_window_in_order(elements: list[_Element], per_chunk: int) -> None:
    reader = _reader(elements, VALUE, ITERABLE, per_chunk)
    for window in WINDOWS:
        expected = [value for value, windows in elements if window in windows]
        place = WINDOW.encode(window)
        assert _decoded(reader.iterable(place), VALUE) == expected
        assert reader.nbytes(place) == sum(len(VALUE.get_impl().encode_nested(value)) for value in expected)


_PAIRS = st.tuples(st.integers(-2, 5) | st.text(max_size=2), st.text(max_size=9))


@given(st.lists(st.tuples(_PAIRS, _IN_WINDOWS), max_size=40), st.integers(1, 7))
def test_a_multimap_has_the_values_of_each_window_and_key(elements: list[_Element], per_chunk: int) -> None:
    reader = _reader(elements, PAIR, MULTIMAP, per_chunk)
    for window in WINDOWS:
        place = WINDOW.encode(window)
        expected: dict[Any, list[str]] = defaultdict(list)
        for (key, value), windows in elements:
            if window in windows:
                expected[key].append(value)
        for key, values in expected.items():
            encoded = KEY.get_impl().encode_nested(key)
            assert _decoded(reader.values(place, encoded), VALUE) == values
            assert reader.nbytes(place, encoded) == sum(len(VALUE.get_impl().encode_nested(v)) for v in values)
        assert sorted(_decoded(reader.keys(place), KEY), key=repr) == sorted(expected, key=repr)
        items = coders.TupleCoder([KEY, coders.IterableCoder(VALUE)])
        assert {key: list(values) for key, values in _decoded(reader.items(place), items)} == expected


def test_unknown_windows_and_keys_are_empty() -> None:
    reader = _reader([(("a", "x"), [WINDOWS[0]])], PAIR, MULTIMAP)
    known, unknown = WINDOW.encode(WINDOWS[0]), WINDOW.encode(WINDOWS[1])
    encoded = KEY.get_impl().encode_nested("b")
    assert list(reader.values(known, encoded)) == list(reader.values(unknown, encoded)) == []
    assert list(reader.iterable(unknown)) == list(reader.keys(unknown)) == list(reader.items(unknown)) == []
    assert reader.nbytes(known, encoded) == reader.nbytes(unknown) == 0


def test_keys_of_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_inputs, "_hash", lambda key: len(key) % 2)
    elements: list[_Element] = [((f"key{i}", f"value{i}"), [WINDOWS[0]]) for i in range(20)]
    reader = _reader(elements, PAIR, MULTIMAP)
    for i in range(20):
        key = KEY.get_impl().encode_nested(f"key{i}")
        assert _decoded(reader.values(WINDOW.encode(WINDOWS[0]), key), VALUE) == [f"value{i}"]
    assert list(reader.values(WINDOW.encode(WINDOWS[0]), KEY.get_impl().encode_nested("key77"))) == []


def test_a_value_behind_its_length_is_not_decoded() -> None:
    impl = coders.WindowedValueCoder(coders.coders.LengthPrefixCoder(coders.BytesCoder()), WINDOW).get_impl()
    data = impl.encode_nested(WindowedValue(b"no pickle", 3, [WINDOWS[0]]))
    pickled = coders.WindowedValueCoder(coders.coders.LengthPrefixCoder(coders.PickleCoder()), WINDOW)
    reader = SideInputReader(build_side_input_index([data], pickled, ITERABLE))
    assert b"".join(reader.iterable(WINDOW.encode(WINDOWS[0]))) == b"\x09no pickle"


def test_large_side_inputs_come_in_chunks_and_their_arrays_leave_pickle_out_of_band(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(side_inputs, "_CHUNK_BYTES", 1 << 20)
    impl = GLOBAL_STRINGS.get_impl()
    elements = [chr(97 + i) * 100_000 for i in range(25)]
    chunks = [impl.encode_nested(WindowedValue(element, 0, [GlobalWindow()])) for element in elements]
    index = build_side_input_index(chunks, GLOBAL_STRINGS, ITERABLE)
    buffers: list[pickle.PickleBuffer] = []
    assert len(pickle.dumps(index, protocol=5, buffer_callback=buffers.append)) < 4_000
    answer = list(SideInputReader(index).iterable(b""))
    assert [len(chunk) for chunk in answer] == [1_100_033, 1_100_033, 300_009]
    assert _decoded(answer, VALUE) == elements
    assert all(not chunk.flags.owndata for chunk in index.chunks)


def test_nothing_at_all_is_an_index_too() -> None:
    reader = SideInputReader(build_side_input_index([], GLOBAL_STRINGS, ITERABLE))
    assert list(reader.iterable(b"")) == []
    assert reader.nbytes(b"") == 0


def test_another_access_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'beam:side_input:magic:v1'; known: .*iterable.*multimap"):
        build_side_input_index([], GLOBAL_STRINGS, "beam:side_input:magic:v1")


def test_a_multimap_of_elements_that_are_no_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"StrUtf8Coder, not one of pairs: .*with_output_types\(tuple\[K, V\]\)"):
        build_side_input_index([], GLOBAL_STRINGS, MULTIMAP)


def test_values_without_a_byte_keep_their_count_under_a_key() -> None:
    coder = coders.TupleCoder([VALUE, coders.SingletonCoder(None)])
    reader = _reader([(("a", None), [WINDOWS[0]])] * 3, coder, MULTIMAP)
    items = coders.TupleCoder([VALUE, coders.IterableCoder(coders.SingletonCoder(None))])
    [(key, values)] = _decoded(reader.items(WINDOW.encode(WINDOWS[0])), items)
    assert (key, list(values)) == ("a", [None] * 3)
    assert isinstance(reader._index.counts, np.ndarray)
