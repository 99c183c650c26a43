"""The search for duplicates as a job: Parquet files in, published tables out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import apache_beam as beam
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipeline.deduplication.guardrails import Guardrails
from beam_pipeline.deduplication.nights import OpenNight, open_night
from beam_pipeline.deduplication.tables import SourceCount, Tables, WriteBatches, source_counts, tables
from beam_pipeline.output_folder import LOCK, STAGING, OutputError, locked
from beam_pipeline.runner import PipelineExecutor, PipelineLifecycleManager
from beam_pipeline.runner.executor import DEFAULT_RUNNER
from transforms.coders import to_json
from transforms.deduplication.deciding_duplicates import TABLES, DecideParams
from transforms.deduplication.parquet_documents import DocumentColumns, ReadParquetDocuments, RowGroup, row_groups
from transforms.deduplication.similar_documents import LshParams
from transforms.deduplication.text_deduplicator import PAIRS, Night, TextDeduplicator
from transforms.deduplication.text_documents import TextParams
from transforms.output_files import PartReport
from transforms.part_writer import file_hash, put_in_place, temporary_file

MANIFEST, SUMMARY = "manifest.json", "summary.json"
_TABLES = ("kept", "duplicates", "clusters", "edges")
_OURS = {STAGING, LOCK, MANIFEST, SUMMARY, *(f"{name}.parquet" for name in _TABLES)}
_GROUP_ROWS = 1 << 17


class GuardrailsBroken(RuntimeError):
    """More would be dropped than the limits allow; nothing was published."""


@dataclass(frozen=True)
class DedupConfig:
    """What is read and how it is compared."""

    columns: DocumentColumns
    text: TextParams = field(default_factory=TextParams)
    lsh: LshParams = field(default_factory=LshParams)
    decide: DecideParams = field(default_factory=DecideParams)
    guardrails: Guardrails = field(default_factory=Guardrails)

    def settings(self) -> str:
        """What all nights of an index must share, in words."""
        lsh = self.lsh
        return (
            f"{self.text.ngram}-grams, threshold {lsh.threshold}, {lsh.bands} bands of {lsh.rows} rows, "
            f"seed {lsh.seed}, max_bucket {lsh.max_bucket}, {lsh.partitions} partitions"
        )


@dataclass(frozen=True)
class DedupManifest:
    """The commit of a search: its files and the settings that made them; no times, so equal runs are equal bytes."""

    columns: DocumentColumns
    ngram: int
    bands: int
    rows: int
    threshold: float
    seed: int
    max_bucket: int
    code_version: str
    files: tuple[PartReport, ...]


@dataclass(frozen=True)
class DedupSummary:
    """Counts of a finished search: `kept + exact + near == input`, in all and of each source.

    `without_text` documents are among the kept: they have nothing to compare. Of the `candidates` that share a band,
    `verified` are alike by exact Jaccard.
    """

    input: int
    kept: int
    exact: int
    near: int
    without_text: int
    clusters: int
    largest_cluster: int
    candidates: int
    verified: int
    sources: tuple[SourceCount, ...]
    runner: str
    wall_s: float


def find_files(inputs: Sequence[str]) -> list[Path]:
    """The Parquet files that paths, folders (searched through) and patterns name; raises OutputError for none."""
    found: set[Path] = set()
    for name in inputs:
        path = Path(name)
        if path.is_dir():
            own = sorted(path.rglob("*.parquet"))
        elif path.exists():
            own = [path]
        else:
            root = Path(path.anchor) if path.is_absolute() else Path()
            own = sorted(root.glob(str(path.relative_to(root))))
        if not own:
            raise OutputError(f"--input {name} names no Parquet file; give files, folders or patterns")
        found.update(own)
    return sorted(found)


def run_dedup(
    inputs: Sequence[str],
    output: str | Path,
    config: DedupConfig,
    runner: str = DEFAULT_RUNNER,
    options: PipelineOptions | None = None,
    index: str | Path | None = None,
) -> DedupSummary:
    """Search the documents of Parquet files and publish what stays and what goes into `output`.

    With an `index` the documents are compared with those of earlier nights too, which stay as they are, and are then
    added to it.

    Raises ColumnError and OutputError for what cannot be read or written, RepeatedId, GuardrailsBroken where a limit
    is passed (nothing is published), and whatever the runner raises.
    """
    started = time.monotonic()
    files = find_files(inputs)
    groups = row_groups(files, config.columns)
    folder = Path(output)
    inside = [str(path) for path in files if path.resolve().is_relative_to(folder.resolve())]
    if inside:
        raise OutputError(f"--input {inside[0]} lies in --output {folder}; use another --output")
    with _held(folder) as staging, _night(index, config, files) as night, PipelineLifecycleManager():
        work = night.folder if night else staging
        report = PipelineExecutor(runner, options).run(
            lambda p: _build(p, groups, work, config, night.night() if night else None)
        )
        if night:
            night.check_ids()
        found = tables(work)
        summary = _summary(found, report.counters, runner)
        broken = config.guardrails.broken(found.clusters, summary.sources)
        if broken:
            raise GuardrailsBroken("; ".join(broken))
        summary = replace(summary, wall_s=time.monotonic() - started)
        _publish(folder, staging, found, config, summary)
        if night:
            night.commit()
    return summary


@contextmanager
def _night(index: str | Path | None, config: DedupConfig, files: Sequence[Path]) -> Iterator[OpenNight | None]:
    if index is None:
        yield None
        return
    with open_night(Path(index), config.settings(), files, config.lsh.max_bucket) as night:
        yield night


def _build(
    pipeline: beam.Pipeline, groups: Sequence[RowGroup], staging: Path, config: DedupConfig, night: Night | None
) -> None:
    """Add the graph: row groups in, files of duplicates and edges below `staging` out."""
    found = (
        pipeline
        | "Plan" >> beam.Create(groups, reshuffle=False).with_output_types(RowGroup)
        | "ReadDocuments" >> ReadParquetDocuments(config.columns)
        | "Deduplicate" >> TextDeduplicator(str(staging), config.text, config.lsh, config.decide, night)
    )
    for table in (*TABLES, *([PAIRS] if night else [])):
        _ = found[table] | f"Write {table}" >> beam.ParDo(WriteBatches(str(staging), table)).with_output_types(str)


def _summary(found: Tables, counters: Mapping[str, int], runner: str) -> DedupSummary:
    exact = sum(1 for channel in found.duplicates.column("channel").to_pylist() if channel == "exact")
    sizes = found.clusters.column("documents").to_pylist()
    return DedupSummary(
        input=found.kept.num_rows + found.duplicates.num_rows,
        kept=found.kept.num_rows,
        exact=exact,
        near=found.duplicates.num_rows - exact,
        without_text=counters.get("demosift:dedup.without_text", 0),
        clusters=len(sizes),
        largest_cluster=max(sizes, default=0),
        candidates=counters.get("demosift:dedup.candidates", 0),
        verified=counters.get("demosift:dedup.verified", 0),
        sources=source_counts(found),
        runner=runner,
        wall_s=0.0,
    )


def _publish(folder: Path, staging: Path, found: Tables, config: DedupConfig, summary: DedupSummary) -> None:
    """Write all tables, then put them in place, the manifest last: it says that they are whole."""
    reports = []
    for name in _TABLES:
        table: pa.Table = getattr(found, name)
        path = staging / f"{name}.parquet"
        pq.write_table(table, path, row_group_size=_GROUP_ROWS, compression="zstd", version="2.6")
        reports.append(PartReport(path.name, table.num_rows, path.stat().st_size, file_hash(path)))
    lsh = config.lsh
    manifest = DedupManifest(
        columns=config.columns,
        ngram=config.text.ngram,
        bands=lsh.bands,
        rows=lsh.rows,
        threshold=lsh.threshold,
        seed=lsh.seed,
        max_bucket=lsh.max_bucket,
        code_version=version("demosift"),
        files=tuple(reports),
    )
    (folder / MANIFEST).unlink(missing_ok=True)
    for report in reports:
        put_in_place(staging / report.path, folder / report.path)
    for name, record in ((SUMMARY, summary), (MANIFEST, manifest)):
        temporary = temporary_file(staging)
        temporary.write_bytes(msgspec.json.format(to_json(record)) + b"\n")
        put_in_place(temporary, folder / name)


@contextmanager
def _held(folder: Path) -> Iterator[Path]:
    """An empty staging area in the output folder, which nobody else uses; removed at the end. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be used: {error.strerror}; use another --output") from error
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in _OURS)
    if foreign:
        raise OutputError(
            f"{folder} holds {len(foreign)} entries that no search wrote there, such as {foreign[0]!r}; "
            "use an empty folder as --output, or remove them"
        )
    with locked(folder / LOCK, folder):
        staging = folder / STAGING
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        try:
            yield staging
        finally:
            shutil.rmtree(staging)
