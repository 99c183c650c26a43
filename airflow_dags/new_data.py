"""What lies where recordings arrive, and what of it was published before."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow_dags.deployment import Deployment

_WRITTEN = ("mtime", "updated", "LastModified", "last_modified")
_VERSION = ("generation", "etag", "ETag", "md5Hash")
_MANIFESTS = "_manifests"


class RecordError(Exception):
    """The record of what was published is damaged; the message names it and says what to do."""


@dataclass(frozen=True)
class Listing:
    """The files of one source: how many, a digest of their names, sizes and times, and when the newest was written.

    `newest_s` is in seconds since 1970, None where no file tells its time.
    """

    files: int
    digest: str
    newest_s: float | None


@dataclass(frozen=True)
class Published:
    """What the last run that published has seen: a digest for each source, of the configuration, and of its files."""

    sources: Mapping[str, str] = field(default_factory=dict)
    config: str = ""
    files: str = ""


@dataclass(frozen=True)
class Seen:
    """What is there now: listings by source, and a digest of the configuration ("" where it cannot be read here)."""

    sources: Mapping[str, Listing]
    config: str

    def changed(self, before: Published) -> list[str]:
        """Sources whose files are others than were published; one in which nothing lies is not."""
        return [name for name, now in self.sources.items() if now.files and now.digest != before.sources.get(name)]

    def awaited(self, before: Published) -> list[str]:
        """Sources that were never published and in which nothing lies yet: without them nothing can be decided."""
        return [name for name, now in self.sources.items() if not now.files and name not in before.sources]

    def settled(self, seconds: float) -> bool:
        """Whether every file was left alone for so long; files without a time, or with one far ahead, count as such."""
        newest = [now.newest_s for now in self.sources.values() if now.newest_s is not None]
        return not newest or abs(time.time() - max(newest)) >= seconds


@dataclass(frozen=True)
class Readiness:
    """Whether a run is due, and what is to be measured; `why` says it in words."""

    ready: bool
    sources: tuple[str, ...]
    why: str


def look(deployment: Deployment, only: tuple[str, ...] = ()) -> Seen:
    """List the watched paths of all sources, or of some. Raises OSError where a store refuses."""
    wanted = [source for source in deployment.sources if not only or source.name in only]
    config = Path(deployment.config)
    text = config.read_bytes() if config.is_file() else b""
    return Seen(
        {source.name: list_files(source.watch) for source in wanted},
        hashlib.sha256(text).hexdigest() if text else "",
    )


def readiness(seen: Seen, before: Published, settle_seconds: float) -> Readiness:
    """Whether there is something to do: changed files that are written no more, or another configuration."""
    changed = seen.changed(before)
    config_changed = bool(before.config and seen.config and seen.config != before.config)
    if awaited := seen.awaited(before):
        return Readiness(False, (), f"nothing lies yet where {', '.join(awaited)} arrives")
    if not changed and not config_changed:
        return Readiness(False, (), "nothing is new since the last set was published")
    if not seen.settled(settle_seconds):
        return Readiness(False, (), f"files are still being written: none may change for {settle_seconds:g} s")
    why = f"new recordings of {', '.join(changed)}" if changed else "the configuration changed: decided anew"
    return Readiness(True, tuple(changed), why)


def list_files(watch: str) -> Listing:
    """The files under a file, folder or glob, also of an object store whose fsspec package is installed."""
    import fsspec  # and what it needs for a store: no part of parsing the DAG

    filesystem, path = fsspec.core.url_to_fs(watch)
    filesystem.invalidate_cache()  # stores keep listings, and a waiting trigger lives for hours
    roots = filesystem.glob(path) if any(sign in path for sign in "*?[") else [path]
    found: dict[str, dict[str, Any]] = {}
    for root in roots:
        if filesystem.exists(root):
            found.update(filesystem.find(root, detail=True))
    digest, newest = hashlib.sha256(), None
    for name in sorted(found):
        info = found[name]
        written = next((info[key] for key in _WRITTEN if info.get(key)), None)
        version = next((info[key] for key in _VERSION if info.get(key)), written)
        digest.update(f"{name}\0{info.get('size')}\0{version}\n".encode())
        if written is not None:
            newest = max(newest or 0.0, _seconds(written))
    return Listing(len(found), digest.hexdigest(), newest)


def _seconds(written: float | str | datetime) -> float:
    if isinstance(written, str):
        written = datetime.fromisoformat(written)
    return written.timestamp() if isinstance(written, datetime) else float(written)


def record_path(deployment: Deployment) -> str:
    """Where it is kept what was published: beside the set, in which foreign files are refused."""
    return deployment.published.rstrip("/") + ".published.json"


def read_record(deployment: Deployment) -> Published:
    """What was published last; nothing where no set is published, also where somebody removed it."""
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(record_path(deployment))
    if not filesystem.exists(path) or newest_manifest(deployment.published) is None:
        return Published()
    try:
        with filesystem.open(path, "r") as file:
            return Published(**json.load(file))
    except (ValueError, TypeError) as error:
        raise RecordError(f"{path} is damaged ({error}); remove it, and all sources count as new") from error


def write_record(deployment: Deployment, published: Published) -> None:
    """Keep what was published, whole or not at all."""
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(record_path(deployment))
    local = "file" in (filesystem.protocol if isinstance(filesystem.protocol, tuple) else (filesystem.protocol,))
    target = f"{path}.new" if local else path  # an object is there whole or not at all
    with filesystem.open(target, "w") as file:
        json.dump(asdict(published), file, indent=1, sort_keys=True)
    if local:
        os.replace(target, path)  # noqa: PTH105


@dataclass(frozen=True)
class Manifest:
    """The newest commit of an output folder: its number, how many files, and a digest of what they hold."""

    number: int
    files: int
    digest: str


def newest_manifest(output: str) -> Manifest | None:
    """The newest manifest of an output folder, or of a store that it was published to; None where there is none."""
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(output)
    folder = f"{path.rstrip('/')}/{_MANIFESTS}"
    numbered = sorted(name for name in (filesystem.glob(f"{folder}/*.json") if filesystem.exists(folder) else []))
    if not numbered:
        return None
    with filesystem.open(numbered[-1], "r") as file:
        content = json.load(file)
    held = "".join(f"{file['path']}\0{file['hash']}\n" for file in content["files"])
    return Manifest(content["number"], len(content["files"]), hashlib.sha256(held.encode()).hexdigest())
