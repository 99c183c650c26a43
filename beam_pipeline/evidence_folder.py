"""Stored evidence in the output folder: committed a source at a time, checked before anything is decided by it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import xxhash

from beam_pipeline.config import PipelineConfig
from beam_pipeline.measuring import differences
from beam_pipeline.output_folder import STAGING, OutputError, locked, read_record, share_output
from transforms.coders import to_json
from transforms.measured import SHINGLES, STORE, StoredFile, table_of
from transforms.output_files import OUT, PartReport

RECORD = "source.json"
_SOURCE_LOCK = "_lock"


@dataclass(frozen=True)
class SourceRecord:
    """The commit of one source's evidence: its files lie in `folder` beside the record, named by their content.

    `measuring` are the keys of the configuration that measured it, and their values.
    """

    source: str
    folder: str
    code_version: str
    measuring: Mapping[str, str]
    files: tuple[PartReport, ...]


def source_folder(output: Path, source: str) -> Path:
    """Where a source's evidence lies."""
    return output / STORE / f"source={quote(source, safe='')}"


def read_source(output: Path, source: str) -> SourceRecord | None:
    """The record of a source's evidence; None where none is stored. Raises OutputError for a damaged one."""
    path = source_folder(output, source) / RECORD
    return read_record(path, SourceRecord) if path.exists() else None


def stored_sources(output: Path) -> list[SourceRecord]:
    """The records of all sources that have stored evidence, by name."""
    found = [read_record(path, SourceRecord) for path in (output / STORE).glob(f"source=*/{RECORD}")]
    return sorted(found, key=lambda record: record.source)


@contextmanager
def hold_sources(output: str | Path, sources: Sequence[str]) -> Iterator[tuple[Path, Path]]:
    """(folder, an empty staging area of our own) to measure some sources into, beside others that measure others.

    Raises OutputError where the folder is in use by a run that decides, or a source by another that measures it.
    """
    with share_output(output) as folder, ExitStack() as held:
        for source in sorted(sources):
            own = source_folder(folder, source)
            own.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(own / _SOURCE_LOCK, own))
        name = xxhash.xxh3_64_hexdigest("\0".join(sorted(sources)).encode())
        staging = folder / STAGING / f"evidence-{name}"
        if staging.exists():
            shutil.rmtree(staging)
        staging.mkdir(parents=True)
        yield folder, staging
        shutil.rmtree(staging)


def commit_sources(
    output: Path,
    staging: Path,
    config: PipelineConfig,
    sources: Sequence[str],
    files: Sequence[PartReport],
    version: str,
) -> None:
    """Put staged evidence in place, each source at once by its record, then drop what that replaced."""
    for source in sorted(sources):
        own = sorted((file for file in files if file.source == source), key=lambda file: file.path)
        name = xxhash.xxh3_64_hexdigest("".join(f"{Path(f.path).name}:{f.hash}" for f in own).encode())
        target = source_folder(output, source)
        final = target / name
        target.mkdir(parents=True, exist_ok=True)
        record = SourceRecord(source, name, version, config.measuring.by_source[source], tuple(own))
        if not _complete(final, own):
            shutil.rmtree(final, ignore_errors=True)
            staged = staging / OUT / STORE / target.name
            staged.mkdir(parents=True, exist_ok=True)
            os.replace(staged, final)  # noqa: PTH105
        temporary = staging / f"{name}.json"
        with temporary.open("wb") as file:
            file.write(to_json(record) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target / RECORD)  # noqa: PTH105
        for entry in target.iterdir():
            if entry.is_dir() and entry.name != name:
                shutil.rmtree(entry)


def _complete(folder: Path, files: Sequence[PartReport]) -> bool:
    return folder.is_dir() and all(
        (folder / Path(file.path).name).exists() and (folder / Path(file.path).name).stat().st_size == file.bytes
        for file in files
    )


def stored_files(output: Path, config: PipelineConfig) -> list[StoredFile]:
    """The files of stored evidence of every source of a configuration.

    Raises OutputError where a source was never measured or measured with other parameters, where evidence of a source
    lies there that the configuration does not name, and where a file is gone.
    """
    records = {record.source: record for record in stored_sources(output)}
    named = [source.name for source in config.sources]
    problems = [
        f"source {name!r} has no stored evidence in {output}; run `evidence --source {name}`, or curate"
        for name in named
        if name not in records
    ]
    problems += [
        f"{output} holds evidence of source {name!r}, which the configuration does not name; "
        f"name it, or remove {source_folder(output, name)}"
        for name in records
        if name not in named
    ]
    problems += measured_otherwise(output, config)
    if problems:
        raise OutputError("\n".join(problems))
    files = [
        StoredFile(record.source, source_folder(output, record.source) / record.folder / Path(file.path).name)
        for record in records.values()
        for file in record.files
    ]
    for file in files:
        if not file.path.exists():
            raise OutputError(f"{file.path} is gone, and its record names it; run `evidence --source {file.source}`")
    return files


def shingle_files(output: Path) -> list[tuple[Path, PartReport]]:
    """The files of fingerprints of all stored evidence, by source, each with what its record says of it."""
    found = []
    for record in stored_sources(output):
        folder = source_folder(output, record.source) / record.folder
        for report in record.files:
            file = StoredFile(record.source, folder / Path(report.path).name)
            if table_of(file) == SHINGLES:
                found.append((file.path, report))
    return found


def measured_otherwise(output: Path, config: PipelineConfig) -> list[str]:
    """A message for each source whose stored evidence was measured with other parameters than these."""
    said = []
    for record in stored_sources(output):
        now = config.measuring.by_source.get(record.source)
        changed = "" if now is None else differences(record.measuring, now)
        if changed:
            said.append(
                f"source {record.source!r} in {output} was measured with other parameters: {changed}; "
                f"measure it anew with `evidence --source {record.source}`, or put them back"
            )
    return said
