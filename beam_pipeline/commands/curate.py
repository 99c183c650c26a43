"""`curate`: a configuration in, a curated output out.

Exit status: 0 done, 1 the run failed (with its traceback), 2 bad configuration or usage, 3 a gate failed and nothing
was published.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

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
    print_plain,
    refuse_misspelt,
)
from beam_pipeline.config import PipelineConfig
from beam_pipeline.guessing.guess import NothingToCurate, guess_config, render, summary
from beam_pipeline.options import CurationOptions
from beam_pipeline.output_folder import keep_config
from beam_pipeline.pipeline import GatesFailed, MultimodalPipeline
from beam_pipeline.preflight import UnfitRunner
from beam_pipeline.progress import print_outcomes
from beam_pipeline.publish import OutputError
from beam_pipeline.reasons import first_of_each_reason
from beam_pipeline.runner import resolve_runner
from beam_pipeline.runner.executor import DEFAULT_RUNNER
from beam_pipeline.typed_yaml import ConfigError

_OWN_FLAGS = ("--config", "--output", "--runner", "--fail_fast", "--read_with")
_SWITCHES = ("--fail_fast",)
USAGE = (
    "usage: python -m beam_pipeline curate --config CONFIG.yaml --output DIR [--runner NAME] [--fail_fast]\n"
    "       [any Beam option]\n"
    "       python -m beam_pipeline curate PATH... --output DIR [the same]\n"
    "  PATH       recordings, in place of --config: a configuration is guessed, written to DIR/config.yaml, and used\n"
    "  --config   YAML file that names sources, embodiments and stage parameters\n"
    "  --output   folder for episodes, transitions, ledger and summary (default: `output:` of the YAML)\n"
    "  --runner   DirectRunner (in process, default), RayRunner (on Ray), BundleBasedDirectRunner, PortableRunner\n"
    "             (with --job_endpoint), another Beam runner, or a fully-qualified class\n"
    "  --read_with  beam (in the pipeline, default) or ray_data (a Ray Data dataset, read before the pipeline runs)\n"
    "exit status: 0 done, 1 the run failed, 2 bad configuration or usage, 3 a gate failed, nothing published"
)


def split_paths(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """PATHs and the rest: a word is a PATH where it is no flag and does not follow one that takes a value."""
    paths: list[str] = []
    rest: list[str] = []
    takes_value = False
    for word in argv:
        flag = word.startswith("-")
        (rest if flag or takes_value else paths).append(word)
        takes_value = flag and "=" not in word and word not in _SWITCHES
    return paths, rest


def parse(argv: Sequence[str]) -> PipelineOptions:
    """Beam options of a command line; raises UsageError for a typo of one of our own flags."""
    try:
        options = PipelineOptions(list(argv))
        options.view_as(CurationOptions)
    except SystemExit as error:  # argparse exits by itself on a malformed flag
        raise UsageError("a flag is malformed; see above") from error
    refuse_misspelt(argv, _OWN_FLAGS)
    return options


def _configuration(paths: Sequence[str], own: CurationOptions, console: Console) -> str:
    """The file to run: --config, or what is guessed of PATHs and written to the output.

    Raises UsageError, NothingToCurate, OutputError.
    """
    if own.config and paths:
        raise UsageError(f"both --config and the PATH {paths[0]!r} are given; give one of them")
    if own.config:
        return str(own.config)
    if not paths:
        raise UsageError(f"--config is missing, and no PATH is given\n{USAGE}")
    if not own.output:
        raise UsageError("--output is missing: the folder for the guessed configuration and all results")
    output = Path(own.output).resolve()
    for path in map(Path, paths):
        refuse_nested(path.resolve(), output)
    guessed = guess_config(paths)
    config = keep_config(own.output, render(guessed))
    for line in summary(guessed):
        print_plain(console, line)
    print_plain(console, f"configuration: {config}")
    return str(config)


def refuse_nested(path: Path, output: Path) -> None:
    """Raises UsageError where a run would read what it writes."""
    if path.is_relative_to(output):
        raise UsageError(f"PATH {path} lies in --output {output}; name the recordings' own folder")
    if output.is_relative_to(path) and path.is_dir():
        raise UsageError(f"--output {output} lies in PATH {path}: the next run would read it; use another --output")


def run(arguments: Sequence[str]) -> int:
    """Run one curation job; returns the exit status."""
    console, errors = output_console(), error_console()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        paths, rest = split_paths(arguments)
        options = parse(rest)
        own = options.view_as(CurationOptions)
        runner = options.view_as(StandardOptions).runner or DEFAULT_RUNNER
        resolve_runner(runner)
        config = _configuration(paths, own, console)
        pipeline = MultimodalPipeline(PipelineConfig.load(config), console=console)
    except (UsageError, ConfigError, NothingToCurate, OutputError, ValueError) as error:
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
