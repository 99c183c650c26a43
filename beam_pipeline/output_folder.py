"""The output folder: whose it is, who writes in it now, and the staging area inside it."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from transforms.coders import from_json, to_json
from transforms.measured import STORE
from transforms.output_files import (
    CLUSTERS,
    EPISODES,
    EVIDENCE,
    INCOMPLETE,
    LEDGER,
    STATISTICS,
    TRANSITIONS,
    VIDEOS,
    PartReport,
)
from transforms.stores.urls import is_url

T = TypeVar("T")

STAGING, LOCK, MANIFESTS, NEWEST = "_staging", "_lock", "_manifests", "_manifest.json"
SUMMARY, REPORT, INDEX, SPLITS = "run_summary.json", "report.html", "index", "splits.parquet"
FRAMES = "report_frames.parquet"
"""Small pictures and curves of the episodes that the report shows; from them it is drawn again."""
VERDICTS = "verdicts.csv"
"""People's verdicts, which may lie in the folder before and after any run; no run writes or removes it."""
CONFIG = "config.yaml"
"""The configuration that a run without one has guessed; it may be there before anything else is."""
_RUN = "run.json"
_BEFORE = {STAGING, LOCK, STORE, VERDICTS, CONFIG}
"""What may lie in a folder in which nothing was published yet."""
_OURS = {
    *(EPISODES, TRANSITIONS, INCOMPLETE, VIDEOS, LEDGER, EVIDENCE, CLUSTERS, INDEX),
    *(MANIFESTS, NEWEST, SUMMARY, REPORT, FRAMES, STATISTICS, SPLITS, *_BEFORE),
}


class OutputError(Exception):
    """The output folder cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Manifest:
    """The commit of one run: its files and what made them; no times, so equal runs differ in their numbers alone.

    `measuring_hash` is of what measured the episodes, the part of the configuration that a folder belongs to; `sink` is
    how its files are written, as JSON.
    """

    number: int
    previous: int | None
    config_hash: str
    code_version: str
    files: tuple[PartReport, ...]
    measuring_hash: str = ""
    sink: str = ""


@dataclass(frozen=True)
class Output:
    """An output folder held by this run; `previous` is the newest manifest of earlier runs."""

    path: Path
    staging: Path
    config_hash: str
    previous: Manifest | None
    measuring_hash: str = ""


@dataclass(frozen=True)
class _Run:
    owner: str


def newest_manifest(output: Path) -> Manifest | None:
    """The manifest of the highest number; None where nothing was published. Raises OutputError for a broken one."""
    numbered = sorted(p for p in (output / MANIFESTS).glob("*.json") if p.stem.isdigit())
    if not numbered:
        return None
    return read_record(numbered[-1], Manifest)


def read_record(path: Path, kind: type[T]) -> T:
    try:
        return from_json(path.read_bytes(), kind)
    except msgspec.DecodeError as error:
        raise OutputError(f"{path} is damaged ({error}); remove it, or use another --output") from error


@contextmanager
def open_output(
    output: str | Path, config_hash: str, measuring_hash: str = "", any_owner: bool = False
) -> Iterator[Output]:
    """Hold an output folder for one run, with an empty staging area in it.

    A folder belongs to what measured its episodes, `measuring_hash` (by default the whole configuration); `any_owner`
    asks for none. What a killed run left in the staging area is removed. Raises OutputError where the folder holds
    another run or files that are not ours, or where another process writes in it now.
    """
    folder = _folder(output)
    owner = measuring_hash or config_hash
    with locked(folder / LOCK, folder):
        previous = _check_owner(folder, None if any_owner else owner)
        staging = folder / STAGING
        if staging.exists():
            shutil.rmtree(staging)
        staging.mkdir()
        (staging / _RUN).write_bytes(to_json(_Run(owner)))
        yield Output(folder, staging, config_hash, previous, measuring_hash)


@contextmanager
def share_output(output: str | Path) -> Iterator[Path]:
    """Hold an output folder beside others that store evidence in it, while nobody decides or publishes.

    Raises OutputError as `open_output` does, whoever the folder belongs to.
    """
    folder = _folder(output)
    with locked(folder / LOCK, folder, shared=True):
        _check_owner(folder, None)
        yield folder


def refuse_url(output: str | Path) -> None:
    """Raises OutputError where an output is on a store, to which only what is finished goes."""
    if is_url(str(output)):
        raise OutputError(f"--output {output} is a URL; work in a local folder, and add --publish {output}")


def _folder(output: str | Path) -> Path:
    refuse_url(output)
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; --output names a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "no permission to write in it")
    except OSError as error:
        raise OutputError(f"{folder} cannot be used: {error.strerror}; use another --output") from error
    return folder


def _check_owner(folder: Path, wanted: str | None) -> Manifest | None:
    """The newest manifest; a run killed before its first one is known by what it left in the staging area."""
    previous = newest_manifest(folder)
    marker = folder / STAGING / _RUN
    owner = (previous.measuring_hash or previous.config_hash) if previous else None
    if previous is None and marker.exists() and any(p.name in _OURS - _BEFORE for p in folder.iterdir()):
        owner = read_record(marker, _Run).owner
    if owner is not None and wanted is not None and owner != wanted:
        raise OutputError(
            f"{folder} holds a run of configuration {owner}, this one is {wanted}; "
            "use another --output, or remove the folder"
        )
    _refuse_foreign(folder, _OURS if owner is not None else _BEFORE)
    return previous


def _refuse_foreign(folder: Path, ours: Set[str]) -> None:
    foreign = sorted(p.name for p in folder.iterdir() if p.name not in ours)
    if foreign:
        raise OutputError(
            f"{folder} holds {len(foreign)} entries that no run wrote there, such as {foreign[0]!r}; "
            "use an empty folder as --output, or remove them"
        )


def keep_config(output: str | Path, text: str) -> Path:
    """Write a guessed configuration into an output folder, unless it is there; its path.

    Raises OutputError where the folder holds another configuration, or files that are not ours.
    """
    folder = Path(output)
    path = folder / CONFIG
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_foreign(folder, _OURS)
        if path.exists():
            if path.read_text(encoding="utf-8") != text:
                raise OutputError(
                    f"{path} is not what is guessed of PATH now; use --config {path} to run it as it is, "
                    "or another --output"
                )
        else:
            path.write_text(text, encoding="utf-8")
    except FileExistsError as error:
        raise OutputError(f"{folder} is a file; --output names a folder") from error
    except OSError as error:
        raise OutputError(f"{folder} cannot be used: {error.strerror}; use another --output") from error
    return path


@contextmanager
def locked(path: Path, folder: Path, shared: bool = False) -> Iterator[None]:
    """Hold a lock file; the system frees it when its process dies, however that happens.

    Many may share it; raises OutputError where it cannot be had, naming `folder` and the process that has it.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
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
        if not shared or _alone(descriptor):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _alone(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
