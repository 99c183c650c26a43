"""What a source's path says: which part of it is a folder, which a pattern, and how places below it are named."""

from __future__ import annotations

import glob
import os.path
from pathlib import Path

from transforms.conventions import Source
from transforms.stores.paths import ObjectPath, located
from transforms.stores.urls import is_url

_MAGIC = frozenset("*?[")


def split_pattern(path: str) -> tuple[Path, str]:
    """The part of a path before its first pattern, and the rest; a name that exists as written is no pattern."""
    whole = located(path)
    parts, fixed = whole.parts, type(whole)()
    for index, part in enumerate(parts):
        if _MAGIC & set(part) and not _is_there(fixed / part):
            return fixed, "/".join(parts[index:])
        fixed /= part
    return fixed, ""


def expand(source: Source) -> list[Path]:
    """The paths that a source names, sorted; empty where nothing matches."""
    fixed, pattern = split_pattern(source.path)
    if pattern and is_url(source.path):
        return sorted(p for p in fixed.glob(pattern) if not _hidden(p.relative_to(fixed)))
    if pattern:
        found = glob.glob(f"{glob.escape(str(fixed))}/{pattern}", recursive=True)  # noqa: PTH207 names may hold brackets
        return sorted({Path(p) for p in found})
    return [fixed] if _is_there(fixed) else []


def _is_there(path: Path) -> bool:
    return path.exists() if isinstance(path, ObjectPath) else os.path.lexists(path)


def _hidden(place: Path) -> bool:
    return any(part.startswith(".") for part in place.parts)


def id_prefix(source: Source, folder: Path) -> str:
    """`source`, or `source/place` for a folder below the one that the source's path names.

    It makes ids unique and stable: what else a pattern matches, now or later, changes none of them.
    """
    base = split_pattern(source.path)[0].absolute()
    place = folder.absolute()
    part = place.relative_to(base).as_posix() if place.is_relative_to(base) else "."
    return source.name if part == "." else f"{source.name}/{part}"
