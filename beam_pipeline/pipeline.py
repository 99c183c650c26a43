"""MultimodalPipeline: the graphs, each on one screen, and the runs that they make: evidence, decide, and both."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.error_handling import CollectingErrorHandler
from rich.console import Console

from beam_pipeline.carried import sink_text
from beam_pipeline.config import PipelineConfig
from beam_pipeline.decision import GatesFailed, Plan, make_plan, verdicts_of
from beam_pipeline.deduplication.episode_index import open_index
from beam_pipeline.evidence_folder import commit_sources, hold_sources, measured_otherwise, stored_files
from beam_pipeline.load_recordings import LoadRecordings
from beam_pipeline.options import DEFAULT_READ, ReadWith
from beam_pipeline.output_folder import MANIFESTS, REPORT, Output, OutputError, open_output, refuse_url
from beam_pipeline.preflight import keep_apart
from beam_pipeline.publish import publish
from beam_pipeline.read_again import ReadAgain, UnreadableEpisodes, check_read
from beam_pipeline.report.make import report_files, start_reading
from beam_pipeline.results import EvidenceResult, RunResult
from beam_pipeline.runner import PipelineLifecycleManager
from beam_pipeline.runner.executor import DEFAULT_RUNNER
from beam_pipeline.typed_yaml import nearest
from beam_pipeline.work import PLAN, Work
from transforms.column_types import CheckColumnTypes
from transforms.deduplication.deduplicator import GPUDeduplicator
from transforms.deduplication.night_index import IndexView
from transforms.embeddings import EmbedEpisodes
from transforms.episode_boundary import EpisodeBoundaryDetector
from transforms.evidence import DuplicateEdge, LedgerRow
from transforms.instruction_agreement import CompareInstructions
from transforms.instruction_grounding import InstructionGroundingStage
from transforms.ledger import from_dead_letter
from transforms.loader import read_images
from transforms.measured import Measured, StoreEvidence, load_measured
from transforms.output_files import LEDGER, OUT, TRANSITIONS, PartReport, source_roots
from transforms.part_members import PlannedPart, plan_part
from transforms.physics import PhysicsValidator
from transforms.quality import DataQualityScorer
from transforms.reports import EDGES, STORED, WriteReports, read_reports
from transforms.sinks import FILES, WriteKept
from transforms.stage import EpisodeStage
from transforms.staging import StageEpisode
from transforms.statistics import WriteStatistics
from transforms.stored_embeddings import StoreEmbeddings
from transforms.temporal_alignment import TemporalAlignmentStage
from transforms.transition_alignment import TransitionAlignmentStage
from transforms.verdicts import VerdictError

__all__ = ["GatesFailed", "MultimodalPipeline", "RunResult", "UnknownSource"]


class UnknownSource(ValueError):
    """A source that the configuration does not name."""


class MultimodalPipeline:
    """Curates what a configuration names: `MultimodalPipeline(PipelineConfig.load(path)).run()`."""

    def __init__(self, config: PipelineConfig, console: Console | None = None) -> None:
        self._config = config
        self._console = console or Console(stderr=True, quiet=True)

    def measure(
        self,
        pipeline: beam.Pipeline,
        staging: Path,
        fail_fast: bool = False,
        read_with: ReadWith = DEFAULT_READ,
        keep_steps: bool = True,
    ) -> beam.PCollection[PartReport]:
        """Add the evidence half: recordings in, reports of stored evidence out; its files go below `staging`.

        Every worker must share the staging area. With `keep_steps` whole episodes wait there for the sink. With Ray
        Data the recordings are read here, before the pipeline runs.
        """
        config, folder = self._config, str(staging)
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
            measured = (
                cut["episodes"]
                | "Lay out transitions" >> guarded(TransitionAlignmentStage(config.transition_alignment))
                | "Ground instructions" >> guarded(InstructionGroundingStage(config.instruction_grounding))
                | "Score quality" >> guarded(DataQualityScorer(config.quality, read_images, config.media))
                | "Validate physics" >> guarded(PhysicsValidator(config.physics, config.embodiments))
            )
            evidence = measured | "Stage episodes" >> guarded(StageEpisode(folder, config.fingerprint, keep_steps))
        left = (
            dead.output() | "Enter dead letters" >> beam.Map(from_dead_letter).with_output_types(LedgerRow),
            cut["ledger"],
        ) | "Merge what left" >> beam.Flatten()
        kept = []
        if config.embedding.asked:
            vectors = measured | "Embed episodes" >> EmbedEpisodes(config.embedding, read_images, config.media)
            kept.append(vectors | "Store embeddings" >> StoreEmbeddings(folder))
            if config.embedding.text is not None:
                compare = CompareInstructions(config.instruction_grounding)
                evidence = (evidence, vectors, measured) | "Compare instructions" >> compare
        checked = evidence | "Check column types" >> CheckColumnTypes()
        kept.append((checked, left) | "Store evidence" >> StoreEvidence(folder, source_roots(config.sources)))
        stored = kept | "Merge evidence" >> beam.Flatten()
        _ = stored | "Report evidence" >> WriteReports(folder, STORED)
        return stored

    def compare(
        self, files: beam.PCollection[str], staging: Path, index: IndexView | None = None, run: str | None = None
    ) -> None:
        """Add the search for duplicates: shingle files in, edges in a file out; `index`, `run`: see GPUDeduplicator."""
        edges = files | "Find duplicates" >> GPUDeduplicator(self._config.deduplication, index, run)
        _ = edges | "Report duplicates" >> WriteReports(str(staging), EDGES)

    def write(self, parts: beam.PCollection[PlannedPart], held: Output, plan: Plan) -> None:
        """Add the sink: parts of kept episodes in, files of their steps and videos and the statistics of all out."""
        staging, published = str(held.staging), str(held.path)
        sink = WriteKept(staging, published, self._config.sink, plan.agreed, read_images)
        written = parts | "Write kept episodes" >> sink
        found = written[TRANSITIONS] | "Summarise columns" >> WriteStatistics(staging, published)
        _ = (written[FILES], found) | "Collect files" >> beam.Flatten() | "Report files" >> WriteReports(staging)

    def run(
        self,
        output: str | Path | None = None,
        runner: str = DEFAULT_RUNNER,
        options: PipelineOptions | None = None,
        fail_fast: bool = False,
        read_with: ReadWith = DEFAULT_READ,
    ) -> RunResult:
        """Curate into `output` (default: the configuration's own) and publish; what reads changes no byte of it.

        Evidence is stored even where a gate then fails, so that `decide` can go on from there. Raises UnfitRunner where
        the runner cannot do it, OutputError where the folder cannot be used, VerdictError, GatesFailed where a gate
        fails (nothing is published), and whatever the runner raises.
        """
        work = Work(self._config, self._console, runner, options)
        target = self._target(output)
        keep_apart(target, self._config)
        verdicts_of(self._config, target)
        changed = measured_otherwise(target, self._config)
        if changed:
            raise OutputError("\n".join([*changed, "or use another --output"]))

        names = [source.name for source in self._config.sources]
        owner = self._config.measuring.hash
        with PipelineLifecycleManager(), open_output(target, self._config.config_hash, owner) as held:
            work.run(lambda p: _ignore(self.measure(p, held.staging, fail_fast, read_with)), held.staging)
            reports = read_reports(held.staging, STORED)
            commit_sources(held.path, held.staging, self._config, names, reports, work.version)
            return self._publish(work, held, *self._evidence_and_edges(work, held), staged=True)

    def evidence(
        self,
        output: str | Path | None = None,
        source: str | None = None,
        runner: str = DEFAULT_RUNNER,
        options: PipelineOptions | None = None,
        fail_fast: bool = False,
        read_with: ReadWith = DEFAULT_READ,
    ) -> EvidenceResult:
        """Measure all sources, or one, and store what decides about them; nothing is decided or published.

        Runs of other sources may work in the same folder meanwhile. Raises as `run` does, and UnknownSource for one
        that the configuration does not name.
        """
        config = self._config
        chosen = [s for s in config.sources if source in (None, s.name)]
        if not chosen:
            raise UnknownSource(
                f"no source is named {source!r}{nearest(source or '', [s.name for s in config.sources])}"
            )
        work = Work(config, self._console, runner, options)
        target = self._target(output)
        keep_apart(target, config)
        names = [s.name for s in chosen]
        half = MultimodalPipeline(replace(config, sources=tuple(chosen)), self._console)
        with PipelineLifecycleManager(), hold_sources(target, names) as (folder, staging):
            work.run(lambda p: _ignore(half.measure(p, staging, fail_fast, read_with, keep_steps=False)), staging)
            reports = read_reports(staging, STORED)
            commit_sources(folder, staging, config, names, reports, work.version)
        return EvidenceResult(tuple(reports), work.counters)

    def measured_otherwise(self, output: str | Path | None = None) -> list[str]:
        """A message for each source whose stored evidence is not of this configuration, or of a URDF that changed."""
        return measured_otherwise(self._target(output), self._config)

    def decide(
        self, output: str | Path | None = None, runner: str = DEFAULT_RUNNER, options: PipelineOptions | None = None
    ) -> RunResult:
        """Decide by stored evidence and publish; raw data is read only of episodes that are newly kept.

        Raises as `run` does, OutputError where the stored evidence is not of this configuration, and UnreadableEpisodes
        where a newly kept episode cannot be read again; then nothing is published.
        """
        work = Work(self._config, self._console, runner, options)
        target = self._target(output)
        verdicts_of(self._config, target)
        owner = self._config.measuring.hash
        with PipelineLifecycleManager(), open_output(target, self._config.config_hash, owner, any_owner=True) as held:
            return self._publish(work, held, *self._evidence_and_edges(work, held), staged=False)

    def _evidence_and_edges(self, work: Work, held: Output) -> tuple[Measured, list[DuplicateEdge]]:
        """What decides: stored evidence, read while duplicates are searched."""
        files = stored_files(held.path, self._config)
        with ThreadPoolExecutor(1) as pool:
            measured = pool.submit(load_measured, files)
            edges = self.find_duplicates(work, held.path)
            return measured.result(), edges

    def find_duplicates(self, work: Work, output: Path) -> list[DuplicateEdge]:
        """The edges among all fingerprints stored in a folder that this run holds; those that its index does not hold
        are searched, and join it.
        """
        index = open_index(output, self._config.deduplication, work.version)
        if index.anew:
            self._console.print(index.anew, markup=False)
        if index.documents:
            work.run(lambda p: self.compare(p | beam.Create(index.documents), index.folder, index.view(), index.run))
        return index.commit()

    def _publish(
        self,
        work: Work,
        held: Output,
        measured: Measured,
        edges: Sequence[DuplicateEdge],
        staged: bool,
    ) -> RunResult:
        config = self._config
        roots = source_roots(config.sources)
        try:
            plan = make_plan(held, config, measured, edges, verdicts_of(config, held.path), work.version, staged)
            if plan.failures:
                summary = work.summary(plan, plan.files)
                told = report_files(held, plan.files, summary, roots, config.media, [str(f) for f in plan.failures])
                page = held.staging / REPORT
                page.write_bytes(told[REPORT])
                raise GatesFailed(plan.failures, plan.outcomes, held.staging / OUT / LEDGER, page)
            if plan.wanted:
                work.run(ReadAgain(config, plan.wanted, held.staging), held.staging)
                check_read(config, plan.wanted, held.staging)
        except (VerdictError, UnreadableEpisodes):
            shutil.rmtree(held.staging)
            raise
        tables = start_reading(held, plan.files)
        parts = [plan_part(held.staging, part) for part in plan.parts]
        parts += [PlannedPart("", 0, stays=file) for file in plan.files if file.path.startswith(f"{TRANSITIONS}/")]
        work.run(lambda p: self.write(p | beam.Create(parts).with_output_types(PlannedPart), held, plan), held.staging)
        reports = {report.path: report for report in (*plan.files, *read_reports(held.staging))}
        summary = work.summary(plan, list(reports.values()))
        told = report_files(held, list(reports.values()), summary, roots, config.media, tables=tables.result())
        manifest = publish(held, list(reports.values()), work.version, summary, sink_text(config.sink), told)
        return RunResult(
            output=held.path,
            manifest=held.path / MANIFESTS / f"{manifest.number:08d}.json",
            outcomes=plan.outcomes,
            counters=work.counters,
            files=tuple(held.path / file.path for file in manifest.files),
            summary=summary,
            warnings=plan.warnings,
        )

    def _target(self, output: str | Path | None) -> Path:
        refuse_url(output or self._config.output)
        return Path(output or self._config.output)


def _ignore(stored: beam.PCollection[PartReport]) -> None:
    """The reports are read from their file."""
