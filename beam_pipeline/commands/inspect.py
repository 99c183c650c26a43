"""`inspect`: what recordings are and where their metadata and files disagree, from headers and footers alone.

Exit status: 0 no errors (warnings do not fail), 1 errors were found, 2 bad usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import msgspec

from beam_pipeline.commands.command import BAD_USAGE, DONE, FAILED, error_console, output_console, print_plain
from beam_pipeline.inspection.inspect import inspect_path
from beam_pipeline.inspection.report import DatasetReport
from beam_pipeline.inspection.text import print_reports
from transforms.stores.urls import is_url

USAGE = (
    "usage: python -m beam_pipeline inspect PATH... [--json]\n"
    "  PATH    a data set, a file, or a folder or glob of them, in any format that is read\n"
    "  --json  everything as one JSON object on standard output\n"
    "exit status: 0 no errors (warnings do not fail), 1 errors were found, 2 bad usage"
)


class Inspection(msgspec.Struct, frozen=True):
    """What --json prints."""

    datasets: tuple[DatasetReport, ...]
    errors: int
    warnings: int
    notes: int


def run(arguments: Sequence[str]) -> int:
    """Inspect every path; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m beam_pipeline inspect", usage=argparse.SUPPRESS, add_help=False)
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--json", action="store_true")
    try:
        options = parser.parse_args(arguments)
    except SystemExit:  # argparse has said why and exits by itself
        print_plain(error_console(), USAGE)
        return BAD_USAGE
    if not options.paths:
        print_plain(error_console(), f"error: inspect needs a PATH\n{USAGE}")
        return BAD_USAGE
    if url := next(filter(is_url, options.paths), None):
        print_plain(error_console(), f"error: {url}: inspect reads local files alone; `curate` reads URLs")
        return BAD_USAGE
    reports = [report for path in options.paths for report in inspect_path(path)]
    severities = [notice.severity for report in reports for notice in report.notices]
    if options.json:
        found = Inspection(tuple(reports), *(severities.count(s) for s in ("error", "warning", "note")))
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n")
    else:
        print_reports(output_console(), reports)
    return FAILED if "error" in severities else DONE
