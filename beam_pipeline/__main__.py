"""Command line: argv -> configuration -> run -> exit status.

Exit status: 0 done, 1 the run failed (with its traceback), 2 bad configuration or usage, 3 a gate failed and nothing
was published.
"""

from __future__ import annotations

import difflib
import logging
import sys
from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from rich.console import Console

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

DONE, FAILED, BAD_USAGE, GATE_FAILED = 0, 1, 2, 3
_OWN_FLAGS = ("--config", "--output", "--runner", "--fail_fast", "--read_with")
USAGE = (
    "usage: python -m beam_pipeline --config CONFIG.yaml --output DIR [--runner NAME] [--fail_fast] [any Beam option]\n"
    "  --config   YAML file that names sources, embodiments and stage parameters\n"
    "  --output   folder for episodes, transitions, ledger and summary (default: `output:` of the YAML)\n"
    "  --runner   DirectRunner (in process, default), RayRunner (on Ray), BundleBasedDirectRunner, PortableRunner\n"
    "             (with --job_endpoint), another Beam runner, or a fully-qualified class\n"
    "  --read_with  beam (in the pipeline, default) or ray_data (a Ray Data dataset, read before the pipeline runs)\n"
    "exit status: 0 done, 1 the run failed, 2 bad configuration or usage, 3 a gate failed, nothing published"
)


class UsageError(Exception):
    """A command line that cannot be run."""


def parse(argv: Sequence[str]) -> PipelineOptions:
    """Beam options of a command line; raises UsageError for a typo of one of our own flags or a missing one."""
    try:
        options = PipelineOptions(list(argv))
        own = options.view_as(CurationOptions)
    except SystemExit as error:  # argparse exits by itself on a malformed flag
        raise UsageError("a flag is malformed; see above") from error
    for word in argv:
        flag = word.split("=")[0]
        if flag.startswith("--") and flag not in _OWN_FLAGS:
            close = difflib.get_close_matches(flag, _OWN_FLAGS, n=1, cutoff=0.8)
            if close:
                raise UsageError(f"unknown flag {flag}; did you mean {close[0]}?")
    if not own.config:
        raise UsageError(f"--config is missing\n{USAGE}")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run one curation job; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    console, errors = Console(), Console(stderr=True, soft_wrap=True, highlight=False)
    if not arguments or {"-h", "--help"} & set(arguments):
        console.print(USAGE, markup=False, highlight=False, soft_wrap=True)
        return DONE if arguments else BAD_USAGE
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
        print_outcomes(console, error.outcomes, [], first_of_each_reason(error.ledger, error.outcomes))
        errors.print(f"gate failed, nothing was published: {error}", markup=False)
        return GATE_FAILED
    except KeyboardInterrupt:
        errors.print("interrupted; nothing was published", markup=False)
        return FAILED
    places = ("episodes", "transitions", "ledger", "evidence", "run_summary.json")
    files = [(place.removesuffix(".json").replace("run_", ""), result.output / place) for place in places]
    print_outcomes(console, result.outcomes, files, first_of_each_reason(result.output / "ledger", result.outcomes))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
