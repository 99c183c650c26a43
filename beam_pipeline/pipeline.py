"""MultimodalPipeline: the whole graph on one screen, and one run of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.error_handling import CollectingErrorHandler
from rich.console import Console

from beam_pipeline.config import PipelineConfig
from beam_pipeline.load_recordings import LoadRecordings
from beam_pipeline.options import DEFAULT_READ, ReadWith
from beam_pipeline.output_folder import MANIFESTS, REPORT
from beam_pipeline.preflight import check_runner
from beam_pipeline.progress import ProgressDisplay
from beam_pipeline.publish import GateFailure, Output, OutputError, check_gates, open_output, publish
from beam_pipeline.report.make import report_files
from beam_pipeline.runner import PipelineExecutor, PipelineLifecycleManager, RayOptions
from beam_pipeline.runner.executor import DEFAULT_RUNNER
from beam_pipeline.summary import RunSummary, SourceOutcomes, stage_counts, summarise, table_sizes
from transforms.column_types import CheckColumnTypes
from transforms.dedup import GPUDeduplicator
from transforms.episode_boundary import EpisodeBoundaryDetector
from transforms.evidence import Decision, Evidence, Fingerprint, LedgerRow
from transforms.instruction_grounding import InstructionGroundingStage
from transforms.ledger import WriteEvidence, WriteLedger, from_dead_letter, from_decision
from transforms.loader import read_images
from transforms.output_files import LEDGER, OUT, source_roots
from transforms.physics import PhysicsValidator
from transforms.quality import DataQualityScorer
from transforms.reports import WriteCounts, WriteReports, read_counts, read_reports
from transforms.select import Select
from transforms.sinks import WriteKept
from transforms.source_paths import expand
from transforms.stage import EpisodeStage
from transforms.staging import STAGED, StageEpisode
from transforms.temporal_alignment import TemporalAlignmentStage
from transforms.transition_alignment import TransitionAlignmentStage

PLAN = "plan"
"""Folder of the staging area that holds how many recordings each source planned."""


@dataclass(frozen=True)
class RunResult:
    """What a run came to: where its files are, outcomes per source, Beam's committed counters."""

    output: Path
    manifest: Path
    outcomes: tuple[SourceOutcomes, ...]
    counters: Mapping[str, int]
    files: tuple[Path, ...]


class GatesFailed(Exception):
    """A gate of the configuration failed: nothing was published; `ledger` and `report` are what would have been."""

    def __init__(self, failures: list[GateFailure], outcomes: list[SourceOutcomes], ledger: Path, report: Path) -> None:
        super().__init__("; ".join(str(failure) for failure in failures))
        self.ledger = ledger
        self.report = report
        self.failures = failures
        self.outcomes = outcomes


class MultimodalPipeline:
    """Curates what a configuration names: `MultimodalPipeline(PipelineConfig.load(path)).run()`."""

    def __init__(self, config: PipelineConfig, console: Console | None = None) -> None:
        self._config = config
        self._console = console or Console(stderr=True, quiet=True)

    def build(
        self, pipeline: beam.Pipeline, staging: Path, fail_fast: bool = False, read_with: ReadWith = DEFAULT_READ
    ) -> None:
        """Add the whole graph to a pipeline; its files go below `staging`, which every worker must share.

        With Ray Data the recordings are read here, before the pipeline runs.
        """
        config, folder = self._config, str(staging)
        roots = source_roots(config.sources)
        load = LoadRecordings(config, read_with, str(staging / PLAN))
        with CollectingErrorHandler() as dead:

            def guarded(stage: EpisodeStage) -> EpisodeStage:
                return stage.with_error_handler(dead, fail_fast)

            cut = (
                pipeline
                | "Load recordings" >> load.with_error_handler(dead, fail_fast)
                | "Align in time" >> guarded(TemporalAlignmentStage(config.temporal_alignment))
                | "Cut into episodes" >> guarded(EpisodeBoundaryDetector(config.episode_boundary))
            )
            evidence = (
                cut["episodes"]
                | "Lay out transitions" >> guarded(TransitionAlignmentStage(config.transition_alignment))
                | "Ground instructions" >> guarded(InstructionGroundingStage(config.instruction_grounding))
                | "Score quality" >> guarded(DataQualityScorer(config.quality, read_images, config.media))
                | "Validate physics" >> guarded(PhysicsValidator(config.physics, config.embodiments))
                | "Stage episodes" >> guarded(StageEpisode(folder, config.fingerprint))
            )
        clusters = (
            evidence
            | "Take fingerprints" >> beam.Map(_fingerprint).with_output_types(Fingerprint)
            | "Find duplicates" >> GPUDeduplicator(config.deduplication)
        )
        measured = evidence | "Leave shingles behind" >> beam.Map(_without_shingles).with_output_types(Evidence)
        checked = measured | "Check column types" >> CheckColumnTypes()
        decisions = (checked, clusters) | "Select" >> Select(config.select)
        kept = decisions | "Keep" >> beam.Filter(_is_kept).with_output_types(Decision)
        rows = (
            decisions | "Enter decisions" >> beam.Map(from_decision).with_output_types(LedgerRow),
            dead.output() | "Enter dead letters" >> beam.Map(from_dead_letter).with_output_types(LedgerRow),
            cut["ledger"],
        ) | "Merge ledger" >> beam.Flatten()
        files = (
            kept | "Write kept episodes" >> WriteKept(folder, config.sink, roots, read_images),
            rows | "Write ledger" >> WriteLedger(folder, config.sink, roots),
            decisions | "Write evidence" >> WriteEvidence(folder, config.sink, roots),
        ) | "Merge reports" >> beam.Flatten()
        _ = files | "Write reports" >> WriteReports(folder)
        _ = rows | "Count outcomes" >> WriteCounts(folder)

    def run(
        self,
        output: str | Path | None = None,
        runner: str = DEFAULT_RUNNER,
        options: PipelineOptions | None = None,
        fail_fast: bool = False,
        read_with: ReadWith = DEFAULT_READ,
    ) -> RunResult:
        """Curate into `output` (default: the configuration's own) and publish; what reads changes no byte of it.

        Raises UnfitRunner where the runner cannot do it, OutputError where the folder cannot be used, GatesFailed where
        a gate fails (nothing is published), and whatever the runner raises.
        """
        started = datetime.now(UTC)
        options = options or PipelineOptions([])
        check_runner(runner, options)
        target = Path(output or self._config.output)
        _keep_apart(target, self._config)
        executor = PipelineExecutor(runner, one_display(options, self._console))
        with PipelineLifecycleManager(), open_output(target, self._config.config_hash) as held:
            with ProgressDisplay(self._console, *_progress(held.staging), executor.progress):
                report = executor.run(lambda p: self.build(p, held.staging, fail_fast, read_with))
            counts = read_counts(held.staging)
            outcomes = summarise(counts, [source.name for source in self._config.sources])
            failures = check_gates(self._config.gates, outcomes)
            files = read_reports(held.staging)
            ended = datetime.now(UTC)
            summary = RunSummary(
                started=started.isoformat(),
                ended=ended.isoformat(),
                wall_s=(ended - started).total_seconds(),
                config_hash=self._config.config_hash,
                code_version=version("demosift"),
                runner=runner,
                outcomes=tuple(outcomes),
                counts=tuple(counts),
                sizes=tuple(table_sizes(files)),
                stages=tuple(stage_counts(report.counters)),
            )
            roots = source_roots(self._config.sources)
            told = report_files(held, files, summary, roots, self._config.media, [str(f) for f in failures])
            if failures:
                page = held.staging / REPORT
                page.write_bytes(told[REPORT])
                raise GatesFailed(failures, outcomes, held.staging / OUT / LEDGER, page)
            manifest = publish(held, files, summary.code_version, summary, told)
        return RunResult(
            output=target,
            manifest=_manifest_path(held, manifest.number),
            outcomes=tuple(outcomes),
            counters=report.counters,
            files=tuple(target / file.path for file in manifest.files),
        )


def _keep_apart(output: Path, config: PipelineConfig) -> None:
    """Raises OutputError where a source would find the output among its files."""
    folder = output.resolve()
    for source in config.sources:
        for path in expand(source):
            if folder.is_relative_to(path.resolve()):
                raise OutputError(
                    f"{output} lies in {path}, which source {source.name!r} reads; use an --output outside of it"
                )


def one_display(options: PipelineOptions, console: Console) -> PipelineOptions:
    """The options; where our own display is seen, RayRunner draws none of its own beside it."""
    if console.quiet or options.view_as(RayOptions).ray_progress != "auto":
        return options
    quiet = copy.deepcopy(options)
    quiet.view_as(RayOptions).ray_progress = "off"
    return quiet


def _fingerprint(evidence: Evidence) -> Fingerprint:
    return evidence.fingerprint


def _without_shingles(evidence: Evidence) -> Evidence:
    # they are most of its size, and only duplicates are found by them
    bare = replace(evidence.fingerprint, instruction_shingles=b"", trajectory_shingles=b"")
    return replace(evidence, fingerprint=bare)


def _is_kept(decision: Decision) -> bool:
    return decision.outcome == "kept"


def _manifest_path(output: Output, number: int) -> Path:
    return output.path / MANIFESTS / f"{number:08d}.json"


class _Planned:
    """Recordings planned so far, over all sources."""

    def __init__(self, staging: Path) -> None:
        self._folder = staging / PLAN

    def __call__(self) -> int:
        return sum(int(p.read_text() or 0) for p in self._folder.iterdir()) if self._folder.is_dir() else 0


class _Staged:
    """Episodes measured so far."""

    def __init__(self, staging: Path) -> None:
        self._folder = staging / STAGED

    def __call__(self) -> int:
        return sum(1 for _ in self._folder.iterdir()) if self._folder.is_dir() else 0


def _progress(staging: Path) -> tuple[_Planned, _Staged]:
    return _Planned(staging), _Staged(staging)
