"""Planning of ROS bags: single files, and rosbag2 folders whose metadata.yaml makes several files one recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from transforms.conventions import Source
from transforms.episode import Finding, Problem, RecordingRef
from transforms.source_paths import id_prefix
from transforms.sources.rosbag2_metadata import METADATA, Declared, declared_files
from transforms.stores.paths import located
from transforms.unreadable import Unreadable


@dataclass(frozen=True)
class BagFormat:
    """One file format of bags: `is_bag` knows it by its first bytes, `problem` says why a file cannot be one."""

    name: str
    suffix: str
    is_bag: Callable[[Path], bool]
    problem: Callable[[Path], Problem | None]


class BagPlace(msgspec.Struct, frozen=True):
    """The files of one recording, in order, in the folder of its uri; what a metadata.yaml says of all of them."""

    files: tuple[str, ...]
    messages: int | None = None
    duration_ns: int | None = None

    def files_of(self, ref: RecordingRef) -> list[Path]:
        """Their paths. Raises Unreadable `absent` where one is gone."""
        paths = [located(ref.uri).with_name(name) for name in self.files]
        if gone := [path.name for path in paths if not path.is_file()]:
            raise Unreadable("absent", f"{gone[0]} does not exist any more; restore it or correct the source's path")
        return paths


def _is_file(path: Path, kind: BagFormat) -> bool:
    return path.is_file() and (path.suffix == kind.suffix or kind.is_bag(path))


def detect_bag(path: Path, kind: BagFormat) -> bool:
    """True for a file of the format's magic or name, and for a folder whose metadata.yaml lists such files."""
    if path.is_dir():
        said = declared_files(path)
        return said is not None and any(name.endswith(kind.suffix) for name in said.files)
    return _is_file(path, kind)


def plan_bags(source: Source, path: Path, kind: BagFormat) -> Iterator[RecordingRef]:
    """One ref per file, or per folder with a metadata.yaml; a file that cannot be a bag carries its problem.

    Raises Unreadable `absent` where splits are asked for, `empty` for a folder without a file.
    """
    path = path.absolute()
    files = (
        sorted(file for file in path.rglob("*") if not file.name.startswith(".") and _is_file(file, kind))
        if path.is_dir()
        else [path]
    )
    if not files:
        raise Unreadable("empty", f"{path.name} holds no *{kind.suffix} file; correct the source's path")
    if source.splits:
        detail = f"{path.name}: bags have no splits, and {', '.join(source.splits)} is asked for: remove `splits:`"
        raise Unreadable("absent", detail)
    for folder in sorted({file.parent for file in files}):
        inside = [file for file in files if file.parent == folder]
        said = declared_files(folder) if path.is_dir() else None
        if said is None:
            for file in inside:
                yield _planned(source, kind, file.with_suffix(""), [file], None)
        else:
            listed = [folder / name for name in said.files if folder / name in inside]
            yield _planned(source, kind, folder, listed or inside, said)


def _planned(
    source: Source, kind: BagFormat, named: Path, files: Sequence[Path], said: Declared | None
) -> RecordingRef:
    recording_id = f"{id_prefix(source, named.parent)}/{named.name}"
    uri = str(files[0])
    problem = next((one for file in files if (one := kind.problem(file)) is not None), None)
    if problem is not None:
        return RecordingRef(recording_id, source.name, kind.name, uri, problem=problem)
    names = tuple(file.name for file in files)
    place = BagPlace(names) if said is None else BagPlace(names, said.messages, said.duration_ns)
    found: tuple[Finding, ...] = ()
    if said is not None and (absent := sorted(set(said.files) - set(names))):
        detail = f"{METADATA} lists {', '.join(absent)}, which is not there"
        found = (Finding("load", "integrity.file_absent", float(len(absent)), "files", detail=detail),)
    return RecordingRef(recording_id, source.name, kind.name, uri, msgspec.json.encode(place).decode(), findings=found)
