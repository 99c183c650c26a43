"""`why`: one episode of a published folder in plain words, with its streams plotted around the place that decided.

Exit status: 0 done, 1 the folder or the episode cannot be explained, 2 bad usage, such as an unknown id.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from beam_pipeline.commands.command import BAD_USAGE, DONE, FAILED, error_console, output_console, print_plain
from beam_pipeline.curated import CuratedSet
from beam_pipeline.episode_steps import NoSteps, steps_of
from beam_pipeline.explanation import UnknownEpisode, explain
from beam_pipeline.explanation_plot import draw
from beam_pipeline.output_folder import SUMMARY, OutputError

USAGE = (
    "usage: python -m beam_pipeline why EPISODE --output DIR [--plot FILE.png] [--config CONFIG.yaml]\n"
    "  EPISODE    an episode_id of the ledger: kept, rejected, duplicate, quarantined or cut\n"
    "  --output   the curated folder\n"
    "  --plot     where the picture goes (default: EPISODE.png in the current folder, '/' as '_')\n"
    "  --config   names the source of an episode that was not kept (default: the last run's)\n"
    "exit status: 0 done, 1 it cannot be explained, 2 bad usage"
)


def run(arguments: Sequence[str]) -> int:
    """Explain one episode; returns the exit status."""
    console, errors = output_console(), error_console()
    parser = argparse.ArgumentParser("python -m beam_pipeline why", usage=USAGE.removeprefix("usage: "))
    parser.add_argument("episode")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--config", type=Path)
    try:
        given = parser.parse_args(list(arguments))
    except SystemExit as error:  # argparse exits by itself
        return int(error.code or 0)
    try:
        published = CuratedSet(given.output)
        told = explain(published, given.episode)
    except UnknownEpisode as error:
        errors.print(f"error: {error}", markup=False)
        return BAD_USAGE
    except OutputError as error:
        errors.print(f"error: {error}", markup=False)
        return FAILED
    for line in told.lines:
        print_plain(console, line)
    picture = given.plot or Path(given.episode.replace("/", "_") + ".png")
    try:
        steps = steps_of(published, told, given.config or _last_config(given.output))
        draw(steps.table, told, picture)
    except NoSteps as error:
        print_plain(console, f"no plot: {error}")
        return DONE
    except (ModuleNotFoundError, OSError) as error:
        errors.print(f"error: no plot: {error}", markup=False)
        return FAILED
    print_plain(console, f"plot: {picture} (steps {steps.origin})")
    return DONE


def _last_config(output: Path) -> Path | None:
    """The configuration of the last run, where its summary tells it."""
    summary = output / SUMMARY
    named = json.loads(summary.read_text(encoding="utf-8")).get("config") if summary.exists() else None
    return Path(named) if named else None
