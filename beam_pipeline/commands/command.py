"""What all commands share: exit statuses, the two consoles, and the error of a command line that cannot be run."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from rich.console import Console

DONE, FAILED, BAD_USAGE, GATE_FAILED = 0, 1, 2, 3


class UsageError(Exception):
    """A command line that cannot be run."""


def output_console() -> Console:
    """Where results go."""
    return Console()


def error_console() -> Console:
    """Where errors go: lines are never broken, so that a path can be copied."""
    return Console(stderr=True, soft_wrap=True, highlight=False)


def print_plain(console: Console, text: str) -> None:
    """Text as it is: no markup, no colours, no broken lines."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def refuse_misspelt(words: Iterable[str], flags: Iterable[str]) -> None:
    """Raises UsageError where a word is nearly one of our own flags, which Beam would take for one of its own."""
    own = tuple(flags)
    for word in words:
        flag = word.split("=")[0]
        if flag.startswith("--") and flag not in own:
            close = difflib.get_close_matches(flag, own, n=1, cutoff=0.8)
            if close:
                raise UsageError(f"unknown flag {flag}; did you mean {close[0]}?")
