"""FnApiRunner's own tests, of which each builds its pipeline through one method, on the runner under test."""

from __future__ import annotations

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner import fn_runner_test

from tests.conformance.plugin import new_runner


class RunnerTest(fn_runner_test.FnApiRunnerTest):
    def create_pipeline(self, is_drain: bool = False) -> beam.Pipeline:
        return beam.Pipeline(runner=new_runner(is_drain))


class RunnerMetricsTest(fn_runner_test.FnApiRunnerMetricsTest):
    def create_pipeline(self) -> beam.Pipeline:
        return beam.Pipeline(runner=new_runner())


class StateBackedCoderTest(fn_runner_test.FnApiBasedStateBackedCoderTest):
    def create_pipeline(self) -> beam.Pipeline:
        return beam.Pipeline(runner=new_runner())
