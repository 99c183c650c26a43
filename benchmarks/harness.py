"""What every benchmark prints: a table of rows, the bars they are held to, the versions of both sides.

`--json FILE` writes the same as JSON; `--check` exits 1 where a bar falls short, and the last line says which.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One measured quantity; `value` None where it could not be measured, `note` says why."""

    name: str
    value: float | None
    unit: str
    note: str = ""


@dataclass(frozen=True)
class Bar:
    """A limit on one row: `min` means at least, `max` at most. `binding` False prints the verdict, never fails."""

    row: str
    kind: Literal["min", "max"]
    limit: float
    binding: bool = True

    def passes(self, value: float) -> bool:
        """Whether a measured value is on the right side of the limit."""
        return value >= self.limit if self.kind == "min" else value <= self.limit


@dataclass(frozen=True)
class Report:
    """All that a benchmark found, with the command that made it."""

    title: str
    rows: Sequence[Row]
    bars: Sequence[Bar] = ()
    versions: Sequence[str] = ()
    command: str = field(default_factory=lambda: _command(sys.argv[1:]))


def _command(words: Sequence[str]) -> str:
    """The command as one may give it anywhere: of an absolute path its name."""
    return " ".join(["python -m", _module(), *(re.sub(r"(^|=)/.*/", r"\1", word) for word in words)])


def _module() -> str:
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    return spec.name if spec else "benchmarks"


def timed(work: Callable[[], object]) -> float:
    """CPU seconds of this process for one call (`time.process_time`)."""
    started = time.process_time()
    work()
    return time.process_time() - started


def package_versions(*names: str) -> list[str]:
    """`name version` of installed packages."""
    found = []
    for name in names:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return found


def parser(description: str) -> argparse.ArgumentParser:
    """An argument parser with the flags that every benchmark has."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON")
    arguments.add_argument("--check", action="store_true", help="exit 1 where a bar falls short")
    return arguments


def _verdict(bar: Bar, value: float | None) -> str:
    sign = ">=" if bar.kind == "min" else "<="
    if value is None:
        return f"bar {sign} {bar.limit:g}: not measured"
    return f"bar {sign} {bar.limit:g}: {'met' if bar.passes(value) else 'MISSED'}"


def finish(report: Report, json_path: Path | None, check: bool) -> int:
    """Print, write, judge; returns the exit status."""
    console = Console(soft_wrap=True)
    table = Table(title=report.title, title_justify="left")
    for column in ("what", "value", "unit", "bar", "note"):
        table.add_column(column, justify="right" if column == "value" else "left", overflow="fold")
    verdicts = {bar.row: bar for bar in report.bars}
    for row in report.rows:
        bar = verdicts.get(row.name)
        value = "-" if row.value is None else f"{row.value:.4g}"
        table.add_row(row.name, value, row.unit, _verdict(bar, row.value) if bar else "", row.note)
    console.print(table)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    console.print(f"command: {report.command}", markup=False)
    console.print(f"machine: {machine}; {', '.join(report.versions)}", markup=False)
    if json_path is not None:
        json_path.write_text(json.dumps({**asdict(report), "machine": machine}, indent=2) + "\n", encoding="utf-8")
    values = {row.name: row.value for row in report.rows}
    short = []
    for bar in report.bars:
        value = values.get(bar.row)
        if value is not None and bar.binding and not bar.passes(value):
            short.append(f"{bar.row} is {value:.4g}, bar {'>=' if bar.kind == 'min' else '<='} {bar.limit:g}")
    if check and short:
        console.print("falls short: " + "; ".join(short), markup=False)
        return 1
    console.print(
        "every measured binding bar is met" if not short else "bars missed: " + "; ".join(short), markup=False
    )
    return 0
