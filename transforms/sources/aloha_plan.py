"""Planning of ALOHA files: which files of a folder are episodes, and which cameras each has, from headers alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import h5py

from transforms.conventions import Source
from transforms.episode import Finding, Problem, RecordingRef
from transforms.source_paths import id_prefix
from transforms.sources import hdf5_file, isaac_plan
from transforms.unreadable import Unreadable

FORMAT = "aloha_hdf5"
OBSERVATIONS = "observations"
IMAGES_GROUP = "observations/images"
_EPISODE = re.compile(r"episode_(\d+)")
_EXTENSIONS = (".hdf5", ".h5")


def detect(path: Path) -> bool:
    """True for HDF5 with ALOHA's groups, and for a folder that holds such a file.

    A file too damaged to look into counts where it is named as ALOHA names its episodes, `episode_N`.
    """
    if path.is_dir():
        return any(p.suffix in _EXTENSIONS and detect(p) for p in sorted(path.iterdir()))
    if not hdf5_file.has_magic(path):
        return False
    try:
        with hdf5_file.opened(path) as file:
            return _is_aloha(file)
    except (Unreadable, *hdf5_file.FAULTS):
        return _EPISODE.fullmatch(path.stem) is not None


def _is_aloha(file: h5py.File) -> bool:
    group = file.get(OBSERVATIONS)
    return isinstance(group, h5py.Group) and ("qpos" in group or "images" in group or "action" in file)


def plan(source: Source, path: Path) -> Iterator[RecordingRef]:
    """One ref per file, `episode_N` sorted as numbers; a camera that other files of the folder have is a finding.

    In a folder whose format was told by content, other readers' HDF5 files are left to them.
    Raises Unreadable `empty` where a folder holds no HDF5 file, `absent` where splits are asked for.
    """
    if source.splits:
        detail = f"{path}: ALOHA files have no splits, and {', '.join(source.splits)} is asked for: remove `splits:`"
        raise Unreadable("absent", detail)
    path = path.absolute()
    files = _files(path, source.format == "auto")
    if not files:
        raise Unreadable("empty", f"{path} holds no {' or '.join(_EXTENSIONS)} file; correct the source's path")
    looked = {file: _look(file) for file in files}
    every = {camera for cameras in looked.values() if isinstance(cameras, frozenset) for camera in cameras}
    gaps = tuple(_gaps([number for file in files if (number := _number(file)) is not None])) if path.is_dir() else ()
    for file, cameras in looked.items():
        number = _number(file)
        name = f"{id_prefix(source, file.parent)}/{file.stem if number is None else f'{number:06d}'}"
        if isinstance(cameras, Problem):
            yield RecordingRef(name, source.name, FORMAT, str(file), problem=cameras)
            continue
        absent = tuple(_absent(camera, file) for camera in sorted(every - cameras))
        yield RecordingRef(name, source.name, FORMAT, str(file), findings=(*gaps, *absent))


def _files(path: Path, by_content: bool) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = [p for p in path.iterdir() if p.suffix in _EXTENSIONS]
    kept = [p for p in files if not by_content or detect(p) or not isaac_plan.detect(p)]
    return sorted(kept, key=lambda p: (number if (number := _number(p)) is not None else -1, p.name))


def _number(path: Path) -> int | None:
    match = _EPISODE.fullmatch(path.stem)
    return int(match[1]) if match else None


def _look(path: Path) -> frozenset[str] | Problem:
    """Names of the cameras of one file, or why it cannot be read."""
    try:
        with hdf5_file.opened(path) as file:
            if not _is_aloha(file):
                has = ", ".join(sorted(file)[:8]) or "nothing"
                detail = f"{path}: no `observations` with `qpos` or `images` (it has {has}); correct `format:`"
                return Problem("wrong_format", detail)
            group = file[OBSERVATIONS]
            images = group["images"] if "images" in group else None  # noqa: SIM401 `get` hides a damaged group
            return frozenset(images) if isinstance(images, h5py.Group) else frozenset()
    except Unreadable as error:
        return error.problem
    except hdf5_file.FAULTS as error:
        detail = f"{path}: its groups cannot be read ({type(error).__name__}: {error}); copy it again"
        return Problem("corrupt", detail)


def _absent(camera: str, path: Path) -> Finding:
    detail = f"{camera}: other episodes beside {path.name} have this camera and it does not"
    return Finding("load", "integrity.camera_absent", 1.0, "cameras", detail=detail)


def _gaps(numbers: list[int]) -> Iterator[Finding]:
    present = set(numbers)
    missing = max(present, default=-1) + 1 - len(present)
    if missing > 0:
        first = [str(n) for n in range(len(present) + 8) if n not in present][: min(missing, 8)]
        more = ", ..." if missing > len(first) else ""
        detail = f"episode numbers run to {max(present)} and {missing} are not in the folder ({', '.join(first)}{more})"
        yield Finding("load", "metadata.episode_numbers", float(missing), "episodes", detail=detail)
