"""What RayRunner cannot run is told before any work: no Ray is started, and the message names transform and remedy."""

from __future__ import annotations

from collections.abc import Callable

import apache_beam as beam
import pytest
import ray
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.periodicsequence import PeriodicImpulse

from beam_pipeline.runner import RayRunner, UnsupportedPipeline
from beam_pipeline.runner.hints import ResourceRequest, request_of


def _stream(pipeline: beam.Pipeline) -> None:
    pipeline | "Fake clock" >> TestStream().add_elements([1]).advance_watermark_to_infinity()


def _periodic(pipeline: beam.Pipeline) -> None:
    pipeline | "Every second" >> PeriodicImpulse(fire_interval=1)


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (_stream, r"Fake clock is a TestStream.*batch runner.*--runner=DirectRunner"),
        (_periodic, r"Every second reads an unbounded source.*Bound the source"),
    ],
)
def test_streams_are_refused_before_ray_starts(build: Callable[[beam.Pipeline], None], told: str) -> None:
    pipeline = beam.Pipeline(runner=RayRunner())
    build(pipeline)
    with pytest.raises(UnsupportedPipeline, match=told):
        pipeline.run()
    assert not ray.is_initialized()


def test_options_out_of_their_limits_are_refused_before_ray_starts() -> None:
    options = beam.options.pipeline_options.PipelineOptions(["--ray_workers_max=0"])
    pipeline = beam.Pipeline(runner=RayRunner(), options=options)
    pipeline | beam.Create([1])
    with pytest.raises(ValueError, match=r"--ray_workers_max=0 must be at least 1"):
        pipeline.run()
    assert not ray.is_initialized()


def test_hints_are_requests() -> None:
    hints = {
        "beam:resources:cpu_count:v1": b"2",
        "beam:resources:min_ram_bytes:v1": b"1000000000",
        "anyone:resources:gpus:v1": b"0.25",
        "beam:resources:max_active_bundles_per_worker:v1": b"3",
        "anyone:resources:colour:v1": b"red",
    }
    request = request_of(hints)
    assert request == ResourceRequest(2, 0.25, 1_000_000_000, "", 3)
    assert request.name == "2cpu-0.25gpu-0.931GiB-3bundles"


def test_an_accelerator_is_gpus_of_a_type() -> None:
    assert request_of({"beam:resources:accelerator:v1": b"type:T4;count:2"}) == ResourceRequest(1, 2.0, 0, "T4")


@pytest.mark.parametrize("value", [b"many", b"-1", b"nan", b"inf"])
def test_a_hint_that_is_no_number_is_told(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"resource hint x:resources:gpus:v1 is '.*'; it takes a number >= 0"):
        request_of({"x:resources:gpus:v1": value})
