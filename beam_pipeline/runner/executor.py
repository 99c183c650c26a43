"""Builds and runs one Beam pipeline on a runner given by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState, create_runner

from beam_pipeline.runner.portability.process_workers import offer_process_workers
from beam_pipeline.runner.progress import JobProgress
from beam_pipeline.runner.result import RayPipelineResult
from beam_pipeline.runner.session.zygote import prepare_zygote

DEFAULT_RUNNER = "DirectRunner"


@dataclass(frozen=True)
class ExecutionReport:
    """How a pipeline ended: Beam's state, committed counters by `namespace:name`, wall seconds."""

    state: str
    counters: Mapping[str, int]
    seconds: float


def resolve_runner(name: str) -> PipelineRunner:
    """The runner of a Beam name or a fully-qualified class; `RayRunner` is ours.

    `DirectRunner` means Beam's in-process FnApiRunner: Beam's own class of that name first looks for Prism, a
    binary that it downloads. A PortableRunner finds PROCESS workers at the job service `--job_endpoint=embed`. Raises
    ValueError for a name that gives no runner.
    """
    if name.lower() in ("directrunner", "direct"):
        return FnApiRunner()
    if name.lower() in ("rayrunner", "ray"):
        return _ray_runner()
    try:
        runner = create_runner(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"no runner {name!r}: {error}") from error
    if not isinstance(runner, PipelineRunner):
        raise ValueError(f"{name!r} is {type(runner).__name__}, which is no apache_beam PipelineRunner")
    if isinstance(runner, PortableRunner):
        offer_process_workers()
    return runner


def _ray_runner() -> PipelineRunner:
    # before Ray is imported, and meanwhile: the process that makes its workers
    prepare_zygote()
    try:
        from beam_pipeline.runner.ray_runner import RayRunner
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ValueError("RayRunner needs Ray, which is not installed; pip install 'ray>=2.60,<3'") from error
    return RayRunner()


class PipelineExecutor:
    """Runs pipelines on one runner; `build` receives the pipeline and adds the transforms."""

    def __init__(self, runner: str = DEFAULT_RUNNER, options: PipelineOptions | None = None) -> None:
        self._runner_name = runner
        self._options = options or PipelineOptions([])
        self._result: PipelineResult | None = None

    def progress(self) -> JobProgress | None:
        """How far a run on RayRunner is; None before it starts and on runners that do not tell. Any thread may ask."""
        return self._result.progress if isinstance(self._result, RayPipelineResult) else None

    def run(self, build: Callable[[beam.Pipeline], None]) -> ExecutionReport:
        """Build, run and wait.

        Raises whatever the runner raises, and RuntimeError where the pipeline ends in another state than DONE.
        A KeyboardInterrupt while waiting cancels the pipeline before it goes on.
        """
        started = time.monotonic()
        pipeline = beam.Pipeline(runner=resolve_runner(self._runner_name), options=self._options)
        build(pipeline)
        self._result = result = pipeline.run()
        try:
            result.wait_until_finish()
        except KeyboardInterrupt:
            result.cancel()
            raise
        if result.state != PipelineState.DONE:
            raise RuntimeError(f"the pipeline ended {result.state} on {self._runner_name}; its log says why")
        counters = {
            f"{c.key.metric.namespace}:{c.key.metric.name}": int(c.committed or 0)
            for c in result.metrics().query()["counters"]
        }
        return ExecutionReport(str(result.state), counters, time.monotonic() - started)
