"""`curate`: a configuration in, a curated output out.

Exit status: 0 done, 1 the run failed (with its traceback), 2 bad configuration or usage, 3 a gate failed and nothing
was published.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from rich.console import Console

from beam_pipeline.commands.command import (
    BAD_USAGE,
    DONE,
    FAILED,
    GATE_FAILED,
    UsageError,
    error_console,
    output_console,
    refuse_misspelt,
)
from beam_pipeline.config import PipelineConfig
from beam_pipeline.options import CurationOptions
from beam_pipeline.pipeline import GatesFailed, MultimodalPipeline, RunResult
from beam_pipeline.preflight import UnfitRunner
from beam_pipeline.progress import print_outcomes
from beam_pipeline.publish import OutputError
from beam_pipeline.read_again import UnreadableEpisodes
from beam_pipeline.reasons import first_of_each_reason
from beam_pipeline.runner import resolve_runner
from beam_pipeline.runner.executor import DEFAULT_RUNNER
from beam_pipeline.typed_yaml import ConfigError
from transforms.verdicts import VerdictError

_OWN_FLAGS = ("--config", "--output", "--runner", "--fail_fast", "--read_with")
USAGE = (
    "usage: python -m beam_pipeline curate --config CONFIG.yaml --output DIR [--runner NAME] [--fail_fast]\n"
    "       [any Beam option]\n"
    "  --config   YAML file that names sources, embodiments and stage parameters\n"
    "  --output   folder for episodes, transitions, ledger and summary (default: `output:` of the YAML)\n"
    "  --runner   DirectRunner (in process, default), RayRunner (on Ray), BundleBasedDirectRunner, PortableRunner\n"
    "             (with --job_endpoint), another Beam runner, or a fully-qualified class\n"
    "  --read_with  beam (in the pipeline, default) or ray_data (a Ray Data dataset, read before the pipeline runs)\n"
    "exit status: 0 done, 1 the run failed, 2 bad configuration or usage, 3 a gate failed, nothing published"
)


def parse(argv: Sequence[str], flags: Sequence[str] = _OWN_FLAGS, usage: str = USAGE) -> PipelineOptions:
    """Beam options of a command line; raises UsageError for a typo of one of our own flags or a missing one."""
    try:
        options = PipelineOptions(list(argv))
        own = options.view_as(CurationOptions)
    except SystemExit as error:  # argparse exits by itself on a malformed flag
        raise UsageError("a flag is malformed; see above") from error
    refuse_misspelt(argv, flags)
    if not own.config:
        raise UsageError(f"--config is missing\n{usage}")
    return options


def prepare(
    arguments: Sequence[str],
    console: Console,
    flags: Sequence[str] = _OWN_FLAGS,
    usage: str = USAGE,
    sources_present: bool = True,
) -> tuple[MultimodalPipeline, PipelineOptions, str]:
    """The job of a command line, its options and its runner; raises UsageError, ConfigError, ValueError."""
    options = parse(arguments, flags, usage)
    runner = options.view_as(StandardOptions).runner or DEFAULT_RUNNER
    resolve_runner(runner)
    config = PipelineConfig.load(options.view_as(CurationOptions).config, sources_present)
    return MultimodalPipeline(config, console=console), options, runner


def finish(work: Callable[[], RunResult], console: Console, errors: Console) -> int:
    """Run what publishes, tell what came of it, and give the exit status."""
    try:
        result = work()
    except (UnfitRunner, OutputError, VerdictError) as error:
        errors.print(f"error: {error}", markup=False)
        return BAD_USAGE
    except UnreadableEpisodes as error:
        errors.print(f"nothing was published: {error}", markup=False)
        return FAILED
    except GatesFailed as error:
        print_outcomes(console, error.outcomes, [], first_of_each_reason(error.ledger, error.outcomes))
        errors.print(f"gate failed, nothing was published: {error}", markup=False)
        errors.print("the evidence is stored: `decide` takes other rules and gates without measuring again")
        return GATE_FAILED
    except KeyboardInterrupt:
        errors.print("interrupted; nothing was published", markup=False)
        return FAILED
    places = ("episodes", "transitions", "ledger", "evidence", "run_summary.json")
    files = [(place.removesuffix(".json").replace("run_", ""), result.output / place) for place in places]
    print_outcomes(console, result.outcomes, files, first_of_each_reason(result.output / "ledger", result.outcomes))
    for warning in result.warnings:
        errors.print(f"warning: {warning}", markup=False)
    return DONE


def run(arguments: Sequence[str]) -> int:
    """Run one curation job; returns the exit status."""
    console, errors = output_console(), error_console()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        pipeline, options, runner = prepare(arguments, console)
        own = options.view_as(CurationOptions)
        if own.source:
            raise UsageError("curate takes all sources; --source is a flag of `evidence`")
    except (UsageError, ConfigError, ValueError) as error:
        errors.print(f"error: {error}", markup=False)
        return BAD_USAGE
    return finish(
        lambda: pipeline.run(own.output, runner, options, fail_fast=own.fail_fast, read_with=own.read_with),
        console,
        errors,
    )
