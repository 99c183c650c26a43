"""Vectors on their grid, and blocks and results through their coders."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.handlers.blocks import (
    Embedded,
    EmbeddedCoder,
    EmbeddingFailure,
    FrameBlock,
    FrameBlockCoder,
    TextBlock,
    joined,
    nothing,
    quantised,
)


def embedded(ids: tuple[str, ...], codes: list[list[int]], **more: object) -> Embedded:
    scales = np.full(len(ids), 0.25, np.float32)
    values: dict[str, object] = {"devices": ("cpu",) * len(ids), "model": "m", "revision": "r"} | more
    return Embedded(ids, np.array(codes, np.int8).reshape(len(ids), -1), scales, **values)  # type: ignore[arg-type]


def test_a_scale_is_the_least_power_of_two_that_fits() -> None:
    codes, scales = quantised(np.array([[1.0, -0.5, 0.0], [127.0, 1.2, -1.7], [0, 0, 0]], np.float32))
    assert scales.tolist() == [2**-6, 1.0, 2**-6], "1/127 rounds up to 1/64, 127/127 is 1; nothing needs no scale"
    assert codes.tolist() == [[64, -32, 0], [127, 1, -2], [0, 0, 0]] and codes.dtype == np.int8


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=64))
def test_the_error_of_an_element_is_at_most_half_a_step(values: list[float]) -> None:
    vector = np.array([values], np.float32)
    codes, scales = quantised(vector)
    back = codes.astype(np.float64) * scales[:, None]
    assert np.abs(back - vector).max() <= scales[0] / 2 + 1e-12
    assert np.abs(codes.astype(int)).max() <= 127
    step = np.log2(scales[0])
    assert step == np.round(step), "a power of two, so float32 holds code * scale exactly"


def test_coders_give_back_what_they_took() -> None:
    frames = (np.arange(24, dtype=np.uint8).reshape(2, 4, 3), np.zeros((1, 1, 3), np.uint8))
    block = FrameBlock(("a", "b"), frames, "key")
    back = FrameBlockCoder().decode(FrameBlockCoder().encode(block))
    assert back.ids == block.ids and back.key == "key"
    assert all(np.array_equal(a, b) for a, b in zip(back.frames, frames, strict=True))
    whole = embedded(("a",), [[1, -2]], failures=(EmbeddingFailure("b", "ValueError", "ä"),), notes=("n",), key="k")
    again = EmbeddedCoder().decode(EmbeddedCoder().encode(whole))
    assert again.codes.tolist() == [[1, -2]] and again.scales.tolist() == [0.25] and again.failures == whole.failures
    assert (again.ids, again.devices, again.notes, again.key) == (("a",), ("cpu",), ("n",), "k")
    assert EmbeddedCoder().encode(again) == EmbeddedCoder().encode(whole)
    none = EmbeddedCoder().decode(EmbeddedCoder().encode(nothing("m", "r", whole.failures, "k")))
    assert none.ids == () and none.codes.shape == (0, 0) and none.failures == whole.failures


def test_parts_join_by_id() -> None:
    lost = nothing("m", "r", (EmbeddingFailure("c", "E", "d"),), "")
    whole = joined([embedded(("b",), [[3, 4]]), lost, embedded(("a",), [[1, 2]], notes=("n",))], "k")
    assert whole.ids == ("a", "b") and whole.codes.tolist() == [[1, 2], [3, 4]] and whole.key == "k"
    assert [f.id for f in whole.failures] == ["c"] and whole.notes == ("n",)
    assert joined([lost], "k").codes.shape == (0, 0)
    with pytest.raises(ValueError, match="block 'k' has no part to join"):
        joined([], "k")


def test_some_rows_of_a_block() -> None:
    block = TextBlock(("a", "b", "c"), ("x", "yy", "zzz"), "k")
    assert block.take([2, 0]) == TextBlock(("c", "a"), ("zzz", "x"), "k") and block.nbytes == 6
