"""Runs of episodes from the footer's statistics equal those from the rows, and yield to the rows where unsure."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transforms.sources.lerobot_tables import episode_runs

RUNS = ([3, 4, 3], [0, 5, 7, 9])


@pytest.mark.parametrize(
    ("groups", "statistics"),
    [
        ([[3] * 5, [4] * 2, [3] * 2], True),  # a row group an episode
        ([[3] * 2, [3] * 3, [4] * 2, [3] * 2], True),  # an episode over two row groups is one run
        ([[3] * 5 + [4] * 2, [3] * 2], True),  # two episodes in a row group: the rows are read
        ([[3] * 5, [4] * 2, [3] * 2], False),  # nothing stated: the rows are read
    ],
)
def test_runs(tmp_path: Path, groups: list[list[int]], statistics: bool) -> None:
    schema = pa.schema({"x": pa.list_(pa.struct({"episode_index": pa.int64()})), "episode_index": pa.int64()})
    path = tmp_path / "rows.parquet"
    with pq.ParquetWriter(path, schema, write_statistics=statistics) as writer:
        for rows in groups:
            writer.write_table(pa.table({"x": [[{"episode_index": 9}]] * len(rows), "episode_index": rows}, schema))
    found = episode_runs(pq.ParquetFile(path))
    assert found is not None
    assert (found[0].tolist(), found[1].tolist()) == RUNS


def test_a_null_is_no_episode(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"episode_index": pa.array([1, None, 1])}), path)
    found = episode_runs(pq.ParquetFile(path))
    assert found is not None
    assert (found[0].tolist(), found[1].tolist()) == ([1, -1, 1], [0, 1, 2, 3])
