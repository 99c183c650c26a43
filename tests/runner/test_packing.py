"""Packing: bytes come back as they were, and only what shrinks is compressed."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from beam_pipeline.runner.packing import PackedArray, pack, unpack


@given(st.binary(max_size=64), st.integers(0, 3000))
def test_bytes_come_back(pattern: bytes, times: int) -> None:
    packed = pack(pattern * times)
    assert len(packed) == len(pattern) * times
    assert unpack(packed).tobytes() == pattern * times


def test_text_is_compressed_noise_and_little_things_are_not() -> None:
    text = pack(b'{"check": "conventions.gripper", "value": null}' * 1000)
    assert isinstance(text, PackedArray) and len(text.data) < len(text) / 10
    assert not isinstance(pack(np.random.default_rng(0).bytes(100_000)), PackedArray)
    assert not isinstance(pack(bytes(1000)), PackedArray)


def test_an_array_that_is_a_view_is_packed_too() -> None:
    array = np.arange(200_000, dtype=np.uint8)
    view = pack(array[1000:150_000])
    assert isinstance(view, PackedArray)
    assert np.array_equal(unpack(view), array[1000:150_000])
