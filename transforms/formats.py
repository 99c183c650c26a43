"""Which formats there are, and what lies below a source's path: told by content, with nothing of Beam."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

from transforms.conventions import Source
from transforms.episode import Problem
from transforms.source_paths import expand
from transforms.sources import aloha_hdf5, isaac_hdf5, lerobot, mcap, rlds, rosbag1, rosbag2, video
from transforms.sources.ros_recording import is_beside_bag

FORMATS: Mapping[str, ModuleType] = {
    "rlds": rlds,
    "lerobot": lerobot,
    "aloha_hdf5": aloha_hdf5,  # before isaac_hdf5, which also takes HDF5 that is too damaged to look into
    "isaac_hdf5": isaac_hdf5,
    "mcap": mcap,
    "rosbag1": rosbag1,
    "rosbag2": rosbag2,
    "video": video,
}
_WHOLE_FOLDERS = ("rlds", "lerobot")
"""Formats whose folder is one data set, with nothing of another kind in it."""


def detect(path: Path) -> str | None:
    """The format of a file or folder by its content; None where no reader knows it."""
    return next((name for name, reader in FORMATS.items() if reader.detect(path)), None)


def _detected(path: Path) -> str | Problem | None:
    try:
        return detect(path)
    except OSError as error:
        return Problem("unreadable", f"{path}: {error.strerror or error}; check its permissions")


def _datasets(source: Source, path: Path) -> Iterator[tuple[Path, str | Problem | None]]:
    """What is to be planned below a path: itself where a reader takes it, else each of a folder's entries."""
    if source.format != "auto":
        yield path, source.format
        return
    found = _detected(path)
    if found == "video" and str(path) != source.path and is_beside_bag(path):
        return
    if found is not None or not path.is_dir():
        yield path, found
    if isinstance(found, Problem) or found in _WHOLE_FOLDERS or not path.is_dir():
        return
    entries = sorted(p for p in path.iterdir() if not p.name.startswith("."))
    known = [(p, _detected(p)) for p in entries]
    stems = {p.stem for p, name in known if name == "video"}
    for entry, name in known:
        if name not in _WHOLE_FOLDERS and entry.is_dir():
            yield from _datasets(source, entry)
        elif (found is not None and (name is None or name == found)) or (name == "video" and is_beside_bag(entry)):
            continue  # planned with the folder, or beside its recordings
        elif name is not None or entry.stem.split(".")[0] not in stems:
            yield entry, name


def found_in(source: Source) -> Iterator[tuple[Path, str | Problem | None]]:
    """Each data set, file or unknown entry of a source once, with its format, or why that cannot be told.

    A pattern such as `**` matches a folder and what lies in it: below a data set's folder, nothing is another one.
    """
    whole: set[Path] = set()
    for path in expand(source):
        for dataset, name in () if whole & set(path.parents) else _datasets(source, path):
            if source.format == "auto" and is_whole_folder(dataset, name):
                whole.add(dataset)
            yield dataset, name


def is_whole_folder(path: Path, name: str | Problem | None) -> bool:
    """Whether a path of a format is one data set by itself, with nothing of another kind in it."""
    return name in _WHOLE_FOLDERS and path.is_dir()
