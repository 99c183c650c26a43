"""Bounds that a footer states are those of the right column, and only values outside them are damage."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transforms.sources.lerobot_statistics import Bounds, bounds_of, exceeds, leaves_of

COLUMNS = {
    "image": pa.array([{"bytes": b"a", "path": "z"}] * 4),  # two leaves, so that positions and columns differ
    "vector": pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], None], pa.list_(pa.float32(), 2)),
    "ragged": pa.array([[7], [], [8, 9], [7]]),
    "text": pa.array(["a", "b", "c", "d"]),
    "count": pa.array([1, 2, 3, None]),
}


def test_bounds_of_each_row_group(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table(COLUMNS), path, row_group_size=2)
    meta = pq.ParquetFile(path).metadata
    leaves = leaves_of(meta, list(COLUMNS))
    assert leaves == {"vector": 2, "ragged": 3, "text": 4, "count": 5}
    stated = [bounds_of(meta.row_group(group), leaves, ["count", "vector", "ragged", "text"]) for group in (0, 1)]
    assert stated == [
        [Bounds("count", 1, 2), Bounds("vector", 1.0, 4.0), Bounds("ragged", 7, 7)],
        [Bounds("count", 3, 3), Bounds("vector", 5.0, 6.0), Bounds("ragged", 7, 9)],
    ]
    for bounds in stated[0]:
        assert not exceeds(COLUMNS[bounds.name].slice(0, 2), bounds)
        assert exceeds(COLUMNS[bounds.name], bounds)


@pytest.mark.parametrize(
    ("values", "outside"),
    [
        ([1.0, 2.0], False),
        ([1.0, None, float("nan")], False),
        ([float("nan")], False),
        ([], False),
        ([None], False),
        ([float("nan"), 2.5], True),
        ([0.5], True),
        ([float("-inf")], True),
    ],
)
def test_values_outside_their_bounds(values: list[float | None], outside: bool) -> None:
    bounds = Bounds("x", 1.0, 2.0)
    assert exceeds(pa.array(values, pa.float32()), bounds) is outside
    assert exceeds(pa.array([values], pa.list_(pa.float32(), len(values))), bounds) is outside
