"""How far a job is, stage by stage: snapshots for a host, a live table on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.table import Table

Show = Literal["auto", "log", "off"]
SHOWS: tuple[Show, ...] = ("auto", "log", "off")

_LOGGER = logging.getLogger(__name__)
_SUMMARY_S = 10.0
_DRAW_S = 0.25
_BEFORE_TABLE_S = 1.0
"""A job that ends sooner draws no table: it would only flicker."""
_ROWS = 20
_UNITS = ("kB", "MB", "GB", "TB")
_terminal = threading.Lock()
"""Held by the job whose table is on the terminal; further jobs of the process log instead."""


@dataclass(frozen=True, slots=True)
class StageProgress:
    """One stage so far, committed work only. `seconds`: summed over its workers; `bundles_known`: given out so far."""

    name: str
    label: str
    bundles_done: int
    bundles_known: int
    elements: int
    bytes_out: int
    seconds: float
    done: bool

    @property
    def state(self) -> str:
        """One of `done`, `running`, `waiting`."""
        if self.done:
            return "done"
        return "running" if self.bundles_known else "waiting"


@dataclass(frozen=True, slots=True)
class JobProgress:
    """A job so far: its stages from upstream to downstream, the workers alive, wall seconds since it began."""

    stages: tuple[StageProgress, ...]
    workers: int
    seconds: float


class _Counts:
    __slots__ = ("bundles_done", "bundles_known", "bytes_out", "done", "elements", "label", "seconds")

    def __init__(self, label: str) -> None:
        self.label = label
        self.bundles_done = 0
        self.bundles_known = 0
        self.elements = 0
        self.bytes_out = 0
        self.seconds = 0.0
        self.done = False


class Progress:
    """Counts what the driver tells, and shows it while inside the context.

    `show`: `auto` draws a table on standard error where that is a terminal and logs elsewhere; `log` always logs (at
    INFO, a line per finished stage and a summary every 10 s); `off` does neither, for a host that draws `snapshot()`.
    """

    def __init__(self, show: Show = "auto") -> None:
        self._show = show
        self._lock = threading.Lock()
        self._stages: dict[str, _Counts] = {}
        self._workers = 0
        self._began = time.monotonic()
        self._ended: float | None = None
        self._draws = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Progress:
        self._began = time.monotonic()
        if self._show != "off":
            self._draws = self._show == "auto" and sys.stderr.isatty() and _terminal.acquire(blocking=False)
            target = self._table if self._draws else self._lines
            self._thread = threading.Thread(target=target, name="ray-runner-progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = time.monotonic()
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._draws:
            _terminal.release()

    def stage_added(self, name: str, label: str) -> None:
        with self._lock:
            self._stages[name] = _Counts(label)

    def bundle_started(self, name: str) -> None:
        """A bundle is given out for the first time."""
        with self._lock:
            self._stages[name].bundles_known += 1

    def bundle_committed(self, name: str, elements: int, bytes_out: int, seconds: float) -> None:
        with self._lock:
            counts = self._stages[name]
            counts.bundles_done += 1
            counts.elements += elements
            counts.bytes_out += bytes_out
            counts.seconds += seconds

    def stage_done(self, name: str) -> None:
        with self._lock:
            counts = self._stages[name]
            counts.done = True
        if self._show != "off" and not self._draws:
            _LOGGER.info("stage %s done: %s", counts.label, _told(_frozen(name, counts)))

    def workers_alive(self, workers: int) -> None:
        """How many workers, of all pools, the job has now."""
        self._workers = workers

    def snapshot(self) -> JobProgress:
        """The job as it is now; any thread may ask at any time."""
        with self._lock:
            stages = tuple(_frozen(name, counts) for name, counts in self._stages.items())
        return JobProgress(stages, self._workers, (self._ended or time.monotonic()) - self._began)

    def _lines(self) -> None:
        while not self._stop.wait(_SUMMARY_S):
            _LOGGER.info("%s", summary(self.snapshot()))

    def _table(self) -> None:
        if self._stop.wait(_BEFORE_TABLE_S):
            return
        from rich.console import Console
        from rich.live import Live

        with Live(table(self.snapshot()), console=Console(stderr=True), auto_refresh=False, transient=True) as live:
            while not self._stop.wait(_DRAW_S):
                live.update(table(self.snapshot()), refresh=True)


def summary(job: JobProgress) -> str:
    """The job in one line: what is done, then every stage that runs."""
    finished = sum(stage.done for stage in job.stages)
    running = "; ".join(f"{s.label}: {_told(s)}" for s in job.stages if s.state == "running") or "none"
    return (
        f"{job.seconds:.0f} s: {finished} of {len(job.stages)} stages done, {job.workers} workers; running: {running}"
    )


def table(job: JobProgress) -> Table:
    """The stages as a table, at most 20 rows: finished stages give way to those that run, then waiting ones."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    order = {"running": 0, "waiting": 1, "done": 2}
    shown = sorted(range(len(job.stages)), key=lambda i: (order[job.stages[i].state], i))[:_ROWS]
    hidden = len(job.stages) - len(shown)
    drawn = Table(
        box=SIMPLE_HEAD, expand=True, title_justify="left", title=f"{job.seconds:.0f} s, {job.workers} workers"
    )
    drawn.add_column("stage", no_wrap=True, overflow="ellipsis", ratio=1)
    for name in ("bundles", "elements", "bytes", "worker s", "state"):
        drawn.add_column(name, justify="right", no_wrap=True)
    for stage in (job.stages[i] for i in sorted(shown)):
        drawn.add_row(
            stage.label.replace("[", r"\["),
            f"{stage.bundles_done}/{stage.bundles_known}",
            f"{stage.elements}",
            _size(stage.bytes_out),
            f"{stage.seconds:.1f}",
            stage.state,
        )
    if hidden:
        drawn.caption = f"{hidden} more stages"
    return drawn


def _frozen(name: str, counts: _Counts) -> StageProgress:
    return StageProgress(
        name,
        counts.label,
        counts.bundles_done,
        counts.bundles_known,
        counts.elements,
        counts.bytes_out,
        counts.seconds,
        counts.done,
    )


def _told(stage: StageProgress) -> str:
    return (
        f"{stage.bundles_done}/{stage.bundles_known} bundles, {stage.elements} elements, "
        f"{_size(stage.bytes_out)}, {stage.seconds:.1f} s of work"
    )


def _size(nbytes: int) -> str:
    value, unit = float(nbytes), "B"
    for larger in _UNITS:
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"
