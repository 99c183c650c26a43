"""Sources on object stores, before any work: what is not read from there, and whether the store lets us read at all."""

from __future__ import annotations

from pathlib import Path

from transforms.conventions import Source
from transforms.source_paths import expand
from transforms.stores.urls import SCHEMES, is_url, scheme_of


def refusal_of(source: Source) -> str:
    """Why a source cannot be read from where its path says it is; empty where it can."""
    if not is_url(source.path):
        scheme = scheme_of(source.path)
        known = " and ".join(f"{name}://" for name in SCHEMES)
        return f"{source.path}: no store is known by {scheme}; {known} are read" if scheme else ""
    if source.format == "rosbag2":
        return f"{source.path}: .db3 bags are read from local files alone; copy them here, or convert them to MCAP"
    if source.reader == "tensorflow":
        return f"{source.path}: `reader: tensorflow` reads local files alone; leave `reader` out"
    return ""


def check_access(source: Source) -> None:
    """Read a byte of a source's first file where it is on a store.

    Raises Unreadable, StoreRefused where it is the credentials, and ModuleNotFoundError without the extra.
    """
    if is_url(source.path):
        for path in expand(source)[:1]:
            file = _first_file(path)
            if file is not None:
                with file.open("rb") as found:
                    found.read(1)


def _first_file(path: Path) -> Path | None:
    if not path.is_dir():
        return path
    return next((file for child in sorted(path.iterdir()) if (file := _first_file(child)) is not None), None)
