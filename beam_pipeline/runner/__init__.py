"""Runs Beam pipelines; imports nothing of the project, so that it can be lifted out."""

from beam_pipeline.runner.executor import ExecutionReport, PipelineExecutor, resolve_runner
from beam_pipeline.runner.lifecycle import PipelineLifecycleManager

__all__ = ["ExecutionReport", "PipelineExecutor", "PipelineLifecycleManager", "resolve_runner"]
