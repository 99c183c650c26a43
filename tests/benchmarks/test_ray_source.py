"""The recordings' benchmark on a small corpus: both reads give what was written, and a wrong sum is caught."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from benchmarks import corpora
from benchmarks.ray_source import compare
from benchmarks.runner_lanes import FN_API_RUNNER, Settings

SMOKE = Settings(FN_API_RUNNER, quick=True)


@pytest.fixture
def corpus(tmp_path: Path) -> corpora.Corpus:
    return corpora.write_isaac(tmp_path / "hdf5", 2, ())


def test_every_side_reads_the_corpus(corpus: corpora.Corpus) -> None:
    rows = {row.name: row.value for row in compare("hdf5", corpus, SMOKE)}
    assert list(rows) == ["hdf5: Beam read", "hdf5: Ray Data read", "hdf5: Ray Data alone", "hdf5: ratio"]
    assert all(value is not None and value > 0 for value in rows.values())


def test_a_wrong_sum_fails_the_benchmark(corpus: corpora.Corpus) -> None:
    wrong = dataclasses.replace(corpus, steps=corpus.steps + 1)
    with pytest.raises(RuntimeError, match=f"Beam read produced .*'total': {corpus.steps}.* is right"):
        compare("hdf5", wrong, SMOKE)
