"""Pipelines that are fed from Ray Data datasets."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
import ray
import ray.data
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from beam_pipeline.runner import PipelineLifecycleManager, RayRunner
from beam_pipeline.runner.options import RunnerConfig
from beam_pipeline.runner.ray_data import ReadFromRayData
from beam_pipeline.runner.session.cluster import ray_for_datasets

OPTIONS = ["--ray_workers_max=2", "--ray_object_store_mb=200"]
ROWS = [{"id": i, "name": f"row {i}", "data": bytes([i % 256]) * 10, "parts": [i, None]} for i in range(500)]


def rows_of() -> ray.data.Dataset:
    return ray.data.from_arrow([pa.Table.from_pylist(ROWS[at : at + 60]) for at in range(0, 500, 60)])


def computed(rows: int, nbytes: int) -> ray.data.Dataset:
    def widen(batch: dict[str, Any]) -> dict[str, Any]:
        return {"id": batch["id"], "data": [bytes(nbytes) for _ in batch["id"]]}

    return ray.data.range(rows, override_num_blocks=8).map_batches(widen)


def pipeline(runner: beam.runners.runner.PipelineRunner, *flags: str) -> beam.Pipeline:
    return beam.Pipeline(runner, PipelineOptions([*OPTIONS, *flags]))


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    ray.data.DataContext.get_current().enable_progress_bars = False
    with PipelineLifecycleManager():
        yield


def test_rows_come_through_whole() -> None:
    with pipeline(RayRunner()) as p:
        assert_that(p | ReadFromRayData(rows_of), equal_to(ROWS))


def test_blocks_that_workers_made_are_read_by_other_workers() -> None:
    """Twice, so that the second dataset needs the CPUs of the first pipeline's warm workers."""
    for _ in range(2):
        with pipeline(RayRunner()) as p:
            rows = p | ReadFromRayData(lambda: computed(64, 500_000))
            sizes = rows | beam.Map(lambda row: (row["id"], len(row["data"])))
            assert_that(sizes, equal_to([(i, 500_000) for i in range(64)]))


def test_a_dataset_that_exists_is_read_too() -> None:
    with pipeline(RayRunner()) as first:
        _ = first | beam.Create([1])
    with ray_for_datasets(RunnerConfig.from_options(PipelineOptions(OPTIONS))):
        dataset = computed(10, 10).materialize()
    with pipeline(RayRunner()) as p:
        assert_that(p | ReadFromRayData(dataset) | beam.Map(lambda row: row["id"]), equal_to(range(10)))


def test_blocks_live_while_the_job_runs_and_no_longer() -> None:
    def start() -> beam.runners.runner.PipelineResult:
        p = pipeline(RayRunner())
        read = p | ReadFromRayData(lambda: computed(8, 2_000_000))
        slow = read | beam.Map(lambda row: time.sleep(0.2) or len(row["data"]))
        assert_that(slow, equal_to([2_000_000] * 8))
        return p.run()

    result = start()
    gc.collect()
    result.wait_until_finish()
    before = _stored_bytes()
    assert before > 15_000_000
    del result
    gc.collect()
    deadline = time.monotonic() + 10
    while _stored_bytes() > before - 15_000_000:
        assert time.monotonic() < deadline, "the object store still holds the blocks of a job that is over"
        time.sleep(0.1)


def _stored_bytes() -> float:
    total, free = (f().get("object_store_memory", 0.0) for f in (ray.cluster_resources, ray.available_resources))
    return total - free


def test_a_dataset_of_no_rows_gives_no_elements() -> None:
    with pipeline(RayRunner()) as p:
        assert_that(p | ReadFromRayData(lambda: computed(10, 1).filter(expr="id < 0")), equal_to([]))


def test_a_runner_whose_workers_are_threads_reads_it_as_well() -> None:
    with pipeline(FnApiRunner()) as p:
        assert_that(p | ReadFromRayData(rows_of), equal_to(ROWS))


def test_a_worker_that_ray_did_not_start_says_so() -> None:
    with pytest.raises(
        RuntimeError, match=r"process that Ray did not start; run the pipeline with\s+--runner=RayRunner"
    ):
        flags = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
        with pipeline(FnApiRunner(), *flags) as p:
            _ = p | ReadFromRayData(rows_of)


def test_outside_of_a_session_the_error_says_what_to_do(tmp_path: Path) -> None:
    script = tmp_path / "alone.py"
    script.write_text(
        textwrap.dedent(
            """
            import apache_beam as beam
            from beam_pipeline.runner.ray_data import ReadFromRayData
            beam.Pipeline() | ReadFromRayData(lambda: None)
            """
        )
    )
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert "build and run the pipeline within a PipelineLifecycleManager, or call ray.init before" in run.stderr
