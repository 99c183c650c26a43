"""Command line: `python -m beam_pipeline [COMMAND] ...`; without a command it curates."""

from __future__ import annotations

import difflib
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from beam_pipeline.commands.command import BAD_USAGE, DONE, error_console, output_console, print_plain

CURATE = "curate"
COMMANDS = {
    CURATE: "raw recordings in, training-ready episodes out",
    "evidence": "the first half: measure all sources, or one, and store what decides about them",
    "decide": "the second half: decide by stored evidence, with other thresholds or verdicts, and publish",
    "why": "why an episode was kept, rejected, dropped, quarantined or cut, with its streams plotted",
    "inspect": "what recordings are, and where their metadata and files disagree",
    "export": "a curated folder as a data set that training code loads",
    "split": "train, val and test for a published output, near copies kept together",
    "dedup": "exact and near copies among the rows of any Parquet files, and which of them stay",
    "publish": "a curated folder to gs:// or s3://, as a commit of its own, and back",
    "report": "the page of a published folder, drawn anew",
}
"""Each is a module of `beam_pipeline.commands`, imported where it is asked for."""


def usage() -> str:
    """The commands in a line each, then what curating takes."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {what}" for name, what in COMMANDS.items()]
    head = [
        "usage: python -m beam_pipeline [COMMAND] ...",
        *lines,
        "Each has --help. Without a command it curates:",
        "",
    ]
    return "\n".join(head) + import_module(f"beam_pipeline.commands.{CURATE}").USAGE


def _is_news(record: logging.LogRecord) -> bool:
    """Beam looks for BigQuery's clients wherever packages of Google's are, and warns at every start."""
    return not str(record.msg).startswith("apitools not found")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    logging.getLogger().addFilter(_is_news)
    # Arrow's own allocator asks for huge pages, which cost the system seconds where memory is scattered
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print_plain(output_console(), usage())
        return DONE if arguments else BAD_USAGE
    name = arguments[0]
    if name.startswith("-"):
        name, arguments = CURATE, [CURATE, *arguments]
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(COMMANDS)}"
        print_plain(error_console(), f"error: there is no command {name!r}; {hint}")
        return BAD_USAGE
    command = import_module(f"beam_pipeline.commands.{name.replace('-', '_')}")
    if {"-h", "--help"} & set(arguments[1:]):
        print_plain(output_console(), command.USAGE)
        return DONE
    status: int = command.run(arguments[1:])
    return status


if __name__ == "__main__":
    sys.exit(main())
