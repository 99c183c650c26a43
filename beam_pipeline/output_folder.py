"""The output folder: whose it is, who writes in it now, and the staging area inside it."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from transforms.coders import from_json, to_json
from transforms.output_files import EPISODES, EVIDENCE, INCOMPLETE, LEDGER, TRANSITIONS, VIDEOS, PartReport

T = TypeVar("T")

STAGING, LOCK, MANIFESTS, NEWEST = "_staging", "_lock", "_manifests", "_manifest.json"
SUMMARY, REPORT, INDEX = "run_summary.json", "report.html", "index"
FRAMES = "report_frames.parquet"
"""Small pictures and curves of the episodes that the report shows; from them it is drawn again."""
_RUN = "run.json"
_OURS = {
    *(EPISODES, TRANSITIONS, INCOMPLETE, VIDEOS, LEDGER, EVIDENCE, INDEX),
    *(STAGING, LOCK, MANIFESTS, NEWEST, SUMMARY, REPORT, FRAMES),
}


class OutputError(Exception):
    """The output folder cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Manifest:
    """The commit of one run: its files and what made them; no times, so equal runs differ in their numbers alone."""

    number: int
    previous: int | None
    config_hash: str
    code_version: str
    files: tuple[PartReport, ...]


@dataclass(frozen=True)
class Output:
    """An output folder held by this run; `previous` is the newest manifest of earlier runs."""

    path: Path
    staging: Path
    config_hash: str
    previous: Manifest | None


@dataclass(frozen=True)
class _Run:
    config_hash: str


def newest_manifest(output: Path) -> Manifest | None:
    """The manifest of the highest number; None where nothing was published. Raises OutputError for a broken one."""
    numbered = sorted(p for p in (output / MANIFESTS).glob("*.json") if p.stem.isdigit())
    if not numbered:
        return None
    return _read(numbered[-1], Manifest)


def _read(path: Path, kind: type[T]) -> T:
    try:
        return from_json(path.read_bytes(), kind)
    except msgspec.DecodeError as error:
        raise OutputError(f"{path} is damaged ({error}); remove it, or use another --output") from error


@contextmanager
def open_output(output: str | Path, config_hash: str) -> Iterator[Output]:
    """Hold an output folder for one run, with an empty staging area in it.

    What a killed run left in the staging area is removed. Raises OutputError where the folder holds another run or
    files that are not ours, or where another process writes in it now.
    """
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; --output names a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "no permission to write in it")
    except OSError as error:
        raise OutputError(f"{folder} cannot be used: {error.strerror}; use another --output") from error
    with _locked(folder):
        previous = _check_owner(folder, config_hash)
        staging = folder / STAGING
        if staging.exists():
            shutil.rmtree(staging)
        staging.mkdir()
        (staging / _RUN).write_bytes(to_json(_Run(config_hash)))
        yield Output(folder, staging, config_hash, previous)


def _check_owner(folder: Path, config_hash: str) -> Manifest | None:
    """The newest manifest; a run killed before its first one is known by what it left in the staging area."""
    previous = newest_manifest(folder)
    marker = folder / STAGING / _RUN
    owner = previous.config_hash if previous else None
    if previous is None and marker.exists() and any(p.name in _OURS - {STAGING, LOCK} for p in folder.iterdir()):
        owner = _read(marker, _Run).config_hash
    if owner is not None and owner != config_hash:
        raise OutputError(
            f"{folder} holds a run of configuration {owner}, this one is {config_hash}; "
            "use another --output, or remove the folder"
        )
    ours = _OURS if owner is not None else {STAGING, LOCK}
    foreign = sorted(p.name for p in folder.iterdir() if p.name not in ours)
    if foreign:
        raise OutputError(
            f"{folder} holds {len(foreign)} entries that no run wrote there, such as {foreign[0]!r}; "
            "use an empty folder as --output, or remove them"
        )
    return previous


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock file; the system frees it when its process dies, however that happens."""
    path = folder / LOCK
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 64).decode(errors="replace") or "unknown"
            os.close(descriptor)
            raise OutputError(
                f"another run (process {holder}) writes in {folder} now; wait for it, or use another --output"
            ) from error
        if _is_named(descriptor, path):
            break
        os.close(descriptor)  # a run that just ended removed this file between our two calls
    try:
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _is_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
