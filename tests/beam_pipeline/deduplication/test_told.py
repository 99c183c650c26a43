"""What `dedup` says when it is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.beam_pipeline.deduplication.test_dedup import dedup, write

TEXT = "one two three four five six"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (
            {"a": TEXT, "b": TEXT, "c": "other words"},
            ["3 documents: 2 kept, 1 exact copies, 0 near copies", "1 clusters, the largest of 2; 1 verified pairs"],
        ),
        (
            {"a": "", "b": None},
            [
                "2 documents: 2 kept, 0 exact copies, 0 near copies",
                "0 clusters, the largest of 0; 0 verified pairs; 2 documents without text",
            ],
        ),
    ],
)
def test_counts_and_files_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: dict[str, str | None], told: list[str]
) -> None:
    out = tmp_path / "out"
    dedup(out, write(tmp_path / "in.parquet", rows))
    tables = [f"{name}: {out}/{name}.parquet" for name in ("kept", "duplicates", "clusters", "edges")]
    assert capsys.readouterr().out.splitlines() == [*told, *tables]


def test_candidates_and_sources_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "in.parquet", {"a": TEXT, "b": f"{TEXT.upper()}!", "c": None}, source=["x", "y", "y"])
    dedup(tmp_path / "out", path, flags=("--id", "id", "--source", "source"))
    assert capsys.readouterr().out.splitlines()[:4] == [
        "3 documents: 2 kept, 0 exact copies, 1 near copies",
        "1 clusters, the largest of 2; 1 verified pairs of 1 candidates; 1 documents without text",
        "  x: 1 documents, 1 kept",
        "  y: 2 documents, 1 kept",
    ]
