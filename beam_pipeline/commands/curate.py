"""`curate`: a configuration in, a curated output out.

Exit status: 0 done, 1 the run failed (with its traceback), 2 bad configuration or usage, 3 a gate failed and nothing
was published.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from beam_pipeline.commands.command import BAD_USAGE, UsageError, error_console, output_console, print_plain
from beam_pipeline.commands.job import check_publish, finish, parse, prepare
from beam_pipeline.guessing.guess import NothingToCurate, guess_config, render, summary
from beam_pipeline.metrics_push import PUSH_FLAGS, PUSH_USAGE, run_report
from beam_pipeline.options import CurationOptions
from beam_pipeline.output_folder import OutputError, keep_config, refuse_url
from beam_pipeline.typed_yaml import ConfigError
from transforms.stores.urls import is_url

_OWN_FLAGS = ("--config", "--output", "--publish", "--runner", "--fail_fast", "--read_with", *PUSH_FLAGS)
_SWITCHES = ("--fail_fast",)
USAGE = (
    "usage: python -m beam_pipeline curate --config CONFIG.yaml --output DIR [--runner NAME] [--fail_fast]\n"
    "       [any Beam option]\n"
    "       python -m beam_pipeline curate PATH... --output DIR [the same]\n"
    "  PATH       recordings, in place of --config: a configuration is guessed, written to DIR/config.yaml, and used\n"
    "  --config   YAML file that names sources, embodiments and stage parameters\n"
    "  --output   folder for episodes, transitions, ledger and summary (default: `output:` of the YAML)\n"
    "  --publish  gs:// or s3:// URL, to which the output is published too, as `publish` does\n"
    "  --runner   DirectRunner (in process, default), RayRunner (on Ray), BundleBasedDirectRunner, PortableRunner\n"
    "             (with --job_endpoint), another Beam runner, or a fully-qualified class\n"
    "  --read_with  beam (in the pipeline, default) or ray_data (a Ray Data dataset, read before the pipeline runs)\n"
    f"{PUSH_USAGE}"
    "exit status: 0 done, 1 the run failed, 2 bad configuration or usage, 3 a gate failed, nothing published,\n"
    "             130 and 143 interrupted by Ctrl-C and SIGTERM, nothing published"
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
    refuse_url(own.output)
    output = Path(own.output).resolve()
    if url := next(filter(is_url, paths), None):
        raise UsageError(f"PATH {url}: only local files are guessed about; write a configuration with `path: {url}`")
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
    try:
        paths, rest = split_paths(arguments)
        options = parse(rest, _OWN_FLAGS)
        own = options.view_as(CurationOptions)
        if own.source:
            raise UsageError("curate takes all sources; --source is a flag of `evidence`")
        report = run_report(own, "curate", errors)
    except (UsageError, ValueError) as error:
        errors.print(f"error: {error}", markup=False)
        return BAD_USAGE
    with report:
        try:
            check_publish(own.publish)
            pipeline, runner = prepare(options, _configuration(paths, own, console), console)
        except (UsageError, ConfigError, NothingToCurate, OutputError, ValueError) as error:
            errors.print(f"error: {error}", markup=False)
            return report.failed(BAD_USAGE)
        return finish(
            lambda: pipeline.run(own.output, runner, options, fail_fast=own.fail_fast, read_with=own.read_with),
            console,
            errors,
            report,
            own.publish,
        )
