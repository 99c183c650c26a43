"""What a search for duplicates leaves behind: tables, a summary, and a manifest that commits them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from beam_pipeline.deduplication.tables import SourceCount, Tables, source_counts
from transforms.coders import to_json
from transforms.deduplication.vector_documents import REASONS
from transforms.file_hash import file_hash
from transforms.output_files import PartReport
from transforms.part_writer import put_in_place, temporary_file

MANIFEST, SUMMARY = "manifest.json", "summary.json"
PUBLISHED = ("kept", "duplicates", "clusters", "edges")
_GROUP_ROWS = 1 << 17


@dataclass(frozen=True)
class DedupManifest:
    """The commit of a search: its files and the settings that made them; no times, so equal runs are equal bytes."""

    made_by: dict[str, object]
    code_version: str
    files: tuple[PartReport, ...]


@dataclass(frozen=True)
class DedupSummary:
    """Counts of a finished search: `kept + exact + near == input`, in all and of each source.

    `without_text` documents, or those `without_vector` (absent, not finite or zero), are among the kept: they have
    nothing to compare. Of the `candidates` that share a band, `verified` are alike by exact Jaccard; vectors have
    neither. `edges` are the verified pairs of any kind.
    """

    input: int
    kept: int
    exact: int
    near: int
    without_text: int
    without_vector: int
    clusters: int
    largest_cluster: int
    candidates: int
    verified: int
    edges: int
    sources: tuple[SourceCount, ...]
    runner: str
    wall_s: float


def summarise(found: Tables, counters: Mapping[str, int], runner: str) -> DedupSummary:
    """What is to be said of a search; its time is not known yet."""
    exact = sum(1 for channel in found.duplicates.column("channel").to_pylist() if channel == "exact")
    sizes = found.clusters.column("documents").to_pylist()
    return DedupSummary(
        input=found.kept.num_rows + found.duplicates.num_rows,
        kept=found.kept.num_rows,
        exact=exact,
        near=found.duplicates.num_rows - exact,
        without_text=counters.get("demosift:dedup.without_text", 0),
        without_vector=sum(counters.get(f"demosift:dedup.vectors_{reason}", 0) for reason in REASONS),
        clusters=len(sizes),
        largest_cluster=max(sizes, default=0),
        candidates=counters.get("demosift:dedup.candidates", 0),
        verified=counters.get("demosift:dedup.verified", 0),
        edges=found.edges.num_rows,
        sources=source_counts(found),
        runner=runner,
        wall_s=0.0,
    )


def publish(folder: Path, staging: Path, found: Tables, made_by: dict[str, object], summary: DedupSummary) -> None:
    """Write all tables, then put them in place, the manifest last: it says that they are whole."""
    reports = []
    for name in PUBLISHED:
        table: pa.Table = getattr(found, name)
        path = staging / f"{name}.parquet"
        pq.write_table(table, path, row_group_size=_GROUP_ROWS, compression="zstd", version="2.6")
        reports.append(PartReport(path.name, table.num_rows, path.stat().st_size, file_hash(path)))
    manifest = DedupManifest(
        made_by=made_by,
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
