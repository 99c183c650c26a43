"""Deciding, in the launcher: stored evidence, edges and verdicts in, the small tables and the parts to write out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipeline.carried import NOTHING, Carried, carried, keep_part, kept_videos, place_members
from beam_pipeline.config import PipelineConfig
from beam_pipeline.curated import CuratedSet
from beam_pipeline.gates import GateFailure, check_gates
from beam_pipeline.output_folder import VERDICTS, Output
from beam_pipeline.summary import SourceOutcomes, summarise
from transforms.clusters import write_clusters
from transforms.coders import from_json
from transforms.decided_tables import (
    EpisodesTable,
    LooseFinding,
    count_outcomes,
    cut_source,
    ledger_rows,
    ledger_table,
    rows_of_source,
    write_episodes,
    write_evidence,
    write_ledger,
)
from transforms.deciding import Decided, Wanted, decide_all
from transforms.evidence import DuplicateEdge, StagedColumn
from transforms.measured import StoredFile, load_measured
from transforms.output_files import EPISODES, EVIDENCE, LEDGER, OutcomeCount, Part, PartReport
from transforms.output_schema import AgreedSchema, agree_on_columns, arrow_schema
from transforms.verdicts import NO_EPISODE, Verdict, check_verdicts, read_verdicts, without_episode

_COLUMNS = tuple[StagedColumn, ...]


class GatesFailed(Exception):
    """A gate of the configuration failed: nothing was published; `ledger` and `report` are what would have been."""

    def __init__(
        self, failures: Sequence[GateFailure], outcomes: Sequence[SourceOutcomes], ledger: Path, report: Path
    ) -> None:
        super().__init__("; ".join(str(failure) for failure in failures))
        self.ledger = ledger
        self.report = report
        self.failures = failures
        self.outcomes = outcomes


@dataclass(frozen=True)
class Plan:
    """A run's decisions, written but for the steps: reports of the small tables, parts to write, parts that stay.

    Where gates fail, `failures` says which, and nothing may be published.
    """

    counts: tuple[OutcomeCount, ...]
    outcomes: tuple[SourceOutcomes, ...]
    agreed: AgreedSchema
    parts: tuple[Part, ...]
    files: tuple[PartReport, ...]
    wanted: tuple[Wanted, ...]
    warnings: tuple[str, ...]
    failures: tuple[GateFailure, ...]


def verdicts_of(config: PipelineConfig, output: Path) -> dict[str, Verdict]:
    """The verdicts that hold for a run: the configuration's, else those that lie in the output folder, else none.

    Raises VerdictError.
    """
    lying = output / VERDICTS
    if config.verdicts:
        return read_verdicts(Path(config.verdicts))
    return read_verdicts(lying) if lying.exists() else {}


def make_plan(
    held: Output,
    config: PipelineConfig,
    files: Sequence[StoredFile],
    edges: Sequence[DuplicateEdge],
    verdicts: Mapping[str, Verdict],
    version: str,
    staged: bool,
) -> Plan:
    """Decide, and write ledger, evidence and episodes to the staging area.

    `staged` says that every episode's steps wait there; else published parts give what they hold. Raises VerdictError,
    GuardrailExceeded, and ValueError where sources cannot share a column.
    """
    measured = load_measured(files)
    decided = decide_all(measured, edges, config.select, verdicts, _published(held, edges))
    loose = _loose(decided, verdicts, held, {source.name for source in config.sources})
    ledger = ledger_table(decided)
    reports = write_ledger(held.staging, ledger, config.sink)
    counts = count_outcomes(ledger)
    outcomes = summarise(counts, [source.name for source in config.sources])
    failures = check_gates(config.gates, outcomes)
    reports += write_evidence(held.staging, decided, loose, config.sink)
    reports += write_clusters(held.staging, decided.clusters, config.sink)
    kept = decided.kept()
    agreed = _agree(measured.episodes, kept)
    schema = arrow_schema(agreed)
    have = NOTHING if staged else carried(held, config.sink, schema, version)
    parts = _parts(decided, kept, have, config.sink.part_target_mb * 2**20)
    row_of = {name: row for row, name in enumerate(measured.episodes.column("episode_id").to_pylist())}
    reports += write_episodes(held.staging, EpisodesTable(decided), parts, row_of, config.sink)
    fresh, taken = [], []
    for part in parts:
        whole = have.whole(part, schema)
        if whole:
            reports += keep_part(have, held.staging, whole, part, config.sink)
        else:
            fresh.append(part)
        taken += [member.episode_id for member in part.members if member.part]
    rows = np.array([row_of[name] for name in taken], np.int64)
    reports += kept_videos(have, [video for videos in _videos(measured.episodes, rows) for video in videos])
    wanted = () if staged else tuple(_wanted(measured.episodes, fresh, row_of))
    return Plan(
        tuple(counts),
        tuple(outcomes),
        agreed,
        tuple(fresh),
        tuple(reports),
        wanted,
        tuple(f"{found.episode_id}: {found.finding.detail}" for found in loose),
        tuple(failures),
    )


def _published(held: Output, edges: Sequence[DuplicateEdge]) -> set[tuple[str, str]]:
    """(episode id, content id) of the edges' episodes that the last run published, as far as its files are there."""
    if held.previous is None or not edges:
        return set()
    published = CuratedSet(held.path)
    ends = {end for edge in edges for end in (edge.a, edge.b)}
    paths = [held.path / file.path for file in held.previous.files if file.path.startswith(f"{EPISODES}/")]
    found = [zip(*published.ids(path), strict=True) for path in paths if path.exists()]
    return {(name, content) for pairs in found for name, content in pairs if name in ends}


def _agree(episodes: pa.Table, kept: np.ndarray) -> AgreedSchema:
    """The one schema of what is kept; few episodes differ in their columns."""
    claims = episodes.select(["source", "columns"]).filter(pa.array(kept))
    distinct = claims.group_by(["source", "columns"]).aggregate([]).to_pylist()
    return agree_on_columns((row["source"], from_json(row["columns"], _COLUMNS)) for row in distinct)


def _videos(episodes: pa.Table, rows: np.ndarray) -> Iterator[list[str]]:
    """The video files that each of some episodes shows."""
    shown = episodes.column("videos").take(pa.array(rows)).combine_chunks()
    sizes = np.asarray(pc.fill_null(pc.list_value_length(shown), 0), np.int64)
    paths = pc.struct_field(shown.flatten(), "path").to_pylist()
    for stop, size in zip(np.cumsum(sizes).tolist(), sizes.tolist(), strict=True):
        yield paths[stop - size : stop]


def _parts(decided: Decided, kept: np.ndarray, have: Carried, limit: float) -> list[Part]:
    episodes = decided.measured.episodes
    parts = []
    for source, start, count in rows_of_source(episodes):
        own = episodes.slice(start, count)
        names = own.column("episode_id").to_pylist()
        held = {}
        if have.contents:
            contents = own.column("content_id").to_pylist()
            shown = _videos(own, np.arange(count))
            held = {n: have.part_of(n, c, v) for n, c, v in zip(names, contents, shown, strict=True)}
        sizes = own.column("n_bytes").to_pylist()
        for index, ids in enumerate(cut_source(source, names, sizes, kept[start : start + count].tolist(), limit)):
            parts.append(Part(source, index, place_members(ids, held)))
    return parts


def _wanted(episodes: pa.Table, parts: Sequence[Part], row_of: Mapping[str, int]) -> Iterator[Wanted]:
    rows = [row_of[member.episode_id] for part in parts for member in part.members if not member.part]
    columns = ["episode_id", "source", "parent_id", "content_id"]
    for row in episodes.select(columns).take(pa.array(rows, pa.int64())).to_pylist():
        name = row["episode_id"]
        yield Wanted(name, row["source"], row["parent_id"] or name, row["content_id"])


def _loose(decided: Decided, verdicts: Mapping[str, Verdict], held: Output, sources: set[str]) -> list[LooseFinding]:
    """Warnings of verdicts on episodes that only an earlier run had; raises VerdictError for ids that none had."""
    if not verdicts:
        return []
    ids = decided.measured.episodes.column("episode_id")
    others = ledger_rows(decided.measured.left, sorted(verdicts))
    known = set(ids.to_pylist())
    earlier = _earlier_ids(held) if verdicts.keys() - known - others.keys() else {}
    return [
        LooseFinding(stale.episode_id, earlier[stale.episode_id], without_episode(stale))
        for stale in check_verdicts(verdicts, known, others, earlier)
        if earlier[stale.episode_id] in sources
    ]


def _earlier_ids(held: Output) -> dict[str, str]:
    """Episode id -> source of every id that the last published run knew, also by a warning alone."""
    if held.previous is None:
        return {}
    published = CuratedSet(held.path)
    columns = ["episode_id", "source"]
    rows = [
        published.rows(LEDGER, columns=columns),
        published.rows(EVIDENCE, columns=columns, where=pc.field("check") == NO_EPISODE),
    ]
    return {row["episode_id"]: row["source"] for table in rows if table.num_rows for row in table.to_pylist()}
