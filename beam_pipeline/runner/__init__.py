"""RayRunner runs Beam pipelines on Ray; imports nothing of the project, so that it can be lifted out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from beam_pipeline.runner.errors import PipelineFailed, UnsupportedPipeline
from beam_pipeline.runner.executor import ExecutionReport, PipelineExecutor, resolve_runner
from beam_pipeline.runner.lifecycle import PipelineLifecycleManager, status_of_interrupted
from beam_pipeline.runner.options import RayOptions
from beam_pipeline.runner.session.zygote import prepare_zygote

if TYPE_CHECKING:
    from beam_pipeline.runner.ray_runner import RayRunner

__all__ = [
    "ExecutionReport",
    "PipelineExecutor",
    "PipelineFailed",
    "PipelineLifecycleManager",
    "RayOptions",
    "RayRunner",
    "UnsupportedPipeline",
    "resolve_runner",
    "status_of_interrupted",
]


def __getattr__(name: str) -> Any:
    # Ray is an extra, and takes half a second to import: only who runs on it pays for it
    if name == "RayRunner":
        # the process that makes Ray's workers imports it meanwhile
        prepare_zygote()
        from beam_pipeline.runner.ray_runner import RayRunner

        return RayRunner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
