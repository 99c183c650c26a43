"""What a person sees while a run works and when it ends: live on a terminal, plain lines otherwise."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from beam_pipeline.runner.progress import JobProgress, summary, table
from beam_pipeline.summary import SourceOutcomes

_POLL_S = 0.25
_LINE_S = 10.0
_IDLE_SHARE = 20
"""Rest between counts in multiples of what a count takes: a folder of a million episodes is slow to list."""


class ProgressDisplay:
    """Shows staged episodes against planned ones while inside the context.

    `planned` and `staged` are counted from the staging folder, so the display is right with any number of worker
    processes that share it. `job` tells of the runner's stages, where the runner does.
    """

    def __init__(
        self,
        console: Console,
        planned: Callable[[], int],
        staged: Callable[[], int],
        job: Callable[[], JobProgress | None] = lambda: None,
    ) -> None:
        self._console = console
        self._planned = planned
        self._staged = staged
        self._job = job
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live if console.is_terminal else self._lines, daemon=True)

    def __enter__(self) -> ProgressDisplay:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _live(self) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with _WithStages(*columns, job=self._job, console=self._console) as progress:
            task = progress.add_task("planning", total=None)
            spent_s = 0.0
            while True:
                stopping = self._stop.wait(max(_POLL_S, _IDLE_SHARE * spent_s))
                began = time.monotonic()
                planned, staged = self._planned(), self._staged()
                spent_s = time.monotonic() - began
                doing = "planning" if not planned else "measuring" if staged < planned else "deciding and writing"
                progress.update(task, total=planned or None, completed=staged, description=doing)
                if stopping:
                    return

    def _lines(self) -> None:
        started = time.monotonic()
        while not self._stop.wait(_LINE_S):
            seconds = time.monotonic() - started
            self._console.print(f"{seconds:.0f} s: {self._staged()} of {self._planned()} planned recordings measured")
            job = self._job()
            if job is not None:
                self._console.print(f"  runner, {summary(job)}", soft_wrap=True, markup=False, highlight=False)


class _WithStages(Progress):
    """The bar, and below it the stages at work of a runner that tells of them."""

    def __init__(self, *columns: ProgressColumn, job: Callable[[], JobProgress | None], console: Console) -> None:
        self._job = job
        super().__init__(*columns, console=console, transient=True)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        job = self._job()
        if job is not None:
            done = sum(stage.done for stage in job.stages)
            yield Text(f"  {done} of {len(job.stages)} stages done")
            yield table(replace(job, stages=tuple(stage for stage in job.stages if stage.state == "running")))


def outcome_table(outcomes: Sequence[SourceOutcomes]) -> Table:
    """Outcomes per source, one row each and a total."""
    table = Table(title="Outcomes per source", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("source", overflow="fold")
    kinds = ("planned", "kept", "rejected", "duplicate", "quarantined", "cut")
    for kind in kinds:
        table.add_column(kind, justify="right", no_wrap=True)
    for row in outcomes:
        table.add_row(row.source, *(str(getattr(row, kind)) for kind in kinds))
    if len(outcomes) > 1:
        table.add_section()
        table.add_row("all", *(str(sum(getattr(row, kind) for row in outcomes)) for kind in kinds))
    return table


def print_outcomes(
    console: Console, outcomes: Sequence[SourceOutcomes], files: Sequence[tuple[str, Path]], reasons: Sequence[str]
) -> None:
    """The table of outcomes, one example of each reason, then where the files are; absent files are not named."""
    if console.is_terminal:
        console.print(outcome_table(outcomes))
    else:
        for row in outcomes:
            why = ", ".join(f"{rule} {count}" for rule, count in row.reasons) or "none"
            console.print(
                f"{row.source}: planned {row.planned}, kept {row.kept}, rejected {row.rejected}, "
                f"duplicate {row.duplicate}, quarantined {row.quarantined}, cut {row.cut}; not kept for: {why}",
                soft_wrap=True,
            )
    if reasons:
        console.print("not kept, by reason and source, with the first of each:", soft_wrap=True)
    for reason in reasons:
        console.print(f"  {reason}", soft_wrap=True, markup=False, highlight=False)
    if outcomes and not any(row.kept for row in outcomes):
        console.print("nothing was kept", soft_wrap=True)
    for what, path in files:
        if path.exists():
            console.print(f"{what}: {path}", soft_wrap=True, markup=False)
