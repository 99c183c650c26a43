"""Publishing to an object store: immutable files under names made of their content, then the next numbered manifest.

A manifest is created only where none of its number is there. One that is there and equal is success, for a retry and
for another run alike; one that differs is that of a run that was quicker. Nothing is renamed, overwritten by other
content, or removed, so that whoever reads an earlier manifest goes on reading.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import msgspec

from beam_pipeline.output_folder import MANIFESTS, NEWEST, REPORT, SUMMARY, Manifest, OutputError, newest_manifest
from transforms.coders import from_json, to_json
from transforms.file_hash import file_hash
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
from transforms.stores.access import create, download, look_into, look_up, read_whole, upload

RUNS = "_runs"
"""Folder of what tells of each published run, by the manifest's number."""
_NUMBERED = re.compile(r"(\d{8})\.json")
_HASH_DIGITS = 16
_OURS = {EPISODES, TRANSITIONS, INCOMPLETE, VIDEOS, LEDGER, EVIDENCE, CLUSTERS, RUNS}
_OUR_FILES = PurePosixPath(STATISTICS).stem + "-"


@dataclass(frozen=True)
class Published:
    """The manifest that the store holds now; `new` False where it held the same before."""

    url: str
    manifest: Manifest
    new: bool
    uploaded: int
    uploaded_bytes: int


def stored_name(file: PartReport) -> str:
    """A file's name in the store: with its hash, unless it is a video, whose name is one."""
    if file.path.startswith(f"{VIDEOS}/"):
        return file.path
    path = PurePosixPath(file.path)
    return str(path.with_name(f"{path.stem}-{file.hash[:_HASH_DIGITS]}{path.suffix}"))


def local_name(stored: str) -> str:
    """The name of a stored file in an output folder."""
    path = PurePosixPath(stored)
    return stored if path.parts[0] == VIDEOS else str(path.with_stem(path.stem[: -_HASH_DIGITS - 1]))


def newest_stored(url: str) -> Manifest | None:
    """The manifest of the highest number below a URL; None where there is none.

    Raises OutputError for a damaged one, or where other things than ours lie there; as `access.retried` does.
    """
    try:
        numbers = [found[1] for name in look_into(f"{url}/{MANIFESTS}") if (found := _NUMBERED.fullmatch(name))]
    except FileNotFoundError:
        numbers = []
    if not numbers:
        _refuse_foreign(url)
        return None
    return _read(f"{url}/{MANIFESTS}/{max(numbers)}.json")


def publish_to_store(folder: Path, url: str) -> Published:
    """Publish what a local output folder holds; the store's manifests count by themselves.

    Raises OutputError where the folder holds no published run or its files changed since, where the store holds a run
    that was measured otherwise, and where another run committed first; as `access.retried` does.
    """
    url = url.rstrip("/")
    local = newest_manifest(folder)
    if local is None:
        raise OutputError(f"{folder} holds no published run (no {MANIFESTS}/*.json); curate into it first")
    previous = newest_stored(url)
    if previous is not None and _owner(previous) != _owner(local):
        raise OutputError(
            f"{url} holds a run that was measured by {_owner(previous)}, this one by {_owner(local)}; use another URL"
        )
    number = 1 if previous is None else previous.number + 1
    stored = tuple(sorted((replace(f, path=stored_name(f)) for f in local.files), key=lambda f: f.path))
    manifest = replace(local, number=number, previous=number - 1 or None, files=stored)
    if previous is not None and replace(manifest, number=previous.number, previous=previous.previous) == previous:
        return Published(url, previous, False, 0, 0)
    known = {} if previous is None else {file.path: file for file in previous.files}
    sent = [_send(folder / f.path, f, url) for f in local.files if known.get(stored_name(f)) != _stored(f)]
    manifest = _commit(f"{url}/{MANIFESTS}/{number:08d}.json", manifest)
    for name in (SUMMARY, REPORT):
        if (folder / name).exists():
            upload(folder / name, f"{url}/{RUNS}/{number:08d}/{name}")
    return Published(url, manifest, True, sum(size > 0 for size in sent), sum(sent))


def fetch_from_store(url: str, folder: Path, number: int | None = None) -> Manifest:
    """Bring a store's run, the newest or that of a manifest's number, into an empty folder that it is read from.

    Raises OutputError where no such run was published, the folder is not empty, or a file is not what the manifest
    says; as `access.retried` does.
    """
    url = url.rstrip("/")
    manifest = newest_stored(url)
    if manifest is None:
        raise OutputError(f"{url} holds no published run (no {MANIFESTS}/*.json)")
    if number is not None:
        if not 1 <= number <= manifest.number:
            raise OutputError(f"{url} holds the manifests 1 to {manifest.number}, not {number}")
        manifest = _read(f"{url}/{MANIFESTS}/{number:08d}.json")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} is not empty; fetch into a new folder")
    files = tuple(replace(file, path=local_name(file.path)) for file in manifest.files)
    for stored, file in zip(manifest.files, files, strict=True):
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            download(f"{url}/{stored.path}", path)
        except FileNotFoundError as error:
            raise OutputError(f"{url}/{stored.path} is gone, and the manifest names it; publish again") from error
        if file_hash(path) != file.hash:
            raise OutputError(f"{url}/{stored.path} is not what the manifest names; publish again")
    local = to_json(replace(manifest, files=tuple(sorted(files, key=lambda f: f.path)))) + b"\n"
    (folder / MANIFESTS).mkdir()
    (folder / NEWEST).write_bytes(local)
    (folder / MANIFESTS / f"{manifest.number:08d}.json").write_bytes(local)
    return manifest


def _owner(manifest: Manifest) -> str:
    return manifest.measuring_hash or manifest.config_hash


def _stored(file: PartReport) -> PartReport:
    return replace(file, path=stored_name(file))


def _send(path: Path, file: PartReport, url: str) -> int:
    """Bytes that were uploaded: none where the file is there already."""
    if not path.exists() or file_hash(path) != file.hash:
        raise OutputError(f"{path} is not what its manifest names any more; curate again, then publish")
    target = f"{url}/{stored_name(file)}"
    if _there(target) == file.bytes:
        return 0
    upload(path, target)
    return file.bytes


def _there(url: str) -> int | None:
    try:
        return look_up(url).size
    except FileNotFoundError:
        return None


def _commit(target: str, manifest: Manifest) -> Manifest:
    body = to_json(manifest) + b"\n"
    try:
        create(target, body)
    except FileExistsError as error:
        if read_whole(target) != body:
            raise OutputError(
                f"{target} exists: another run committed to the store first; publish again to go on from it"
            ) from error
    return manifest


def _read(url: str) -> Manifest:
    try:
        return from_json(read_whole(url), Manifest)
    except msgspec.DecodeError as error:
        raise OutputError(f"{url} is damaged ({error}); remove it, or use another URL") from error


def _refuse_foreign(url: str) -> None:
    try:
        found: Iterable[str] = look_into(url)
    except FileNotFoundError:
        return
    foreign = sorted(name for name in found if name not in _OURS and not name.startswith(_OUR_FILES))
    if foreign:
        raise OutputError(f"{url} holds {len(foreign)} entries that no run published there, such as {foreign[0]!r}")
