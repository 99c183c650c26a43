"""How columns of different sources become one."""

from __future__ import annotations

from functools import reduce
from random import Random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.evidence import StagedColumn
from transforms.output_schema import agree_on_columns, convert, join_types, output_type, parse_type

PLAIN = ["null", "bool", "int64", "float", "double", "string", "binary", "timestamp[ns]", "timestamp[ns, tz=UTC]"]
TEXTS = st.sampled_from([*PLAIN, "image", "video", "image|video", *(f"list<item: {t}>" for t in PLAIN)])


Claim = tuple[str, tuple[StagedColumn, ...]]


def claim(source: str, *columns: tuple[str, str]) -> Claim:
    return source, tuple(StagedColumn(*column) for column in columns)


def agreed(*claims: Claim) -> dict[str, str]:
    return {c.name: c.type for c in agree_on_columns(claims).columns}


def test_columns_of_two_sources_become_one_schema() -> None:
    a = claim("a", ("z", "float"), ("x", "int64"), ("episode_id", "string"), ("c", "image"), ("s", "float"))
    b = claim("b", ("z", "double"), ("y", "bool"), ("episode_id", "string"), ("c", "video"), ("s", "list<item: float>"))
    expected = {
        "episode_id": "string",
        "c": "image|video",
        "s": "list<item: float>",
        "x": "int64",
        "y": "bool",
        "z": "double",
    }
    assert agreed(a, b) == expected
    assert list(agreed(b, a)) == list(expected)


def test_a_conflict_names_both_sources_and_the_remedy() -> None:
    message = "column 'task' is int64 in source 'b' and string in source 'a'; one folder has one schema: rename"
    for order in ("abc", "cba"):
        kinds = {"a": "string", "b": "int64", "c": "int64"}
        with pytest.raises(ValueError, match=message):
            agreed(*(claim(s, ("task", kinds[s])) for s in order))


@given(st.lists(TEXTS, min_size=1, max_size=5), st.randoms())
def test_the_order_of_joining_does_not_matter(kinds: list[str], shuffle: Random) -> None:
    def join(a: str | None, b: str | None) -> str | None:
        return None if a is None or b is None else join_types(a, b)

    other = list(kinds)
    shuffle.shuffle(other)
    assert reduce(join, kinds) == reduce(join, other)
    assert all(str(parse_type(k)) == k or "image" in k or "video" in k for k in kinds)


COLUMNS = [
    (pa.array([1, None, 3], pa.int8()), "list<item: double>", [[1.0], None, [3.0]]),
    (pa.array([[1, 2], None, [3, 4]], pa.list_(pa.float32(), 2)), "list<item: double>", [[1.0, 2.0], None, [3.0, 4.0]]),
    (pa.array([[], [1]], pa.large_list(pa.uint8())), "list<item: int64>", [[], [1]]),
    (pa.array([True, False, None]), "float", [1.0, 0.0, None]),
    (pa.array(["a", None, "a"]).dictionary_encode(), "string", ["a", None, "a"]),
    (pa.array([{"b": 1, "a": None}, None]), "string", ['{"a": null, "b": 1}', None]),
    (pa.nulls(2), "list<item: float>", [None, None]),
    (pa.array([[], []], pa.list_(pa.float32(), 0)), "list<item: float>", [[], []]),
    (pa.array([b"a"], pa.binary_view()), "binary", [b"a"]),
    (pa.array([[1.5], [2.5], [3.5]], pa.list_(pa.float16(), 1)).slice(1, 1), "list<item: float>", [[2.5]]),
    (pa.array([[[1, 2]], [[3]]]), "list<item: list<item: double>>", [[[1.0, 2.0]], [[3.0]]]),
]


@pytest.mark.parametrize(("column", "kind", "expected"), COLUMNS)
def test_values_survive_conversion(column: pa.Array, kind: str, expected: list[object]) -> None:
    converted = convert(column, parse_type(kind))
    assert converted.type == parse_type(kind)
    assert converted.to_pylist() == expected
    converted.validate(full=True)


def test_a_value_beyond_the_output_type_is_refused() -> None:
    column = pa.array([2**63], pa.uint64())
    with pytest.raises(pa.ArrowInvalid, match="9223372036854775808"):
        convert(column, output_type(column.type))


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Zurich"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_instants_are_nanoseconds_in_one_zone(unit: str, zone: str | None) -> None:
    column = pa.array([1_700_000_000, None], pa.timestamp("s")).cast(pa.timestamp(unit, zone))
    kind = output_type(column.type)
    assert parse_type(str(kind)) == kind == pa.timestamp("ns", zone and "UTC")
    assert convert(column, kind).cast(pa.int64()).to_pylist() == [1_700_000_000 * 10**9, None]
