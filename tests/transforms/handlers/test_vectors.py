"""The kernels of semantic deduplication as models: the same edges whatever is worked on at a time."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that
from threadpoolctl import threadpool_limits

from transforms.deduplication.byte_columns import row_column
from transforms.deduplication.quantised import Threshold
from transforms.deduplication.vector_blocks import nearest_column
from transforms.handlers import vectors
from transforms.handlers.vectors import LikePairsHandler


def strip(seed: int, count: int) -> tuple[pa.RecordBatch, int, int]:
    """A cluster of vectors, some of them near copies, compared from its tenth on."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(-127, 128, (count, 32), np.int8)
    rows[count // 2 :] = np.clip(rows[: count - count // 2].astype(int) + rng.integers(-4, 5, 32), -127, 127)
    near = nearest_column(np.full((count, 1), seed, np.int32))
    columns = [
        pa.array(np.arange(count) + 1000 * seed),
        row_column(rows),
        near,
        pa.array(np.full(count, seed, np.int32)),
    ]
    return pa.record_batch(columns, ["row", "vector", "nearest", "cluster"]), 10, count


@pytest.mark.parametrize("threads", [1, 2])
def test_strips_that_are_worked_on_at_a_time_give_the_edges_of_each(threads: int) -> None:
    strips = [strip(seed, 40 + 30 * seed) for seed in range(5)]
    handler = LikePairsHandler(Threshold.of(0.95))
    model = handler.load_model()
    expected = [next(iter(handler.run_inference([one], model))) for one in strips]
    with threadpool_limits(threads, user_api="blas"):
        assert model.threads() == threads
        found = list(handler.run_inference(strips, model))
        assert model.threads() == threads, "what the products may have is given back"
    assert found == expected
    assert all(batch.num_rows >= 15 for batch in found)


def test_large_strips_are_not_held_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    strips = [strip(1, 100) for _ in range(5)]
    monkeypatch.setattr(vectors, "_SIDE_BY_SIDE_BYTES", 2 * strips[0][0].nbytes)
    batching = LikePairsHandler(Threshold.of(0.95)).batch_elements_kwargs()

    def two_at_most(batches: list[list[Any]]) -> None:
        assert sorted(map(len, batches)) == [1, 2, 2]

    with beam.Pipeline(FnApiRunner()) as pipeline:
        elements = pipeline | beam.Create([strips], reshuffle=False) | beam.FlatMap(list)
        assert_that(elements | beam.BatchElements(**batching), two_at_most)
