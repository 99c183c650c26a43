"""RayRunner: runs any batch Beam pipeline on Ray."""

from __future__ import annotations

import threading

from apache_beam.options.pipeline_options import PipelineOptions, TypeOptions
from apache_beam.options.value_provider import RuntimeValueProvider
from apache_beam.pipeline import Pipeline
from apache_beam.runners.runner import PipelineRunner

from beam_pipeline.runner.beam_internals import (
    beam_runner_api_pb2,
    check_beam_version,
    environments,
    group_by_key_input_visitor,
    merge_common_environments,
    merge_superset_dep_environments,
    validate_pipeline_graph,
)
from beam_pipeline.runner.checks import check_pipeline, check_sources
from beam_pipeline.runner.driver.job import Job
from beam_pipeline.runner.driver.scheduler import Scheduler
from beam_pipeline.runner.live_metrics import LiveMetrics
from beam_pipeline.runner.options import RunnerConfig
from beam_pipeline.runner.plan import plan_stages
from beam_pipeline.runner.progress import Progress
from beam_pipeline.runner.result import RayPipelineResult
from beam_pipeline.runner.session.cluster import use_session
from beam_pipeline.runner.session.code_packing import PackedCode, pack_code
from beam_pipeline.runner.session.ray_client import CLIENT, follow_on_cluster
from beam_pipeline.runner.session.zygote import drop_zygote


class RayRunner(PipelineRunner):
    """Runs batch pipelines on Ray: on this machine, or on a cluster with `--ray_address`.

    Options are those of RayOptions. Inside a PipelineLifecycleManager pipelines share one Ray session and its warm
    workers; otherwise every run opens and closes its own.
    """

    def __init__(self, is_drain: bool = False) -> None:
        super().__init__()
        self._is_drain = is_drain

    def default_environment(self, options: PipelineOptions) -> environments.Environment:
        return environments.EmbeddedPythonEnvironment.default()

    def run_pipeline(self, pipeline: Pipeline, options: PipelineOptions) -> RayPipelineResult:
        """Check, plan and start the pipeline; the result follows it.

        Raises UnsupportedPipeline, before any work, for what a batch runner of Python pipelines cannot do, ValueError
        for options out of their limits and RuntimeError for another Beam than the one this runner is made for.
        """
        check_beam_version()
        RuntimeValueProvider.set_runtime_options({})
        check_sources(pipeline)
        pipeline.visit(group_by_key_input_visitor(not options.view_as(TypeOptions).allow_non_deterministic_key_coders))
        proto = pipeline.to_runner_api(default_environment=self.default_environment(options))
        result = self.run_portable_pipeline(proto, options)
        # what its transforms hold, such as the blocks of a Ray dataset, is needed until the job is over
        result.pipeline = pipeline
        return result

    def run_portable_pipeline(
        self, pipeline: beam_runner_api_pb2.Pipeline, options: PipelineOptions
    ) -> RayPipelineResult:
        config = RunnerConfig.from_options(options)
        if config.address is not None:
            drop_zygote()
        validate_pipeline_graph(pipeline)
        check_pipeline(pipeline)
        packed = pack_code(options)
        if config.address is not None and config.address.startswith(CLIENT):
            result = follow_on_cluster(pipeline, config, packed, self._is_drain)
            result.start()
            return result
        return self.start(pipeline, config, packed)

    def start(
        self, pipeline: beam_runner_api_pb2.Pipeline, config: RunnerConfig, packed: PackedCode
    ) -> RayPipelineResult:
        """Start a checked pipeline with this process as its driver."""
        merged = merge_common_environments(merge_superset_dep_environments(pipeline))
        plans = plan_stages(merged, config.shuffle_partitions, self._is_drain, config.keeps_reshuffles)
        job = Job(plans, config, Progress(config.progress))

        def run(cancelled: threading.Event) -> None:
            with use_session(config, packed) as session:
                pools = session.pools(config)
                live = LiveMetrics(job.id) if session.session.exports_metrics else None
                scheduler = Scheduler(job, pools, live)
                try:
                    scheduler.run(cancelled)
                finally:
                    scheduler.close()

        result = RayPipelineResult(run, job.metrics, job.progress)
        result.start()
        return result
