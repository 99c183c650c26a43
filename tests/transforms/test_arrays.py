"""Arrow columns as matrices."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from transforms.arrays import matrix


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
