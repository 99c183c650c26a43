"""CuratedSet: a published output folder as its readers see it, through the newest manifest alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from beam_pipeline.embedding_table import stored_embeddings
from beam_pipeline.output_folder import MANIFESTS, Manifest, OutputError, newest_manifest
from transforms.output_files import EPISODES, INCOMPLETE, TRANSITIONS
from transforms.output_schema import EPISODE_ID
from transforms.schema import FRAME_INDEX

_ROWS_AT_ONCE = 1024
"""Read at a time, since images make rows large."""


@dataclass(frozen=True)
class CuratedVideo:
    """Where one camera of an episode lies: `path` relative to the output folder, times as in the video, nanoseconds."""

    camera: str
    path: str
    from_pts_ns: int | None
    to_pts_ns: int | None
    origin_ns: int | None
    depth: bool | None


@dataclass(frozen=True)
class CuratedEpisode:
    """One kept episode: its row of the episodes table, with `scores` by check and `row` whole."""

    episode_id: str
    content_id: str
    source: str
    embodiment: str
    instruction: str | None
    instruction_status: str
    success: bool | None
    n_steps: int
    n_transitions: int
    videos: tuple[CuratedVideo, ...]
    scores: Mapping[str, float]
    row: Mapping[str, Any]
    part: str
    """Name of the part file that holds its rows, in each table of the source."""


class CuratedSet:
    """What a run published: `CuratedSet(folder).episodes()`, then `steps(episode)`.

    `manifest` names the files of a run that is finished and not yet committed, of which some may still lie in
    `published`. Raises OutputError where nothing was published in the folder, or a file that is named is gone.
    """

    def __init__(
        self, folder: str | Path, manifest: Manifest | None = None, published: str | Path | None = None
    ) -> None:
        self.folder = Path(folder)
        self._published = self.folder if published is None else Path(published)
        manifest = manifest or newest_manifest(self.folder)
        if manifest is None:
            raise OutputError(f"{self.folder} holds no published run (no {MANIFESTS}/*.json); curate into it first")
        self.manifest: Manifest = manifest

    def sources(self) -> tuple[str, ...]:
        """Sources that have rows in any table, sorted."""
        return tuple(sorted({file.source for file in self.manifest.files if file.source}))

    def place(self, path: str) -> Path:
        """Where a file lies that the manifest or a row names."""
        here = self.folder / path
        return here if here.exists() else self._published / path

    def files(self, table: str, source: str | None = None) -> tuple[Path, ...]:
        """A table's part files in order, of one source or of all."""
        found = [
            self.place(file.path)
            for file in sorted(self.manifest.files, key=lambda f: f.path)
            if file.path.startswith(f"{table}/") and source in (None, file.source)
        ]
        for path in found:
            if not path.exists():
                raise OutputError(f"{path} is gone, and the manifest names it; curate again, or copy the folder whole")
        return tuple(found)

    def rows(
        self,
        table: str,
        source: str | None = None,
        columns: Sequence[str] | None = None,
        where: pc.Expression | None = None,
    ) -> pa.Table:
        """A table in memory, with its `source` as a column: for the small ones (episodes, ledger, evidence).

        `where` takes some of its rows.
        """
        parts = []
        for name in (source,) if source is not None else self.sources():
            for path in self.files(table, name):
                wanted = None if columns is None else [column for column in columns if column != "source"]
                part = part_dataset(path).to_table(columns=wanted, filter=where)
                parts.append(part.append_column("source", pa.array([name] * part.num_rows, pa.string())))
        found = pa.concat_tables(parts, promote_options="default") if parts else pa.table({})
        return found if columns is None or not parts else found.select(columns)

    def embeddings(self, channel: str | None = None, source: str | None = None) -> pa.Table:
        """Stored vectors of the published sources, of kept episodes and of others, with a column `source`.

        `stored_embeddings.SCHEMA` says what the columns are. Raises OutputError where none were stored.
        """
        return stored_embeddings(self.folder, (source,) if source is not None else self.sources(), channel)

    def ids(self, path: Path) -> tuple[list[str], list[str]]:
        """Episode ids and content ids of a part of the episodes table, in its order."""
        table = part_dataset(path).to_table(columns=["episode_id", "content_id"])
        return table.column("episode_id").to_pylist(), table.column("content_id").to_pylist()

    def beside(self, part: Path, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The part file of another table that is of the same episodes, whole."""
        return part_dataset(self.place(f"{table}/{part.parent.name}/{part.name}")).to_table(columns=columns)

    def episodes(self, source: str | None = None) -> Iterator[CuratedEpisode]:
        """Every kept episode, by source and id."""
        for name in (source,) if source is not None else self.sources():
            for path in self.files(EPISODES, name):
                for row in part_dataset(path).to_table().to_pylist():
                    yield _episode(name, row, path.name)

    def episodes_of(self, episode_ids: Collection[str]) -> Iterator[CuratedEpisode]:
        """The kept ones of some episodes, by source and id."""
        wanted = pc.field(EPISODE_ID).isin(pa.array(sorted(episode_ids), pa.string()))
        for name in self.sources():
            for path in self.files(EPISODES, name):
                for row in part_dataset(path).to_table(filter=wanted).to_pylist():
                    yield _episode(name, row, path.name)

    def step_columns(self, episode: CuratedEpisode) -> list[str]:
        """Names of the columns of its steps, those too that other sources brought and that are null here."""
        return list(part_dataset(self._part(TRANSITIONS, episode)).schema.names)

    def steps(self, episode: CuratedEpisode, columns: Sequence[str] | None = None) -> pa.Table:
        """All steps of an episode in order, (T rows): its transitions, and the steps that begin none (next.* null).

        `columns` limits what is read; images make rows large.
        """
        parts = [self._of(table, episode, columns) for table in (TRANSITIONS, INCOMPLETE)]
        return pa.concat_tables(parts).sort_by(FRAME_INDEX)

    def transitions(self, episode: CuratedEpisode, columns: Sequence[str] | None = None) -> pa.Table:
        """The complete transitions (s, a, r, s') of an episode in order: at most T - 1 rows."""
        return self._of(TRANSITIONS, episode, columns)

    def step_schema(self, source: str) -> pa.Schema:
        """Names and types of a source's step columns, read from one footer."""
        return part_dataset(self.files(TRANSITIONS, source)[0]).schema

    def one_step(self, episode: CuratedEpisode, columns: Sequence[str]) -> pa.Table:
        """The first stored step of an episode, (1 row), without reading the others' pictures."""
        for table in (TRANSITIONS, INCOMPLETE):
            found = self._scanner(table, episode, columns).head(1)
            if found.num_rows:
                break
        return found

    def _part(self, table: str, episode: CuratedEpisode) -> Path:
        (path,) = [p for p in self.files(table, episode.source) if p.name == episode.part]
        return path

    def _of(self, table: str, episode: CuratedEpisode, columns: Sequence[str] | None) -> pa.Table:
        return self._scanner(table, episode, columns).to_table()

    def _scanner(self, table: str, episode: CuratedEpisode, columns: Sequence[str] | None) -> ds.Scanner:
        path = self._part(table, episode)
        needed = None if columns is None else list(dict.fromkeys([FRAME_INDEX, *columns]))
        return part_dataset(path).scanner(
            columns=needed,
            filter=pc.field(EPISODE_ID) == episode.episode_id,
            batch_size=_ROWS_AT_ONCE,
            batch_readahead=1,
            fragment_readahead=1,
        )


def part_dataset(path: Path) -> ds.Dataset:
    """The rows of one file of a table, in either format."""
    return ds.dataset(str(path), format="parquet" if path.suffix == ".parquet" else "ipc")


def _episode(source: str, row: Mapping[str, Any], part: str) -> CuratedEpisode:
    scores = {name.removeprefix("score."): value for name, value in row.items() if name.startswith("score.")}
    return CuratedEpisode(
        episode_id=row["episode_id"],
        content_id=row["content_id"],
        source=source,
        embodiment=row["embodiment"],
        instruction=row["instruction"],
        instruction_status=row["instruction_status"],
        success=row["success"],
        n_steps=row["n_steps"],
        n_transitions=row["n_transitions"],
        videos=tuple(CuratedVideo(**video) for video in row["videos"] or ()),
        scores={check: value for check, value in scores.items() if value is not None},
        row=row,
        part=part,
    )
