"""What a runner cannot do for a run, or where its output would be among its inputs, is told before any work."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, PortableOptions

from beam_pipeline.config import PipelineConfig
from beam_pipeline.output_folder import OutputError
from beam_pipeline.runner import resolve_runner
from beam_pipeline.runner.options import RunnerConfig
from transforms.source_paths import expand

EMBEDDED = "embed"
"""The job service of `--job_endpoint` that Beam starts within the launcher."""
_ENVIRONMENTS = ("LOOPBACK", "PROCESS", "EXTERNAL", "DOCKER")
_WORKER = '--environment_type=PROCESS --environment_config=\'{"command": "demosift-worker"}\''


class UnfitRunner(ValueError):
    """A runner that cannot do this run."""


def check_runner(name: str, options: PipelineOptions) -> None:
    """Raises UnfitRunner where a run is bound to fail on this runner, ValueError where there is no such runner."""
    runner = resolve_runner(name)
    lack = _CHECKS.get(type(runner).__name__)
    told = lack(options) if lack else None
    if told:
        raise UnfitRunner(f"{name} cannot run this: {told}")


def keep_apart(output: Path, config: PipelineConfig) -> None:
    """Raises OutputError where a source would find the output among its files."""
    folder = output.resolve()
    for source in config.sources:
        for path in expand(source):
            if folder.is_relative_to(path.resolve()):
                raise OutputError(
                    f"{output} lies in {path}, which source {source.name!r} reads; use an --output outside of it"
                )


def _ray(options: PipelineOptions) -> str | None:
    try:
        RunnerConfig.from_options(options)
    except ValueError as error:
        return str(error)
    return None


def _bundle_based(options: PipelineOptions) -> str | None:
    direct = options.view_as(DirectOptions)
    if direct.direct_running_mode == "multi_processing" or direct.direct_num_workers != 1:
        return (
            "it has no worker processes, only threads of the launcher; leave out --direct_num_workers and "
            "--direct_running_mode, or use --runner=RayRunner"
        )
    return None


def _dataflow(options: PipelineOptions) -> str | None:
    return (
        "its workers are machines of Google Cloud, which do not share the output folder, a path of this machine; "
        "use --runner=RayRunner with --ray_address on machines that share a file system"
    )


def _portable(options: PipelineOptions) -> str | None:
    portable = options.view_as(PortableOptions)
    kind = portable.environment_type or "DOCKER"
    if not portable.job_endpoint:
        return f"it has no job service; give --job_endpoint=HOST:PORT, or {EMBEDDED} for Beam's own on this machine"
    if kind.startswith("beam:env:"):
        return None
    if kind not in _ENVIRONMENTS:
        return f"there is no --environment_type={kind}; known: {', '.join(_ENVIRONMENTS)}"
    if kind == "PROCESS":
        return _process(portable)
    if kind == "EXTERNAL" and not (
        portable.environment_config or portable.lookup_environment_option("external_service_address")
    ):
        return "--environment_type=EXTERNAL names no worker pool; give --environment_config=HOST:PORT"
    if kind == "DOCKER":
        return _docker(portable)
    return None


def _process(portable: PortableOptions) -> str | None:
    try:
        found = json.loads(portable.environment_config or "{}").get("command")
    except (AttributeError, json.JSONDecodeError):
        return f"--environment_config={portable.environment_config} is no JSON object; give {_WORKER}"
    command = found or portable.lookup_environment_option("process_command")
    if not command:
        return f"--environment_type=PROCESS names no command that starts a worker; give {_WORKER}"
    program = shlex.split(command)[0]
    if portable.job_endpoint == EMBEDDED and shutil.which(program) is None:
        return f"the worker command {program} is no program of this machine; give the path of demosift-worker"
    return None


def _docker(portable: PortableOptions) -> str | None:
    if portable.job_endpoint == EMBEDDED:
        return (
            "the containers of --environment_type=DOCKER, the default, do not share the output folder; "
            f"use --environment_type=LOOPBACK, or {_WORKER}"
        )
    if not (portable.environment_config or portable.lookup_environment_option("docker_container_image")):
        return (
            "Beam's own container image, the default of --environment_type=DOCKER, does not hold this project; "
            "name one that does by --environment_config=IMAGE, or use --environment_type=LOOPBACK"
        )
    return None


_CHECKS = {
    "RayRunner": _ray,
    "BundleBasedDirectRunner": _bundle_based,
    "DataflowRunner": _dataflow,
    "PortableRunner": _portable,
}
