"""Steps taken out of a published part: the right rows, under another agreed schema only where nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from transforms.output_files import OUT
from transforms.output_schema import CAMERA_TYPES, IMAGE, MIXED, VIDEO, list_of
from transforms.part_writer import Format, SinkParams, open_part
from transforms.published_rows import can_carry, published_rows, read_schema

TABLE = pa.table(
    {
        "episode_id": ["a"] * 3 + ["b"] * 4 + ["c"] * 2,
        "x": pa.array([0.5, None, 2, 3, 4, 5, 6, 7, 8], pa.float64()),
        "y": pa.array([[1], None, [], [3], [4], [5], [6], [7], [8]], list_of(pa.float64())),
        "eye": pa.array([{"bytes": b"x", "path": None, "timestamp": None}] * 8 + [None], CAMERA_TYPES[MIXED]),
        "gone": pa.nulls(9, pa.int64()),
    }
)


@pytest.mark.parametrize("format", ["parquet", "arrow"])
def test_rows_of_some_episodes_under_a_narrower_schema(tmp_path: Path, format: Format) -> None:
    params = SinkParams(format=format, row_group_rows=2)
    with open_part(tmp_path, f"p.{format}", TABLE.schema, params, "s") as (writer, _):
        writer.write(TABLE.combine_chunks().to_batches()[0])
    path = tmp_path / OUT / f"p.{format}"
    wanted = pa.schema(
        [
            ("episode_id", pa.string()),
            ("x", pa.float32()),
            ("y", list_of(pa.float32())),
            ("eye", CAMERA_TYPES[IMAGE]),
            ("new", pa.string()),
        ]
    )
    assert read_schema(path).equals(TABLE.schema) and can_carry(read_schema(path), wanted)
    rows = pa.Table.from_batches(published_rows(path, ["a", "c"], wanted), wanted)
    assert rows.to_pylist() == [
        {"episode_id": name, "x": x, "y": y, "eye": eye, "new": None}
        for name, x, y, eye in [
            ("a", 0.5, [1.0], {"bytes": b"x", "path": None}),
            ("a", None, None, {"bytes": b"x", "path": None}),
            ("a", 2.0, [], {"bytes": b"x", "path": None}),
            ("c", 7.0, [7.0], {"bytes": b"x", "path": None}),
            ("c", 8.0, [8.0], None),
        ]
    ]


@pytest.mark.parametrize(
    ("old", "new", "carried"),
    [
        (pa.float64(), pa.float32(), True),  # it was widened from this
        (pa.float32(), pa.float64(), True),
        (pa.int64(), pa.float64(), True),
        (pa.float64(), pa.int64(), False),  # beyond 2^53 it has lost digits
        (pa.int64(), pa.bool_(), True),
        (pa.float32(), list_of(pa.float64()), True),
        (list_of(pa.float32()), pa.float32(), False),
        (pa.string(), pa.int64(), False),
        (pa.null(), pa.string(), True),
        (CAMERA_TYPES[IMAGE], CAMERA_TYPES[MIXED], True),
        (CAMERA_TYPES[VIDEO], pa.string(), False),
    ],
)
def test_what_can_be_carried(old: pa.DataType, new: pa.DataType, carried: bool) -> None:
    assert can_carry(pa.schema([("v", old), ("w", pa.string())]), pa.schema([("v", new)])) is carried
