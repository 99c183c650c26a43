"""Rows that a footer states, against pyarrow, and what is said of files that state none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.sources.parquet_footer import stated_rows
from transforms.stage import Unreadable


def table(columns: int, rows: int) -> pa.Table:
    kinds = [
        lambda: pa.array(range(rows), pa.int64()),
        lambda: pa.array([f"t{i}" for i in range(rows)]),
        lambda: pa.array([[float(i)] * 3 for i in range(rows)], pa.list_(pa.float32(), 3)),
        lambda: pa.array(
            [[{"a": i, "b": "x"}] for i in range(rows)], pa.list_(pa.struct({"a": pa.int32(), "b": pa.string()}))
        ),
        lambda: pa.array([i / 2 for i in range(rows)], pa.decimal128(9, 2)) if rows == 0 else pa.array([None] * rows),
    ]
    return pa.table({f"column_{i}": kinds[i % len(kinds)]() for i in range(columns)})


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(0, 70), st.integers(1, 40))
def test_it_is_what_pyarrow_reads(
    tmp_path_factory: pytest.TempPathFactory, columns: int, rows: int, group: int
) -> None:
    path = tmp_path_factory.mktemp("footer") / "a.parquet"
    pq.write_table(table(columns, rows), path, row_group_size=group)
    assert stated_rows(path) == pq.read_metadata(path).num_rows == rows


def test_a_schema_longer_than_the_first_read(tmp_path: Path) -> None:
    wide = pa.table({f"{'long_name_' * 20}{i}": [i, i] for i in range(1000)})
    pq.write_table(wide, tmp_path / "a.parquet")
    assert pq.read_metadata(tmp_path / "a.parquet").serialized_size > 1 << 16
    assert stated_rows(tmp_path / "a.parquet") == 2


@pytest.mark.parametrize(
    ("change", "rule", "words"),
    [
        (lambda data: b"", "truncated", "0 bytes without a Parquet footer"),
        (lambda data: data[:-30], "truncated", "without a Parquet footer; copy it again"),
        (lambda data: b"MOVI" + data[4:-4] + b"xxxx", "wrong_format", "starts with b'MOVI'"),
        (lambda data: data[:-8] + b"\xff\xff\xff\x7fPAR1", "corrupt", "a footer of 2147483647 bytes in a file of"),
        (lambda data: data[:40] + b"\xff" * (len(data) - 48) + data[-8:], "corrupt", "its footer cannot be read"),
        (lambda data: data[:4] + bytes(20) + (12).to_bytes(4, "little") + b"PAR1", "corrupt", "states no num_rows"),
    ],
)
def test_what_states_none(tmp_path: Path, change: Callable[[bytes], bytes], rule: str, words: str) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(table(5, 7), path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(Unreadable, match=words) as caught:
        stated_rows(path)
    assert caught.value.problem.rule == rule and str(path) in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="is absent; restore it") as caught:
        stated_rows(tmp_path / "gone.parquet")
    assert caught.value.problem.rule == "absent"
    (tmp_path / "folder").mkdir()
    with pytest.raises(Unreadable, match="Is a directory"):
        stated_rows(tmp_path / "folder")
