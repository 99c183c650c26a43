"""The index of the search for duplicate episodes: a run compares only the fingerprints that it has not seen before.

    _evidence/duplicates/index.json      the commit: nights, runs, what made them, and the size of every file
    _evidence/duplicates/night=00003/    fingerprints that came in night 3, the edges that they brought, and their run
    _evidence/duplicates/runs/00003/     runs of several nights, merged in night 3

A night is a run that found fingerprints which the index did not hold. It is written beside what is there and is part of
the index when `index.json` says so. Fingerprints are known by what they are, not by the file that they lie in, so that
a source may be measured again and grow. Where settings changed, or a fingerprint is gone or another, all is made anew.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from beam_pipeline.deduplication.nights import night_name
from beam_pipeline.evidence_folder import shingle_files
from beam_pipeline.measuring import differences
from transforms.coders import from_json, to_json
from transforms.deduplication.clusters import as_one_search
from transforms.deduplication.deduplicator import EPISODES, DedupParams
from transforms.deduplication.document_files import MOST_NIGHTS, NIGHT, DocumentFiles, id_hashes
from transforms.deduplication.night_index import IDS, IndexView, merge_runs, run_path, write_run
from transforms.evidence import DuplicateEdge
from transforms.measured import SHINGLES_SCHEMA, STORE
from transforms.output_files import PartReport
from transforms.part_writer import put_in_place, temporary_file
from transforms.reports import EDGES, read_edges

INDEX, MANIFEST = "duplicates", "index.json"
_DOCUMENTS, _RUN, _RUNS, _TEMPORARY = "documents", "run", "runs", "tmp"
_FORMAT = "1"
_NO_MATTER = ("device", "gpus", "block_bytes")
"""Parameters that change no edge."""


@dataclass(frozen=True)
class EpisodeNight:
    """The files of fingerprints that a night brought, and how many they hold."""

    documents: tuple[str, ...]
    count: int


@dataclass(frozen=True)
class EpisodeRun:
    """A folder of sorted rows, and of how many fingerprints they are."""

    path: str
    count: int


@dataclass(frozen=True)
class EpisodeIndex:
    """The state of an index; paths are relative to it.

    `stored` are files of evidence, by their hash, whose fingerprints are all in the index, and how many those are.
    """

    settings: Mapping[str, str]
    nights: tuple[EpisodeNight, ...] = ()
    runs: tuple[EpisodeRun, ...] = ()
    stored: Mapping[str, int] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)

    def view(self, folder: Path) -> IndexView:
        """What the workers of a search read."""
        documents = tuple(str(folder / path) for night in self.nights for path in night.documents)
        return IndexView(documents, tuple(str(folder / run.path) for run in self.runs))


@dataclass(frozen=True)
class _Fresh:
    """A file of stored evidence, and which of its fingerprints the index holds (N,), None where it holds none."""

    path: Path
    known: NDArray[np.bool_] | None


class _Outdated(Exception):
    """The index does not go with the evidence or with the configuration; the message says why."""


@dataclass(frozen=True)
class OpenIndex:
    """An index and a night in the making: `documents` are files of fingerprints that it does not hold yet, if any.

    `anew` says why an earlier index was dropped, empty where none was.
    """

    path: Path
    before: EpisodeIndex
    documents: tuple[str, ...]
    count: int
    stored: Mapping[str, int]
    anew: str = ""

    @property
    def folder(self) -> Path:
        """Where the night's files are written."""
        return self.path / night_name(len(self.before.nights))

    @property
    def run(self) -> str:
        """The folder to which the search writes what later nights need."""
        return str(self.folder / _RUN)

    def view(self) -> IndexView:
        """What earlier nights left."""
        return self.before.view(self.path)

    def commit(self) -> list[DuplicateEdge]:
        """Add the night, whose edges were reported in its folder; returns the edges of all nights."""
        after = self.before
        if self.documents:
            self._write_ids()
            own = tuple(str(Path(path).relative_to(self.path)) for path in self.documents)
            nights = (*after.nights, EpisodeNight(own, self.count))
            after = replace(after, nights=nights, runs=self._merged())
        if self.documents or self.stored != after.stored:
            after = replace(after, stored=self.stored, sizes=_sizes(self.path, after))
            temporary = temporary_file(self.path)
            temporary.write_bytes(msgspec.json.format(to_json(after)) + b"\n")
            put_in_place(temporary, self.path / MANIFEST)
        _clean(self.path, after)
        edges = [edge for night in range(len(after.nights)) for edge in read_edges(self.path / night_name(night))]
        return as_one_search(edges) if len(after.nights) > 1 else edges

    def _write_ids(self) -> None:
        hashes, rows = [], []
        for place, path in enumerate(self.documents, len(self.view().documents)):
            hashes.append(id_hashes(_read(path).column("episode_id").combine_chunks()))
            rows.append((place << 32) + np.arange(len(hashes[-1])))
        columns = {"low": np.concatenate(hashes), "row": np.concatenate(rows)}
        write_run(self.folder, run_path(self.folder / _RUN, IDS, 0), IDS, columns)

    def _merged(self) -> tuple[EpisodeRun, ...]:
        """The runs with the night's own; each is more than twice as long as the next, so that there are few."""
        runs = [*self.before.runs, EpisodeRun(f"{self.folder.name}/{_RUN}", self.count)]
        start = len(runs) - 1
        while start and runs[start - 1].count <= 2 * sum(run.count for run in runs[start:]):
            start -= 1
        joined = runs[start:]
        if len(joined) == 1:
            return tuple(runs)
        path = f"{_RUNS}/{len(self.before.nights):05d}"
        shutil.rmtree(self.path / path, ignore_errors=True)
        folders = [self.path / run.path for run in joined]
        merge_runs(self.folder, folders, self.path / path, int(self.before.settings["deduplication.max_bucket"]))
        return (*runs[:start], EpisodeRun(path, sum(run.count for run in joined)))


def open_index(output: Path, params: DedupParams, version: str) -> OpenIndex:
    """The index of an output folder that this run holds, and the fingerprints of its evidence that are not in it."""
    folder = output / STORE / INDEX
    settings = _settings(params, version)
    files = shingle_files(output)
    stored = {report.hash: report.rows for _, report in files}
    anew = ""
    before = EpisodeIndex(settings)
    try:
        if (folder / MANIFEST).exists():
            before = _read_index(folder, settings)
        fresh = _fresh(before, folder, files)
    except _Outdated as outdated:
        anew = f"the index of duplicate episodes is made anew: {outdated}"
        before = EpisodeIndex(settings)
        fresh = [_Fresh(path, None) for path, _ in files]
    if not before.nights:
        shutil.rmtree(folder, ignore_errors=True)
    night = folder / night_name(len(before.nights))
    shutil.rmtree(night, ignore_errors=True)
    documents: list[str] = []
    count = 0
    for one in fresh:
        target = night / _DOCUMENTS / f"{len(documents):05d}.arrow"
        own = _store(one, target, len(before.nights))
        count += own
        documents += [str(target)] if own else []
    return OpenIndex(folder, before, tuple(documents), count, stored, anew)


def _settings(params: DedupParams, version: str) -> dict[str, str]:
    own = {f"deduplication.{name}": to_json(v).decode() for name, v in vars(params).items() if name not in _NO_MATTER}
    return {**own, "demosift": version, "format": _FORMAT}


def _read_index(folder: Path, settings: Mapping[str, str]) -> EpisodeIndex:
    """Raises _Outdated for one of other settings, and for one that is damaged."""
    try:
        index = from_json((folder / MANIFEST).read_bytes(), EpisodeIndex)
    except msgspec.DecodeError as error:
        raise _Outdated(f"{folder / MANIFEST} is damaged ({error})") from error
    changed = differences(index.settings, settings)
    if changed:
        raise _Outdated(changed)
    if len(index.nights) >= MOST_NIGHTS:
        raise _Outdated(f"it has {len(index.nights)} nights, which is the most")
    for path, size in index.sizes.items():
        if not (folder / path).exists() or (folder / path).stat().st_size != size:
            raise _Outdated(f"{folder / path} is gone, or has not the {size} bytes that were written")
    return index


def _fresh(before: EpisodeIndex, folder: Path, files: Sequence[tuple[Path, PartReport]]) -> list[_Fresh]:
    """Which fingerprints of which files the index does not hold; raises _Outdated where it holds others."""
    held = sum(night.count for night in before.nights)
    view = before.view(folder)
    known, found = 0, []
    for path, report in files:
        if report.hash in before.stored:
            known += report.rows
            continue
        rows = _known(view, path) if held else None
        known += 0 if rows is None else int(rows.sum())
        if rows is None or not rows.all():
            found.append(_Fresh(path, rows))
    if known != held:
        raise _Outdated(f"{held - known} of its {held} fingerprints are no longer in the evidence")
    return found


def _known(view: IndexView, path: Path) -> NDArray[np.bool_]:
    """(N,) which fingerprints of a file the index holds; raises _Outdated where it has one of the same id otherwise."""
    table = _read(path)
    ids = table.column("episode_id").combine_chunks()
    earlier = DocumentFiles(view.documents, EPISODES).records(np.unique(view.ids(np.unique(id_hashes(ids)))))
    places = pc.index_in(ids, earlier.column("episode_id").combine_chunks())
    known = np.asarray(places.is_valid())
    same = table.filter(pa.array(known)).combine_chunks().equals(earlier.take(places.drop_null()).combine_chunks())
    if not same:
        raise _Outdated(f"fingerprints of it are now others in {path}")
    return known


def _store(fresh: _Fresh, target: Path, night: int) -> int:
    """Write new fingerprints as a file of the index, by a link where it can be one; returns how many they are."""
    table = _read(fresh.path)
    if fresh.known is not None:
        table = table.filter(pa.array(~fresh.known))
    if not table.num_rows:
        return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    if night == 0 and _linked(fresh.path, target):
        return int(table.num_rows)
    schema = SHINGLES_SCHEMA.with_metadata({NIGHT: str(night).encode()})
    with pa.ipc.new_file(str(target), schema) as writer:
        # rows of their own: a slice would be written with what lies beside it
        own = table.take(pa.array(np.arange(table.num_rows))).combine_chunks()
        writer.write_table(own.replace_schema_metadata(schema.metadata))
    return int(table.num_rows)


def _linked(path: Path, target: Path) -> bool:
    try:
        os.link(path, target)
    except OSError:  # a file system without links
        return False
    return True


def _read(path: Path | str) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _sizes(folder: Path, index: EpisodeIndex) -> dict[str, int]:
    """Bytes of every file that an index consists of."""
    paths = [folder / path for night in index.nights for path in night.documents]
    paths += [folder / night_name(night) / EDGES for night in range(len(index.nights))]
    paths += [path for run in index.runs for path in sorted((folder / run.path).glob("*/*.arrow"))]
    return {str(path.relative_to(folder)): path.stat().st_size for path in paths}


def _clean(folder: Path, index: EpisodeIndex) -> None:
    """Remove runs that were merged, and what was written on the way."""
    used = {run.path for run in index.runs}
    nights = [f"{night_name(night)}/{_RUN}" for night in range(len(index.nights))]
    merged = [f"{_RUNS}/{path.name}" for path in (folder / _RUNS).glob("*")]
    for path in (*nights, *merged):
        if path not in used:
            shutil.rmtree(folder / path, ignore_errors=True)
        shutil.rmtree(folder / path / _TEMPORARY, ignore_errors=True)
    for night in range(len(index.nights)):
        shutil.rmtree(folder / night_name(night) / _TEMPORARY, ignore_errors=True)
    shutil.rmtree(folder / _TEMPORARY, ignore_errors=True)
