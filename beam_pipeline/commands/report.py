"""`report`: draws the page of a published folder anew."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from beam_pipeline.commands.command import BAD_USAGE, DONE, error_console, output_console, print_plain
from beam_pipeline.output_folder import OutputError
from beam_pipeline.report.make import remake

USAGE = (
    "usage: python -m beam_pipeline report --output DIR\n"
    "  --output   a folder that a run published into; its report.html is drawn anew from the tables there\n"
    "exit status: 0 done, 2 bad usage, or a folder that holds no run"
)


def run(arguments: Sequence[str]) -> int:
    """Draw the report; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m beam_pipeline report", usage=USAGE.removeprefix("usage: "))
    parser.add_argument("--output", required=True)
    try:
        given = parser.parse_args(list(arguments))
    except SystemExit as error:  # argparse says why and exits by itself
        return int(error.code or 0)
    try:
        place = remake(given.output)
    except OutputError as error:
        print_plain(error_console(), f"error: {error}")
        return BAD_USAGE
    print_plain(output_console(), f"report: {place}")
    return DONE
