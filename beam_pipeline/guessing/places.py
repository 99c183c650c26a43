"""Which sources a path becomes: one per data set's folder, one per format for files that lie there."""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from beam_pipeline.inspection.inspect import Found
from transforms.conventions import Source
from transforms.formats import is_whole_folder
from transforms.source_paths import expand

_VERSION = re.compile(r"\d+(\.\d+)*")


@dataclass(frozen=True)
class Place:
    """One source to be: its name, `path` as the YAML states it, its format, and the paths that it stands for."""

    name: str
    path: str
    format: str
    paths: tuple[Path, ...]


def places_of(found: Sequence[Found]) -> list[Place]:
    """The sources of all that was found, each with a name of its own."""
    taken: set[str] = set()
    places = []
    for one in found:
        for (name, _), paths in one.datasets.items():
            for path, members in _patterns(name, paths):
                places.append(Place(_free(_word(path), taken), path, name, members))
    return places


def _patterns(name: str, paths: Sequence[Path]) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """Paths as few sources: a folder, a file, or a glob that matches these very files and nothing else."""
    folders = [path for path in paths if is_whole_folder(path, name) or path.is_dir()]
    for folder in folders:
        yield str(folder), (folder,)
    files = [path for path in paths if path not in folders]
    for suffix in sorted({path.suffix for path in files}):
        yield from _globs([path for path in files if path.suffix == suffix], suffix)


def _globs(files: Sequence[Path], suffix: str) -> Iterator[tuple[str, tuple[Path, ...]]]:
    if len(files) == 1:
        yield str(files[0]), tuple(files)
        return
    parents = sorted({file.parent for file in files})
    common = os.path.commonpath(parents)
    for pattern in (f"{common}/*{suffix}", f"{common}/**/*{suffix}"):
        if set(_matches(pattern)) == set(files):
            yield pattern, tuple(files)
            return
    for parent in parents if len(parents) > 1 else ():
        yield from _globs([file for file in files if file.parent == parent], suffix)
    if len(parents) == 1:
        for file in files:
            yield str(file), (file,)


def _matches(pattern: str) -> Iterable[Path]:
    return expand(Source("guess", pattern))


def _word(path: str) -> str:
    """A name for a source: its folder's or file's, the version folders of TFDS aside, with plain characters only."""
    fixed = Path(path)
    while any(c in fixed.name for c in "*?[") and not fixed.exists():
        fixed = fixed.parent
    while _VERSION.fullmatch(fixed.name):
        fixed = fixed.parent
    word = fixed.stem if fixed.is_file() else fixed.name
    if word.isdigit():
        word = f"{fixed.parent.name}_{word}"
    return re.sub(r"[^A-Za-z0-9_-]+", "_", word).strip("_") or "recordings"


def _free(word: str, taken: set[str]) -> str:
    """The word, or the word with the first number that makes it new."""
    name, number = word, 2
    while name in taken:
        name, number = f"{word}_{number}", number + 1
    taken.add(name)
    return name
