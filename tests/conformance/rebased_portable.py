"""PortableRunner's batch tests with its worker options, on the runner under test instead of a job service."""

from __future__ import annotations

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability import portable_runner_test

from tests.conformance.plugin import new_runner


class PortableTest(portable_runner_test.PortableRunnerTest):
    def create_options(self) -> PipelineOptions:
        return PipelineOptions(["--experiments=state_cache_size=100", "--experiments=data_buffer_time_limit_ms=1000"])

    def create_pipeline(self, is_drain: bool = False) -> beam.Pipeline:
        return beam.Pipeline(new_runner(is_drain), self.create_options())
