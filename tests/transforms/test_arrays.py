"""Arrow columns as matrices."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.arrays import list_values, matrix


@pytest.mark.parametrize("kind", [pa.list_(pa.float32(), 0), pa.list_(pa.float32()), pa.large_list(pa.int8())])
def test_vectors_without_elements_are_no_columns(kind: pa.DataType) -> None:
    values = matrix(pa.array([[], None, []], kind))
    assert values is not None and values.shape == (3, 0)


def test_nulls_are_nan_and_flags_are_numbers() -> None:
    values = matrix(pa.array([[True, False], None], pa.list_(pa.bool_(), 2)))
    assert values is not None
    np.testing.assert_array_equal(values, [[1, 0], [np.nan, np.nan]])
    assert matrix(pa.array([[1], [1, 2]])) is None
    assert matrix(pa.array(["a"])) is None


@given(
    st.lists(st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9))),
    st.integers(0, 9),
    st.integers(0, 9),
    st.sampled_from([pa.list_(pa.int64(), 2), pa.list_(pa.int64())]),
)
def test_values_of_lists_are_those_of_the_slice(
    rows: list[tuple[int, int] | None], start: int, count: int, kind: pa.DataType
) -> None:
    part = pa.array(rows, kind).slice(start, count)
    assert list_values(part).to_pylist() == [v for row in rows[start : start + count] if row for v in row]
