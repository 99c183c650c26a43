"""The pipelines of one run on one runner, what is shown while they work, and the summary of it all."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console

from beam_pipeline.config import PipelineConfig
from beam_pipeline.decision import Plan
from beam_pipeline.joint_limits import joint_limits
from beam_pipeline.preflight import check_runner
from beam_pipeline.progress import ProgressDisplay
from beam_pipeline.runner import PipelineExecutor, RayOptions
from beam_pipeline.summary import RunSummary, stage_counts, table_sizes
from transforms.children import STAGE as BOUNDARY
from transforms.output_files import PartReport
from transforms.staging import STAGED

PLAN = "plan"
"""Folder of the staging area that holds how many recordings each source planned."""


def one_display(options: PipelineOptions, console: Console) -> PipelineOptions:
    """The options; where our own display is seen, RayRunner draws none of its own beside it."""
    if console.quiet or options.view_as(RayOptions).ray_progress != "auto":
        return options
    quiet = copy.deepcopy(options)
    quiet.view_as(RayOptions).ray_progress = "off"
    return quiet


class Work:
    """The pipelines of one run on one runner: their counters, and the summary of it all."""

    def __init__(self, config: PipelineConfig, console: Console, runner: str, options: PipelineOptions | None) -> None:
        self._started = datetime.now(UTC)
        options = options or PipelineOptions([])
        check_runner(runner, options)
        self._config, self._console, self._runner = config, console, runner
        self._executor = PipelineExecutor(runner, one_display(options, console))
        self.counters: Counter[str] = Counter()
        self.version = version("demosift")

    def run(self, build: Callable[[beam.Pipeline], None], staging: Path | None = None) -> None:
        """Run one pipeline; its progress is shown where it has a staging area to tell it by."""
        if staging is None:
            self.counters.update(self._executor.run(build).counters)
            return
        with ProgressDisplay(self._console, Planned(staging), Staged(staging), self._executor.progress):
            self.counters.update(self._executor.run(build).counters)

    def summary(self, plan: Plan, files: Sequence[PartReport]) -> RunSummary:
        """The run so far, as the last that is to be said of it."""
        ended = datetime.now(UTC)
        for count in plan.counts:
            if count.outcome in ("kept", "rejected", "duplicate") and count.stage != BOUNDARY:
                self.counters[f"demosift:select.{count.outcome}"] += count.count
        return RunSummary(
            started=self._started.isoformat(),
            ended=ended.isoformat(),
            wall_s=(ended - self._started).total_seconds(),
            config_hash=self._config.config_hash,
            code_version=self.version,
            runner=self._runner,
            outcomes=plan.outcomes,
            counts=plan.counts,
            sizes=tuple(table_sizes(files)),
            stages=tuple(stage_counts(self.counters)),
            config=self._config.file,
            joints=joint_limits(self._config),
        )


class Planned:
    """Recordings planned so far, over all sources."""

    def __init__(self, staging: Path) -> None:
        self._folder = staging / PLAN

    def __call__(self) -> int:
        return sum(int(p.read_text() or 0) for p in self._folder.iterdir()) if self._folder.is_dir() else 0


class Staged:
    """Episodes measured so far."""

    def __init__(self, staging: Path) -> None:
        self._folder = staging / STAGED

    def __call__(self) -> int:
        return sum(1 for _ in self._folder.iterdir()) if self._folder.is_dir() else 0
