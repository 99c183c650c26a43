"""What user code logs, warns of or prints in a worker is told in the driver, with the bundle it came from."""

from __future__ import annotations

import io
import logging
import pickle
import sys
import warnings
from collections.abc import Callable
from typing import Any, TextIO

from beam_pipeline.runner.worker.caught import Caught

_MOST = 1000
_PLAIN = (str, int, float, type(None))


class Relay(logging.Handler):
    """Collects the log records, warnings and printed lines of this process, at most 1,000 between two `take`s."""

    def __init__(self) -> None:
        super().__init__()
        self._items: list[tuple[str, Any]] = []
        self._left_out = 0

    def install(self) -> None:
        """Become this process's root log handler, its warnings' printer and its standard output."""
        root = logging.getLogger()
        root.addHandler(self)
        warnings.showwarning = self._warn
        sys.stdout = _Lines(sys.stdout, self._print)

    def set_level(self, level: int) -> None:
        """From which level on records are told."""
        logging.getLogger().setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        told = {name: value for name, value in record.__dict__.items() if isinstance(value, _PLAIN)}
        told["msg"], told["args"] = record.getMessage(), None
        if record.exc_info:
            told["exc_text"] = logging.Formatter().formatException(record.exc_info)
        self._add("log", told)

    def take(self) -> bytes | None:
        """Pickled for `retell`, and forgotten here; None where there is nothing to tell."""
        items, self._items = self._items, []
        if self._left_out:
            items.append(("print", f"({self._left_out} more lines of a bundle are not shown)\n"))
            self._left_out = 0
        if not items:
            return None
        with Caught():  # a warning may hold anything
            return pickle.dumps(items)
        return pickle.dumps([(kind, item) for kind, item in items if kind != "warning"])

    def _add(self, kind: str, item: Any) -> None:
        if len(self._items) < _MOST:
            self._items.append((kind, item))
        else:
            self._left_out += 1

    def _print(self, line: str) -> None:
        self._add("print", line)

    def _warn(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        self._add("warning", (message, category, filename, lineno))


def retell(told: bytes | None) -> None:
    """Log, warn and print in this process what a worker told."""
    if told is None:
        return
    items: list[tuple[str, Any]] = []
    with Caught():  # the worker's code may know classes that this process does not
        items = pickle.loads(told)
    for kind, item in items:
        if kind == "log":
            record = logging.makeLogRecord(item)
            logger = logging.getLogger(record.name)
            if logger.isEnabledFor(record.levelno):
                logger.handle(record)
        elif kind == "warning":
            message, category, filename, lineno = item
            warnings.warn_explicit(message, category, filename, lineno)
        else:
            print(item, end="")


class _Lines(io.TextIOBase):
    """Standard output that hands on whole lines, and writes them to the worker's log file too."""

    def __init__(self, under: TextIO, take: Callable[[str], None]) -> None:
        self._under = under
        self._take = take
        self._open = ""

    def write(self, text: str) -> int:
        self._under.write(text)
        *lines, self._open = (self._open + text).split("\n")
        for line in lines:
            self._take(f"{line}\n")
        return len(text)

    def flush(self) -> None:
        self._under.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._under.fileno()
