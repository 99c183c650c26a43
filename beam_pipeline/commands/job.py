"""What the commands that run the job share: options, the job that they name, and what came of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from rich.console import Console

from beam_pipeline.commands.command import (
    BAD_USAGE,
    DONE,
    FAILED,
    GATE_FAILED,
    UsageError,
    print_plain,
    refuse_misspelt,
)
from beam_pipeline.config import PipelineConfig
from beam_pipeline.metrics import of_outcomes, of_summary
from beam_pipeline.metrics_push import RunReport
from beam_pipeline.options import CurationOptions
from beam_pipeline.pipeline import GatesFailed, MultimodalPipeline, RunResult
from beam_pipeline.preflight import UnfitRunner
from beam_pipeline.progress import print_outcomes
from beam_pipeline.publish import OutputError
from beam_pipeline.read_again import UnreadableEpisodes
from beam_pipeline.reasons import first_of_each_reason
from beam_pipeline.runner import resolve_runner, status_of_interrupted
from beam_pipeline.runner.executor import DEFAULT_RUNNER
from beam_pipeline.store_output import newest_stored, publish_to_store
from transforms.stores.urls import SCHEMES, is_url
from transforms.unreadable import Unreadable
from transforms.verdicts import VerdictError


def parse(argv: Sequence[str], flags: Sequence[str]) -> PipelineOptions:
    """Beam options of a command line; raises UsageError for a typo of one of our own flags."""
    try:
        options = PipelineOptions(list(argv))
        options.view_as(CurationOptions)
    except SystemExit as error:  # argparse exits by itself on a malformed flag
        raise UsageError("a flag is malformed; see above") from error
    refuse_misspelt(argv, flags)
    return options


def config_of(options: PipelineOptions, usage: str) -> str:
    """The configuration's path; raises UsageError where none is given."""
    config = options.view_as(CurationOptions).config
    if not config:
        raise UsageError(f"--config is missing\n{usage}")
    return str(config)


def prepare(
    options: PipelineOptions, config: str, console: Console, sources_present: bool = True
) -> tuple[MultimodalPipeline, str]:
    """The job of a configuration, and its runner; raises ConfigError, UsageError, and ValueError for the runner.

    Flags that neither we nor Beam nor the runner know are warned of, not refused: schedulers add some of their own.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    runner = options.view_as(StandardOptions).runner or DEFAULT_RUNNER
    resolve_runner(runner)
    try:
        options.get_all_options()
    except SystemExit as error:  # of a malformed flag argparse says why, and exits by itself
        raise UsageError("a flag is malformed; see above") from error
    return MultimodalPipeline(PipelineConfig.load(config, sources_present), console=console), runner


def check_publish(url: str | None) -> None:
    """Ask a store, before any work, whether an output may be published at a URL.

    Raises UsageError for what is no URL, where other things lie there, and where the store does not answer or refuses
    the credentials.
    """
    if url is None:
        return
    if not is_url(url):
        known = " or ".join(f"{scheme}://" for scheme in SCHEMES)
        raise UsageError(f"--publish {url} is no URL of a store; give {known}")
    try:
        newest_stored(url)
    except (OutputError, Unreadable, ModuleNotFoundError) as error:
        raise UsageError(f"--publish {url}: {error}") from error


def finish(
    work: Callable[[], RunResult], console: Console, errors: Console, report: RunReport, publish: str | None = None
) -> int:
    """Run what publishes, to a store too where a URL is given; tell what came of it, and give the exit status."""
    try:
        result = work()
    except (UnfitRunner, OutputError, VerdictError) as error:
        errors.print(f"error: {error}", markup=False)
        return report.failed(BAD_USAGE)
    except UnreadableEpisodes as error:
        errors.print(f"nothing was published: {error}", markup=False)
        return report.failed(FAILED)
    except GatesFailed as error:
        page = [("report", error.report)]
        print_outcomes(console, error.outcomes, page, first_of_each_reason(error.ledger, error.outcomes))
        errors.print(f"gate failed, nothing was published: {error}", markup=False)
        errors.print("the evidence is stored: `decide` takes other rules and gates without measuring again")
        return report.failed(GATE_FAILED, of_outcomes(error.outcomes), error.failures)
    except KeyboardInterrupt as error:
        errors.print("interrupted; nothing was published", markup=False)
        return report.failed(status_of_interrupted(error))
    places = ("episodes", "transitions", "ledger", "evidence", "run_summary.json", "report.html")
    files = [(place.partition(".")[0].replace("run_", ""), result.output / place) for place in places]
    print_outcomes(console, result.outcomes, files, first_of_each_reason(result.output / "ledger", result.outcomes))
    for warning in result.warnings:
        errors.print(f"warning: {warning}", markup=False)
    if publish is not None and send(result.output, publish, console, errors) != DONE:
        return report.failed(FAILED)
    report.succeeded(of_summary(result.summary))
    return DONE


def send(folder: Path, url: str, console: Console, errors: Console) -> int:
    """Publish an output folder to a store; returns the exit status."""
    try:
        done = publish_to_store(folder, url)
    except (OutputError, Unreadable, ModuleNotFoundError) as error:
        print_plain(errors, f"error: {error}\nagain: python -m beam_pipeline publish {folder} {url}")
        return FAILED
    sent = f"{done.uploaded} files, {done.uploaded_bytes / 1e6:.1f} MB sent" if done.new else "it held the same already"
    print_plain(console, f"{done.url}: manifest {done.manifest.number}, {len(done.manifest.files)} files; {sent}")
    return DONE
