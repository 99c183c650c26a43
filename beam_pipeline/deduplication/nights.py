"""The index of a search that goes on night by night: who holds it, what is committed, and what a night adds.

    INDEX/manifests/00000003.json      the commit of night 3: nights and runs so far
    INDEX/night=00003/                 its documents, edges, dropped rows, and its run
    INDEX/runs/00000-00003/            runs of several nights, merged

A night is written beside what is there and is part of the index when its manifest is. The newest night may be run
again with the same files: it is then decided by what was there before it, and comes to the same.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from beam_pipeline.deduplication.tables import RepeatedId, read_batches
from beam_pipeline.output_folder import LOCK, OutputError, locked, read_record
from transforms.coders import to_json
from transforms.deduplication.deciding_duplicates import DUPLICATE_ROWS, DUPLICATES, TABLES
from transforms.deduplication.document_files import MOST_NIGHTS, DocumentFiles, Layout, id_hashes
from transforms.deduplication.night_index import (
    CENTROIDS,
    DROPPED,
    EDGES,
    IDS,
    IndexView,
    merge_runs,
    run_path,
    write_arrow,
    write_run,
)
from transforms.deduplication.text_deduplicator import PAIRS, Night
from transforms.deduplication.whole_components import UNJOINED
from transforms.file_hash import file_hash
from transforms.part_writer import put_in_place, temporary_file

MANIFESTS = "manifests"
_RUN = "run"
PAIR_ROWS = pa.schema([("a", pa.int64()), ("b", pa.int64()), ("similarity", pa.float64()), ("exact", pa.bool_())])


@dataclass(frozen=True)
class NightRecord:
    """A committed night: the hash of its input files, its files of documents, and how many documents those hold."""

    inputs: str
    documents: tuple[str, ...]
    count: int


@dataclass(frozen=True)
class RunRecord:
    """A run of `nights` nights: a folder in the index."""

    path: str
    nights: int


@dataclass(frozen=True)
class IndexManifest:
    """The state of an index after its newest night, and the settings that all its nights share."""

    settings: str
    nights: tuple[NightRecord, ...]
    runs: tuple[RunRecord, ...]

    @property
    def documents(self) -> int:
        """Documents of all nights."""
        return sum(night.count for night in self.nights)

    def view(self, folder: Path) -> IndexView:
        """What the workers of the next night read."""
        nights = [folder / night_name(number) for number in range(len(self.nights))]
        return IndexView(
            documents=tuple(sorted(str(folder / path) for night in self.nights for path in night.documents)),
            runs=tuple(str(folder / run.path) for run in self.runs),
            edges=tuple(str(night / EDGES) for night in nights),
            dropped=tuple(str(night / DROPPED) for night in nights),
            centroids=next(
                (str(path) for path in (night / _RUN / CENTROIDS for night in nights) if path.exists()), None
            ),
        )


@dataclass(frozen=True)
class OpenNight:
    """A night in the making: its folder, which is also the job's staging area, and the state before it."""

    index: Path
    before: IndexManifest
    inputs: str
    max_bucket: int

    @property
    def number(self) -> int:
        """Nights before this one."""
        return len(self.before.nights)

    @property
    def folder(self) -> Path:
        """Where its files are written."""
        return self.index / night_name(self.number)

    def night(self) -> Night:
        """What the graph needs to know of it."""
        return Night(self.number, self.before.view(self.index), str(self.folder / _RUN))

    def check_ids(self) -> None:
        """Raises RepeatedId where a document has the id of one in the index."""
        view = self.before.view(self.index)
        if not view.runs:
            return
        for ids in map(_ids_of, self._documents()):
            rows = view.ids(np.unique(id_hashes(ids)))
            if not len(rows):
                continue
            known = DocumentFiles(view.documents, Layout()).ids(np.unique(rows))
            again = pc.filter(ids, pc.is_in(ids, known))
            if len(again):
                raise RepeatedId(
                    f"id {again[0].as_py()!r} is that of a document of an earlier night in {self.index} "
                    f"({len(again)} ids repeat); an index takes each document once: leave it out of --input"
                )

    def commit(self) -> None:
        """Add the night: ids, edges and dropped rows, runs merged, then the manifest."""
        gone = read_batches(self.folder, DUPLICATES, DUPLICATE_ROWS).column("id").combine_chunks()
        hashes, dropped = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        rows = [np.zeros(0, np.int64)]
        for first, path in enumerate(self._documents(), len(self.before.view(self.index).documents)):
            ids = _ids_of(path)
            hashes.append(id_hashes(ids))
            rows.append((first << 32) + np.arange(len(ids)))
            dropped.append(rows[-1][np.asarray(pc.is_in(ids, gone))])
        columns = {"low": np.concatenate(hashes), "row": np.concatenate(rows)}
        write_run(self.folder, run_path(self.folder / _RUN, IDS, 0), IDS, columns)
        write_arrow(self.folder, self.folder / DROPPED, pa.record_batch({"row": np.sort(np.concatenate(dropped))}))
        pairs = read_batches(self.folder, PAIRS, PAIR_ROWS).sort_by([("a", "ascending"), ("b", "ascending")])
        columns_of = [column.combine_chunks() for column in pairs.columns]
        write_arrow(self.folder, self.folder / EDGES, pa.record_batch(columns_of, schema=PAIR_ROWS))
        for name in (*TABLES, PAIRS, UNJOINED, "tmp", f"{_RUN}/tmp"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        documents = tuple(str(Path(path).relative_to(self.index)) for path in self._documents())
        nights = (*self.before.nights, NightRecord(self.inputs, documents, len(columns["row"])))
        runs = self._merged([*self.before.runs, RunRecord(f"{night_name(self.number)}/{_RUN}", 1)])
        self._write(IndexManifest(self.before.settings, nights, runs))

    def _merged(self, runs: list[RunRecord]) -> tuple[RunRecord, ...]:
        """Runs of like length become one: so there are at most log2(nights) + 1, and each row is written as often."""
        start, count = len(runs) - 1, runs[-1].nights
        while start and runs[start - 1].nights <= count:
            start -= 1
            count += runs[start].nights
        if start == len(runs) - 1:
            return tuple(runs)
        path = f"runs/{self.number + 1 - count:05d}-{self.number:05d}"
        shutil.rmtree(self.index / path, ignore_errors=True)
        merge_runs(self.folder, [self.index / run.path for run in runs[start:]], self.index / path, self.max_bucket)
        return (*runs[:start], RunRecord(path, count))

    def _write(self, manifest: IndexManifest) -> None:
        temporary = temporary_file(self.folder)
        temporary.write_bytes(msgspec.json.format(to_json(manifest)) + b"\n")
        put_in_place(temporary, self.index / MANIFESTS / f"{self.number:08d}.json")
        used = {run.path for run in (*manifest.runs, *self.before.runs)}  # before's are needed to run it again
        for folder in sorted((self.index / "runs").glob("*")):
            if f"runs/{folder.name}" not in used:
                shutil.rmtree(folder)

    def _documents(self) -> list[str]:
        return sorted(str(path) for path in (self.folder / "documents").glob("*.arrow"))


def _ids_of(path: str) -> pa.Array:
    column = pa.ipc.open_file(pa.memory_map(path)).read_all().column("id")
    return pa.concat_arrays([pa.array([], pa.string()), *column.chunks])


def night_name(number: int) -> str:
    """A night's folder in the index."""
    return f"night={number:05d}"


@contextmanager
def open_night(index: Path, settings: str, inputs: Sequence[Path], max_bucket: int) -> Iterator[OpenNight]:
    """Hold the index for one night, its folder empty.

    Raises OutputError where another run holds it, where it was made by other settings, and where the files are those
    of a night before the newest.
    """
    try:
        (index / MANIFESTS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{index} cannot be used: {error.strerror}; use another --index") from error
    with locked(index / LOCK, index):
        before = _state_before(index, settings, _hash_of(inputs))
        night = OpenNight(index, before, _hash_of(inputs), max_bucket)
        shutil.rmtree(night.folder, ignore_errors=True)
        night.folder.mkdir()
        yield night


def _state_before(index: Path, settings: str, inputs: str) -> IndexManifest:
    committed = sorted(path for path in (index / MANIFESTS).glob("*.json") if path.stem.isdigit())
    empty = IndexManifest(settings, (), ())
    newest = read_record(committed[-1], IndexManifest) if committed else empty
    if newest.settings != settings:
        raise OutputError(
            f"{index} was made with {newest.settings}, and this run has {settings}; use the same settings, or another "
            "--index"
        )
    if len(newest.nights) >= MOST_NIGHTS:
        raise OutputError(f"{index} has {len(newest.nights)} nights, which is the most; begin another --index")
    for number, night in enumerate(newest.nights):
        if night.inputs != inputs:
            continue
        if number < len(newest.nights) - 1:
            raise OutputError(
                f"--input is that of night {number} in {index}, whose newest is {len(newest.nights) - 1}; only the "
                "newest can be run again: leave the files out, or use another --index"
            )
        return read_record(committed[-2], IndexManifest) if number else empty
    return newest


def _hash_of(inputs: Sequence[Path]) -> str:
    return xxhash.xxh3_128_hexdigest("".join(sorted(file_hash(path) for path in inputs)).encode())
