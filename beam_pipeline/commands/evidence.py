"""`evidence`: measures sources and stores what decides about them; nothing is decided or published.

Exit status: 0 done, 1 the run failed (with its traceback), 2 bad configuration or usage.
"""

from __future__ import annotations

from collections.abc import Sequence

from beam_pipeline.commands.command import BAD_USAGE, DONE, UsageError, error_console, output_console
from beam_pipeline.commands.job import config_of, parse, prepare
from beam_pipeline.options import CurationOptions
from beam_pipeline.pipeline import UnknownSource
from beam_pipeline.preflight import UnfitRunner
from beam_pipeline.publish import OutputError
from beam_pipeline.runner import status_of_interrupted
from beam_pipeline.typed_yaml import ConfigError
from transforms.measured import EPISODES, LEFT

_OWN_FLAGS = ("--config", "--output", "--source", "--runner", "--fail_fast", "--read_with")
USAGE = (
    "usage: python -m beam_pipeline evidence --config CONFIG.yaml --output DIR [--source NAME] [--runner NAME]\n"
    "       [--fail_fast] [any Beam option]\n"
    "  --config   YAML file that names sources, embodiments and stage parameters\n"
    "  --output   folder that keeps the evidence (default: `output:` of the YAML)\n"
    "  --source   the one source to measure; runs of different sources may work at the same time\n"
    "  --runner, --read_with  as of curate\n"
    "DIR/_evidence then holds all that `decide` needs, but for the steps of episodes that are newly kept.\n"
    "exit status: 0 done, 1 the run failed, 2 bad configuration or usage,\n"
    "             130 and 143 interrupted by Ctrl-C and SIGTERM, nothing stored"
)


def run(arguments: Sequence[str]) -> int:
    """Measure and store; returns the exit status."""
    console, errors = output_console(), error_console()
    try:
        options = parse(arguments, _OWN_FLAGS)
        if options.view_as(CurationOptions).publish:
            raise UsageError("evidence publishes nothing; --publish is a flag of `decide` and `curate`")
        pipeline, runner = prepare(options, config_of(options, USAGE), console)
    except (UsageError, ConfigError, ValueError) as error:
        errors.print(f"error: {error}", markup=False)
        return BAD_USAGE
    own = options.view_as(CurationOptions)
    try:
        reports = pipeline.evidence(
            own.output, own.source, runner, options, fail_fast=own.fail_fast, read_with=own.read_with
        )
    except (UnfitRunner, OutputError, UnknownSource) as error:
        errors.print(f"error: {error}", markup=False)
        return BAD_USAGE
    except KeyboardInterrupt as error:
        errors.print("interrupted; no evidence was stored", markup=False)
        return status_of_interrupted(error)
    for source in sorted({report.source for report in reports}):
        own_files = [report for report in reports if report.source == source]
        rows = {table: sum(r.rows for r in own_files if f"/{table}-" in r.path) for table in (EPISODES, LEFT)}
        kilobytes = sum(report.bytes for report in own_files) / 1e3
        console.print(
            f"{source}: {rows[EPISODES]} episodes measured, {rows[LEFT]} inputs left before, {kilobytes:.0f} kB stored",
            soft_wrap=True,
            markup=False,
        )
    for stale in pipeline.measured_otherwise(own.output):
        errors.print(f"warning: {stale}", markup=False, soft_wrap=True)
    return DONE
