"""`evidence`: measures sources and stores what decides about them; nothing is decided or published.

Exit status: 0 done, 1 the run failed (with its traceback), 2 bad configuration or usage.
"""

from __future__ import annotations

from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipeline.commands.command import BAD_USAGE, DONE, UsageError, error_console, output_console
from beam_pipeline.commands.job import config_of, parse, prepare
from beam_pipeline.metrics import of_evidence
from beam_pipeline.metrics_push import PUSH_FLAGS, PUSH_USAGE, RunReport, run_report
from beam_pipeline.options import CurationOptions
from beam_pipeline.pipeline import UnknownSource
from beam_pipeline.preflight import UnfitRunner
from beam_pipeline.publish import OutputError
from beam_pipeline.runner import status_of_interrupted
from beam_pipeline.summary import stage_counts
from beam_pipeline.typed_yaml import ConfigError
from transforms.measured import EPISODES, LEFT

_OWN_FLAGS = ("--config", "--output", "--source", "--runner", "--fail_fast", "--read_with", *PUSH_FLAGS)
USAGE = (
    "usage: python -m beam_pipeline evidence --config CONFIG.yaml --output DIR [--source NAME] [--runner NAME]\n"
    "       [--fail_fast] [any Beam option]\n"
    "  --config   YAML file that names sources, embodiments and stage parameters\n"
    "  --output   folder that keeps the evidence (default: `output:` of the YAML)\n"
    "  --source   the one source to measure; runs of different sources may work at the same time\n"
    "  --runner, --read_with  as of curate\n"
    f"{PUSH_USAGE}"
    "DIR/_evidence then holds all that `decide` needs, but for the steps of episodes that are newly kept.\n"
    "exit status: 0 done, 1 the run failed, 2 bad configuration or usage,\n"
    "             130 and 143 interrupted by Ctrl-C and SIGTERM, nothing stored"
)


def run(arguments: Sequence[str]) -> int:
    """Measure and store; returns the exit status."""
    errors = error_console()
    try:
        options = parse(arguments, _OWN_FLAGS)
        own = options.view_as(CurationOptions)
        if own.publish:
            raise UsageError("evidence publishes nothing; --publish is a flag of `decide` and `curate`")
        report = run_report(own, "evidence", errors)
    except (UsageError, ValueError) as error:
        errors.print(f"error: {error}", markup=False)
        return BAD_USAGE
    with report:
        return _measure(options, own, report)


def _measure(options: PipelineOptions, own: CurationOptions, report: RunReport) -> int:
    console, errors = output_console(), error_console()
    try:
        pipeline, runner = prepare(options, config_of(options, USAGE), console)
    except (UsageError, ConfigError, ValueError) as error:
        errors.print(f"error: {error}", markup=False)
        return report.failed(BAD_USAGE)
    try:
        result = pipeline.evidence(
            own.output, own.source, runner, options, fail_fast=own.fail_fast, read_with=own.read_with
        )
    except (UnfitRunner, OutputError, UnknownSource) as error:
        errors.print(f"error: {error}", markup=False)
        return report.failed(BAD_USAGE)
    except KeyboardInterrupt as error:
        errors.print("interrupted; no evidence was stored", markup=False)
        return report.failed(status_of_interrupted(error))
    measured: dict[str, tuple[int, int]] = {}
    for source in sorted({file.source for file in result.files}):
        files = [file for file in result.files if file.source == source]
        episodes, left = (sum(f.rows for f in files if f"/{table}-" in f.path) for table in (EPISODES, LEFT))
        measured[source] = (episodes, left)
        kilobytes = sum(file.bytes for file in files) / 1e3
        console.print(
            f"{source}: {episodes} episodes measured, {left} inputs left before, {kilobytes:.0f} kB stored",
            soft_wrap=True,
            markup=False,
        )
    for stale in pipeline.measured_otherwise(own.output):
        errors.print(f"warning: {stale}", markup=False, soft_wrap=True)
    report.succeeded(of_evidence(measured, stage_counts(result.counters)))
    return DONE
