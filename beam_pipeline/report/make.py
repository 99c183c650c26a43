"""A report of a run that is about to be published, and of a folder that was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec

from beam_pipeline.curated import CuratedSet
from beam_pipeline.output_folder import FRAMES, REPORT, SUMMARY, Manifest, Output, OutputError
from beam_pipeline.report.frames import Album
from beam_pipeline.report.gather import Tables, gather, read_tables
from beam_pipeline.report.looks import read_looks, write_looks
from beam_pipeline.report.page import render
from beam_pipeline.summary import RunSummary
from transforms.coders import from_json
from transforms.media import MediaParams
from transforms.output_files import OUT, PartReport


def start_reading(held: Output, files: Sequence[PartReport]) -> Future[Tables]:
    """Read what a report needs of ledger and evidence in a thread, while the steps are written."""
    pool = ThreadPoolExecutor(1)
    tables = pool.submit(
        read_tables, CuratedSet(held.staging / OUT, Manifest(0, None, "", "", tuple(files)), held.path)
    )
    pool.shutdown(wait=False)
    return tables


def report_files(
    held: Output,
    files: Sequence[PartReport],
    summary: RunSummary,
    roots: Mapping[str, str] | None = None,
    media: MediaParams | None = None,
    failures: Sequence[str] = (),
    tables: Tables | None = None,
) -> Mapping[str, bytes]:
    """The report of a finished run, and the pictures in it, by name in the output folder; `failures` are of gates.

    To be called before the staging area goes: pictures of what was not kept are taken from there, else from the report
    before this one.
    """
    folder = held.staging / OUT
    manifest = Manifest(0, None, summary.config_hash, summary.code_version, tuple(files))
    curated = CuratedSet(folder, manifest, held.path)
    album = Album(curated, held.staging, read_looks(held.path / FRAMES), roots, media)
    return _drawn(curated, tables or read_tables(curated), summary, album, held.staging / FRAMES, failures)


def remake(output: str | Path) -> Path:
    """Draw a published folder's report anew; returns its place. Raises OutputError where nothing was published."""
    folder = Path(output)
    curated = CuratedSet(folder)
    place = folder / SUMMARY
    try:
        summary = from_json(place.read_bytes(), RunSummary)
    except FileNotFoundError as error:
        raise OutputError(f"{place} is gone, and the report tells of it; curate again") from error
    except msgspec.DecodeError as error:
        raise OutputError(f"{place} is damaged ({error}); curate again") from error
    album = Album(curated, None, read_looks(folder / FRAMES))
    temporary = folder / f".{FRAMES}.new"
    for name, body in _drawn(curated, read_tables(curated), summary, album, temporary).items():
        new = folder / f".{name}.new"
        new.write_bytes(body)
        new.replace(folder / name)
    return folder / REPORT


def _drawn(
    curated: CuratedSet,
    tables: Tables,
    summary: RunSummary,
    album: Album,
    scratch: Path,
    failures: Sequence[str] = (),
) -> Mapping[str, bytes]:
    facts = gather(curated, tables, summary, album)
    write_looks(list(facts.looks.values()), scratch)
    frames = scratch.read_bytes()
    scratch.unlink()
    return {FRAMES: frames, REPORT: render(facts, failures)}
