"""The search for duplicates as a job: Parquet files in, published tables out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipeline.deduplication.guardrails import Guardrails
from beam_pipeline.deduplication.nights import OpenNight, open_night
from beam_pipeline.deduplication.published import MANIFEST, PUBLISHED, SUMMARY, DedupSummary, publish, summarise
from beam_pipeline.deduplication.tables import WriteBatches, tables
from beam_pipeline.output_folder import LOCK, STAGING, OutputError, locked
from beam_pipeline.runner import PipelineExecutor, PipelineLifecycleManager
from beam_pipeline.runner.executor import DEFAULT_RUNNER
from transforms.deduplication.deciding_duplicates import TABLES, DecideDuplicates, DecideParams
from transforms.deduplication.night_index import IndexView, read_arrow
from transforms.deduplication.parquet_documents import DocumentColumns, ReadParquetDocuments, RowGroup, row_groups
from transforms.deduplication.semantic import SemanticParams
from transforms.deduplication.similar_documents import LshParams
from transforms.deduplication.text_deduplicator import PAIRS, Night, TextDeduplicator
from transforms.deduplication.text_documents import TextParams
from transforms.deduplication.vector_deduplicator import SEMANTIC, VectorDeduplicator
from transforms.deduplication.whole_components import UNJOINED

_OURS = {STAGING, LOCK, MANIFEST, SUMMARY, *(f"{name}.parquet" for name in PUBLISHED)}


class GuardrailsBroken(RuntimeError):
    """More would be dropped than the limits allow; nothing was published."""


@dataclass(frozen=True)
class DedupConfig:
    """What is read and how it is compared: texts by `lsh`, or vectors by `semantic`."""

    columns: DocumentColumns
    semantic: SemanticParams = field(default_factory=SemanticParams)
    text: TextParams = field(default_factory=TextParams)
    lsh: LshParams = field(default_factory=LshParams)
    decide: DecideParams = field(default_factory=DecideParams)
    guardrails: Guardrails = field(default_factory=Guardrails)

    def __post_init__(self) -> None:
        if (self.columns.text is None) == (self.columns.vector is None):
            raise ValueError("give --text or --vector, one of the two: the column that is compared")
        if self.of_vectors and self.columns.id is None:
            raise ValueError("--vector needs --id: vectors are known by their ids")

    @property
    def of_vectors(self) -> bool:
        """Whether vectors are compared, not texts."""
        return self.columns.vector is not None

    def made_by(self) -> dict[str, object]:
        """The settings that change what is found, by the names of their flags."""
        if self.of_vectors:
            own = {"threshold": self.semantic.cosine, "clusters": self.semantic.clusters}
            return {"vector": self.columns.vector, **own}
        lsh = self.lsh
        own = {name: getattr(lsh, name) for name in ("threshold", "bands", "rows", "seed", "max_bucket")}
        return {"text": self.columns.text, "ngram": self.text.ngram, **own}

    def settings(self) -> str:
        """What all nights of an index must share, in words."""
        if self.of_vectors:
            semantic = self.semantic
            many = (
                "clusters for the first night's vectors"
                if semantic.clusters is None
                else f"{semantic.clusters} clusters"
            )
            return (
                f"vectors, threshold {semantic.cosine}, the {semantic.nearest} nearest of {many} "
                f"within {semantic.margin}, {semantic.partitions} partitions that hold their vectors"
            )
        lsh = self.lsh
        return (
            f"{self.text.ngram}-grams, threshold {lsh.threshold}, {lsh.bands} bands of {lsh.rows} rows, "
            f"seed {lsh.seed}, max_bucket {lsh.max_bucket}, {lsh.partitions} partitions"
        )


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
        made = night.night() if night else None
        report = PipelineExecutor(runner, options).run(lambda p: _search(p, groups, work, config, made))
        unjoined = sorted((work / UNJOINED).glob("*.arrow"))
        if unjoined:
            PipelineExecutor(runner, options).run(lambda p: _decide(p, unjoined, work, config, made))
        if night:
            night.check_ids()
        found = tables(work, sum(group.rows for group in groups))
        summary = summarise(found, report.counters, runner)
        broken = config.guardrails.broken(found.clusters, summary.sources)
        if broken:
            raise GuardrailsBroken("; ".join(broken))
        summary = replace(summary, wall_s=time.monotonic() - started)
        publish(folder, staging, found, config.made_by(), summary)
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


def _search(
    pipeline: beam.Pipeline, groups: Sequence[RowGroup], staging: Path, config: DedupConfig, night: Night | None
) -> None:
    """Add the graph: row groups in, files of duplicates and edges below `staging` out.

    Where there are more edges than fit in memory, those wait there as `unjoined`: a graph of rounds of stars takes
    longer to build than most searches.
    """
    planned = pipeline | "Plan" >> beam.Create(groups, reshuffle=False).with_output_types(RowGroup)
    documents = planned | "ReadDocuments" >> ReadParquetDocuments(config.columns)
    decide = replace(config.decide, stars=False)
    if config.of_vectors:
        found = documents | "Deduplicate" >> VectorDeduplicator(str(staging), config.semantic, decide, night)
    else:
        found = documents | "Deduplicate" >> TextDeduplicator(str(staging), config.text, config.lsh, decide, night)
    _write(found, (*TABLES, UNJOINED, *([PAIRS] if night else [])), staging)


def _decide(
    pipeline: beam.Pipeline, unjoined: Sequence[Path], staging: Path, config: DedupConfig, night: Night | None
) -> None:
    """Add the graph that decides about the edges of a search, however many: their files in, files of tables out."""
    decide = replace(config.decide, channel=SEMANTIC) if config.of_vectors else config.decide
    # the edges of earlier nights are among them
    index = replace(night.index, edges=()) if night else IndexView()
    documents = [str(path) for path in sorted((staging / "documents").glob("*.arrow"))]
    files = pipeline | "ListDocuments" >> beam.Create(documents, reshuffle=False).with_output_types(str)
    edges = (
        pipeline
        | "ListEdges" >> beam.Create([str(path) for path in unjoined]).with_output_types(str)
        | "ReadEdges" >> beam.FlatMap(read_arrow).with_output_types(pa.RecordBatch)
    )
    _write(edges | "Decide" >> DecideDuplicates(files, decide, index=index), TABLES, staging)


def _write(found: Mapping[str, beam.PCollection[pa.RecordBatch]], tables: Sequence[str], staging: Path) -> None:
    for table in tables:
        _ = found[table] | f"Write {table}" >> beam.ParDo(WriteBatches(str(staging), table)).with_output_types(str)


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
