"""How often a row group is decoded: once for all episodes in it, and never kept for an episode that has it alone."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transforms.sources.lerobot_tables import EPISODE, OpenTable, as_stored, forget, open_table, slices


def renamed(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.rename_columns(["episode"])


@pytest.fixture
def table(tmp_path: Path) -> OpenTable:
    path = tmp_path / "rows.parquet"
    with pq.ParquetWriter(path, pa.schema({EPISODE: pa.int64()})) as writer:
        for rows in ([0] * 3, [1] * 2 + [2] * 2):
            writer.write_table(pa.table({EPISODE: rows}))
    forget()
    return open_table(str(path))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    groups: list[int] = []
    decode = pq.ParquetFile.read_row_group

    def counting(file: pq.ParquetFile, group: int, **options: object) -> pa.Table:
        groups.append(group)
        return decode(file, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counting)
    return groups


def test_a_shared_row_group_is_decoded_once(table: OpenTable, decoded: list[int]) -> None:
    for episode in (1, 2, 1):
        ((start, stop),) = table.find(episode)
        (part,) = slices(table, start, stop, [EPISODE], renamed)
        assert part.to_pydict() == {"episode": [episode] * 2}
    assert decoded == [1]


def test_a_row_group_of_one_episode_is_not_kept(table: OpenTable, decoded: list[int]) -> None:
    for _ in range(2):
        (part,) = slices(table, 0, 3, [EPISODE], renamed)
        assert part.to_pydict() == {"episode": [0] * 3}
    assert decoded == [0, 0]


def test_images_that_were_hashed_are_read_without_decoding_again(table: OpenTable, decoded: list[int]) -> None:
    assert next(slices(table, 0, 3, [EPISODE], as_stored)).num_rows == 3
    assert next(slices(table, 1, 2, [EPISODE], as_stored)).num_rows == 1
    assert decoded == [0]
