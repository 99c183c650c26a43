"""`curate`: a configuration in, a curated output out.

Exit status: 0 done, 1 the run failed (with its traceback), 2 bad configuration or usage, 3 a gate failed and nothing
was published.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

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
from beam_pipeline.pipeline import GatesFailed, MultimodalPipeline
from beam_pipeline.preflight import UnfitRunner
from beam_pipeline.progress import print_outcomes
from beam_pipeline.publish import OutputError
from beam_pipeline.reasons import first_of_each_reason
from beam_pipeline.runner import resolve_runner
from beam_pipeline.runner.executor import DEFAULT_RUNNER
from beam_pipeline.typed_yaml import ConfigError

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


def parse(argv: Sequence[str]) -> PipelineOptions:
    """Beam options of a command line; raises UsageError for a typo of one of our own flags or a missing one."""
    try:
        options = PipelineOptions(list(argv))
        own = options.view_as(CurationOptions)
    except SystemExit as error:  # argparse exits by itself on a malformed flag
        raise UsageError("a flag is malformed; see above") from error
    refuse_misspelt(argv, _OWN_FLAGS)
    if not own.config:
        raise UsageError(f"--config is missing\n{USAGE}")
    return options


def run(arguments: Sequence[str]) -> int:
    """Run one curation job; returns the exit status."""
    console, errors = output_console(), error_console()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        options = parse(arguments)
        own = options.view_as(CurationOptions)
        runner = options.view_as(StandardOptions).runner or DEFAULT_RUNNER
        resolve_runner(runner)
        pipeline = MultimodalPipeline(PipelineConfig.load(own.config), console=console)
    except (UsageError, ConfigError, ValueError) as error:
        errors.print(f"error: {error}", markup=False)
        return BAD_USAGE
    try:
        result = pipeline.run(
            own.output, runner=runner, options=options, fail_fast=own.fail_fast, read_with=own.read_with
        )
    except (UnfitRunner, OutputError) as error:
        errors.print(f"error: {error}", markup=False)
        return BAD_USAGE
    except GatesFailed as error:
        report = [("report", error.report)]
        print_outcomes(console, error.outcomes, report, first_of_each_reason(error.ledger, error.outcomes))
        errors.print(f"gate failed, nothing was published: {error}", markup=False)
        return GATE_FAILED
    except KeyboardInterrupt:
        errors.print("interrupted; nothing was published", markup=False)
        return FAILED
    places = ("episodes", "transitions", "ledger", "evidence", "run_summary.json", "report.html")
    files = [(place.partition(".")[0].replace("run_", ""), result.output / place) for place in places]
    print_outcomes(console, result.outcomes, files, first_of_each_reason(result.output / "ledger", result.outcomes))
    return DONE
