"""tf.train.Example against protobuf's own parser, packed and unpacked, and on bytes that are none."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.sources.rlds_files import example_class
from transforms.sources.tf_example import decode_varints, encode_example, parse_example
from transforms.stage import Unreadable

EXAMPLE = example_class()
INT64 = st.integers(-(2**63), 2**63 - 1)
FEATURE = st.one_of(
    st.lists(st.binary(max_size=300), max_size=4),
    hnp.arrays(np.float32, st.integers(0, 5), elements=st.floats(width=32)),
    hnp.arrays(np.int64, st.integers(0, 5), elements=INT64),
)


@given(st.dictionaries(st.text(max_size=8), FEATURE, max_size=4))
@settings(max_examples=100, deadline=None)
def test_protobuf_writes_and_reads_the_same(features: dict[str, object]) -> None:
    encoded = encode_example(features)  # type: ignore[arg-type]
    parsed = EXAMPLE.FromString(encoded).features.feature
    again = parse_example(EXAMPLE.FromString(encoded).SerializeToString())
    assert set(parsed) == set(again) == set(features)
    for key, values in features.items():
        if isinstance(values, list):
            assert list(parsed[key].bytes_list.value) == values == [bytes(item) for item in again[key]]
        else:
            kind = "float_list" if values.dtype.kind == "f" else "int64_list"  # type: ignore[attr-defined]
            oracle = np.array(getattr(parsed[key], kind).value, values.dtype)  # type: ignore[attr-defined]
            np.testing.assert_array_equal(oracle, values)
            np.testing.assert_array_equal(again[key], values)
            assert again[key].dtype == values.dtype  # type: ignore[union-attr]


def field(number: int, body: bytes) -> bytes:
    return bytes([number << 3 | 2, len(body)]) + body


def example(kind: int, body: bytes) -> bytes:
    return field(1, field(1, field(1, b"k") + field(2, field(kind, body))))


def test_unpacked_lists() -> None:
    floats = b"".join(b"\x0d" + struct.pack("<f", v) for v in (1.5, -2.0))
    assert parse_example(example(2, floats))["k"].tolist() == [1.5, -2.0]  # type: ignore[union-attr]
    assert list(EXAMPLE.FromString(example(2, floats)).features.feature["k"].float_list.value) == [1.5, -2.0]
    ints = b"\x08\x01" + b"\x08\xac\x02" + b"\x08" + b"\xff" * 9 + b"\x01"
    assert parse_example(example(3, ints))["k"].tolist() == [1, 300, -1]  # type: ignore[union-attr]
    assert list(EXAMPLE.FromString(example(3, ints)).features.feature["k"].int64_list.value) == [1, 300, -1]


def test_floats_share_the_payload() -> None:
    payload = encode_example({"f": np.arange(5, dtype=np.float32)})
    values = parse_example(payload)["f"]
    assert isinstance(values, np.ndarray) and not values.flags.owndata and not values.flags.writeable


def test_only_the_keys_asked_for() -> None:
    payload = encode_example({"a": [b"x"], "b": np.arange(3)})
    assert list(parse_example(payload, frozenset(["b"]))) == ["b"]


def test_varints_by_hand() -> None:
    # 300 = 0b10_0101100 -> 0xac 0x02 (protobuf's encoding guide)
    assert decode_varints(b"\x96\x01\xac\x02\x00", 0, 5).tolist() == [150, 300, 0]
    with pytest.raises(ValueError, match="cut at byte 2"):
        decode_varints(b"\x01\x96", 0, 2)
    with pytest.raises(ValueError, match="varint of 11 bytes"):
        decode_varints(b"\xff" * 10 + b"\x01", 0, 11)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"\x0a\x7f", "field of 127 bytes at byte 2 passes its message's end at 2"),
        (b"\x0b", "wire type 3"),
        (example(2, b"\x0a\x03abc"), "values take 4"),
        (example(3, b"\x0a\x01\x80"), "varint cut"),
        (example(1, b"\x0a\x05a"), "value of 5 bytes"),
        (example(1, b"\x12\x01a"), "tag 0x12 in a BytesList"),
        (example(2, b"\x0d\x00\x00\x00\x00\x0a"), "mixes tags"),
        (example(3, b"\x08\x01\x10\x01"), "mixes tags"),
        (b"\x80" * 12, "varint of over 10 bytes"),
        (b"\x0a", "index out of range"),
    ],
)
def test_bytes_that_are_no_example(payload: bytes, said: str) -> None:
    with pytest.raises(Unreadable, match=r"no tf\.train\.Example") as info:
        parse_example(payload)
    assert said in str(info.value)
    assert info.value.problem.rule == "wrong_format"


@given(st.binary(max_size=80))
@settings(max_examples=200, deadline=None)
def test_no_bytes_raise_anything_else(payload: bytes) -> None:
    try:
        parse_example(payload)
    except Unreadable as error:
        assert error.problem.rule == "wrong_format"


def test_an_array_of_text_is_refused() -> None:
    with pytest.raises(TypeError, match="array of <U1"):
        encode_example({"k": np.array(["a"])})
