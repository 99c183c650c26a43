"""Message layouts against rosbags' serialisers: both byte orders, both wires, and messages of many layouts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rosbags.typesys import Stores, get_typestore

from tests.bag_files import DEFINITIONS, Message, Serializer, decoded, header
from transforms.sources.ros_definition import UnknownDefinition, known_definition, parse_definition
from transforms.sources.ros_topics import field_values, header_stamps, in_log_order, texts
from transforms.sources.ros_wire import Decoder, Part, Wire, merged

ROS2, ROS1 = get_typestore(Stores.ROS2_HUMBLE), get_typestore(Stores.ROS1_NOETIC)
JOINT_STATE = "sensor_msgs/JointState"


def joint_state(store: Any, stamp_ns: int, names: list[str], position: list[float], effort: list[float]) -> Any:
    types = store.types
    time = types["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    extra = {"seq": 7} if store is ROS1 else {}
    head = types["std_msgs/msg/Header"](stamp=time, frame_id="odd", **extra)
    arrays = (np.array(values, np.float64) for values in (position, [], effort))
    return types["sensor_msgs/msg/JointState"](head, names, *arrays)


def decode(
    messages: list[bytes], definition: Any, wire: Wire, batch: int = 1 << 30
) -> tuple[list[Part], list[int], str]:
    decoder = Decoder(definition, wire)
    parts: list[Part] = []
    bad: list[int] = []
    why = ""
    for first in range(0, len(messages), batch):
        some = messages[first : first + batch]
        sizes = np.array([len(m) for m in some], np.int64)
        found, wrong, said = decoder.decode(
            np.frombuffer(b"".join(some), np.uint8), np.cumsum(sizes) - sizes, sizes, first
        )
        parts, bad, why = parts + found, bad + wrong.tolist(), why or said
    return merged(parts), bad, why


def serialised(store: Any, message: Any, little: bool) -> bytes:
    name = "sensor_msgs/msg/JointState"
    if store is ROS1:
        return bytes(store.serialize_ros1(message, name))
    return bytes(store.serialize_cdr(message, name, little_endian=little))


rows = st.lists(
    st.tuples(
        st.integers(0, 2**31 - 1).map(lambda s: s * 10**9 + 123),
        st.lists(st.text("ab_é", max_size=5), max_size=3),
        st.lists(st.floats(allow_nan=False), max_size=3),
        st.lists(st.floats(allow_nan=False), max_size=2),
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize(("store", "little"), [(ROS2, True), (ROS2, False), (ROS1, True)])
@given(rows=rows, batch=st.integers(1, 5))
def test_any_messages_are_as_rosbags_wrote_them(store: Any, little: bool, rows: list[Any], batch: int) -> None:
    text, _ = store.generate_msgdef("sensor_msgs/msg/JointState", ros_version=1 if store is ROS1 else 2)
    definition = parse_definition("sensor_msgs/msg/JointState", text)
    messages = [serialised(store, joint_state(store, *row), little) for row in rows]
    parts, bad, _ = decode(messages, definition, "ros1" if store is ROS1 else "cdr", batch)
    assert not bad
    read: dict[int, tuple[Any, ...]] = {}
    for part in parts:
        assert not part.spare.any()
        for at, row in enumerate(part.rows.tolist()):
            stamp = int(part.columns["header.stamp.sec"][at]) * 10**9 + int(part.columns["header.stamp.nanosec"][at])
            values = [part.columns[name][at].tolist() for name in ("position", "effort")]
            read[row] = (stamp, list(part.labels["name"]), *values)
    assert [read[i] for i in range(len(rows))] == [(s, list(n), p, e) for s, n, p, e in rows]


def test_a_hundred_layouts_of_one_topic() -> None:
    said = [f"say {'x' * (i % 100)}" for i in range(300)]
    serialize = Serializer()
    messages = [serialize(Message("/s", "std_msgs/msg/String", 0, {"data": text})) for text in said]
    parts, bad, _ = decode(messages, parse_definition("std_msgs/msg/String", DEFINITIONS["std_msgs/msg/String"]), "cdr")
    assert not bad
    topic = in_log_order("/s", "std_msgs/String", np.arange(300)[::-1].copy(), parts)
    assert texts(topic, "data") == said[::-1]
    assert header_stamps(topic) is None


def test_plain_xcdr2_aligns_to_four_bytes() -> None:
    body = bytes(12) + (0).to_bytes(4, "little") + (1).to_bytes(4, "little") + np.array([0.5]).tobytes() + bytes(8)
    message = b"\0\x07\0\0" + (3).to_bytes(4, "little") + (4).to_bytes(4, "little") + (1).to_bytes(4, "little") + b"\0"
    message += bytes(3) + body[12:]
    parts, bad, why = decode([message], known_definition(JOINT_STATE), "cdr")
    assert not bad, why
    assert parts[0].columns["position"].tolist() == [[0.5]]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0\1", "the encapsulation 0001 is no plain CDR"),
        (b"\0\x09\0\0" + bytes(40), "the encapsulation 00090000 is no plain CDR"),
        (b"\0\1\0\0" + bytes(8) + b"\xff" * 8, "header.frame_id needs"),
        (b"\0\1\0\0" + bytes(12) + b"\xff" * 8, "name needs"),
    ],
)
def test_what_is_no_message_says_why(data: bytes, words: str) -> None:
    parts, bad, why = decode([data], known_definition(JOINT_STATE), "cdr")
    assert not parts and bad == [0] and words in why


@pytest.mark.parametrize("kind", sorted(DEFINITIONS))
def test_standard_types_are_known_without_their_text(kind: str) -> None:
    read = parse_definition(kind, DEFINITIONS[kind])
    if kind == "std_msgs/msg/Float64MultiArray":
        with pytest.raises(UnknownDefinition, match="holds no definition of it and it is no standard type"):
            parse_definition(kind, "")
    else:
        known = parse_definition(kind, "")
        assert {name: known.types[name] for name in read.types} == dict(read.types)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("float64 x\nwhat?", "a/B: the line 'what\\?' is no field"),
        ("c/D inner", "a/B: its type c/D is not defined"),
        ("B inner", "a/B: its type a/B holds itself"),
    ],
)
def test_definitions_that_cannot_be_read(text: str, words: str) -> None:
    with pytest.raises(UnknownDefinition, match=words):
        parse_definition("a/msg/B", text)


def test_constants_bounds_and_defaults_are_no_trouble() -> None:
    text = 'uint8 KIND=3\nstring<=8 name "none"\nfloat64[<=4] values # at most four\nint32[2] pair\nbool on true\n'
    fields = parse_definition("a/B", text).fields
    assert [(f.name, f.kind, f.count) for f in fields] == [
        ("name", "string", None),
        ("values", "float64", -1),
        ("pair", "int32", 2),
        ("on", "bool", None),
    ]


def test_a_field_of_chosen_joints_from_mixed_layouts() -> None:
    content = [(["a", "b"], [1.0, 2.0]), (["b", "a"], [20.0, 10.0]), (["a"], [100.0]), (["a", "b"], [])]
    kind = "sensor_msgs/msg/JointState"
    serialize = Serializer()
    messages = [
        Message("/j", kind, i, {"header": header(i), "name": n, "position": p, "velocity": [], "effort": []})
        for i, (n, p) in enumerate(content)
    ]
    data = [serialize(m) for m in messages]
    assert decoded(kind, data[1]).position == [20.0, 10.0]
    topic = in_log_order("/j", JOINT_STATE, np.arange(4), decode(data, known_definition(JOINT_STATE), "cdr")[0])
    values = field_values(topic, "position")
    assert values is not None and (values.names, values.other_names, values.lacking) == (("a", "b"), 2, 1)
    nan = np.nan
    np.testing.assert_array_equal(values.array, [[1, 2], [10, 20], [100, nan], [nan, nan]])
    chosen = field_values(topic, "position", ("b",))
    assert chosen is not None and chosen.other_names == 0
    np.testing.assert_array_equal(chosen.array[:, 0], [2, 20, nan, nan])
    assert field_values(topic, "velocity") is None
