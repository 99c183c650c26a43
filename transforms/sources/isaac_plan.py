"""Planning of Isaac Lab and robomimic files: which demos a file and its masks name, from headers alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import h5py
import msgspec

from transforms.conventions import Source
from transforms.episode import Finding, Problem, RecordingRef
from transforms.source_paths import id_prefix
from transforms.sources import hdf5_file
from transforms.sources.hdf5_columns import integer_attribute, text_of
from transforms.unreadable import Unreadable

FORMAT = "isaac_hdf5"
_DEMO = re.compile(r"demo_(\d+)")
_EXTENSIONS = (".hdf5", ".h5")


class DemoPlace(msgspec.Struct, frozen=True):
    """The demo's group in its file, and the masks that name it."""

    group: str
    masks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Named:
    """A demo by name, with its number; `problem` where its header is already broken."""

    name: str
    number: int
    samples: int | None = None
    problem: Problem | None = None


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.suffix in _EXTENSIONS) if path.is_dir() else [path]


def detect(path: Path) -> bool:
    """True for HDF5 with `data/demo_N`, for HDF5 too damaged to look into, and for a folder that holds such files."""
    if path.is_dir():
        return any(detect(file) for file in _files(path))
    if not hdf5_file.has_magic(path):
        return False
    try:
        with hdf5_file.opened(path) as file:
            data = file.get("data")
            return isinstance(data, h5py.Group) and any(_DEMO.fullmatch(name) for name in data)
    except (Unreadable, *hdf5_file.FAULTS):  # no other reader takes HDF5: it will say what is wrong
        return True


def plan(source: Source, path: Path) -> Iterator[RecordingRef]:
    """One ref per demo of each file, numbers sorted as numbers; a mask's demo that is absent is one too.

    Raises Unreadable `empty` where a folder holds no HDF5 file.
    """
    files = _files(path.absolute())
    if not files:
        raise Unreadable("empty", f"{path} holds no {' or '.join(_EXTENSIONS)} file; correct the source's path")
    for file in files:
        try:
            yield from _plan_file(source, file)
        except Unreadable as error:
            yield _ref(source, file, 0, "", error.problem)


def _ref(
    source: Source,
    path: Path,
    number: int,
    group: str,
    problem: Problem | None = None,
    split: str = "",
    findings: tuple[Finding, ...] = (),
    masks: tuple[str, ...] = (),
) -> RecordingRef:
    place = msgspec.json.encode(DemoPlace(group, masks)).decode() if group else ""
    name = f"{id_prefix(source, path.parent)}/{path.stem}/{number:06d}"
    return RecordingRef(name, source.name, FORMAT, str(path), place, split, problem, findings)


def _plan_file(source: Source, path: Path) -> list[RecordingRef]:
    with hdf5_file.opened(path) as file:
        try:
            data = file.get("data")
            if not isinstance(data, h5py.Group):
                has = ", ".join(sorted(file)[:8]) or "nothing"
                raise Unreadable("wrong_format", f"{path}: no group `data` (it has {has}); correct `format:`")
            demos = sorted(_demos(data, path.name), key=lambda demo: (demo.number, demo.name))
            masks = _masks(file)
            findings = (*_total(data, demos), *_gaps(demos), *_overlap(masks))
        except hdf5_file.FAULTS as error:
            detail = f"{path}: its list of demos cannot be read ({type(error).__name__}: {error}); copy it again"
            raise Unreadable("corrupt", detail) from error
    if wrong := [split for split in source.splits if split not in masks]:
        has = ", ".join(sorted(masks)) or "no mask"
        raise Unreadable("absent", f"{path}: no split {wrong[0]!r}; it has {has}: correct `splits:`")
    named = {demo.name for demo in demos}
    listed = {name for split in source.splits or sorted(masks) for name in masks[split]}
    for name in sorted(listed - named):
        number = _DEMO.fullmatch(name)
        detail = f"{path.name}: mask names {name!r}, which `data` does not hold"
        demos.append(_Named(name, int(number[1]) if number else 0, problem=Problem("declared_absent", detail)))
    if not demos:
        raise Unreadable("empty", f"{path}: `data` holds no demo_N; record it again or leave it out")
    return [
        _ref(
            source,
            path,
            d.number,
            f"data/{d.name}",
            d.problem,
            _split(d.name, source, masks),
            findings,
            tuple(mask for mask in sorted(masks) if d.name in masks[mask]),
        )
        for d in demos
        if not source.splits or d.name in listed
    ]


def _demos(data: h5py.Group, place: str) -> Iterator[_Named]:
    for name in data:
        match = _DEMO.fullmatch(name)
        if match is None:
            continue
        try:
            yield _Named(name, int(match[1]), integer_attribute(data[name].attrs, "num_samples"))
        except hdf5_file.FAULTS as error:
            detail = f"{place} data/{name}: its header cannot be read ({error}); copy or record the file again"
            yield _Named(name, int(match[1]), problem=Problem("corrupt", detail))


def _masks(file: h5py.File) -> dict[str, frozenset[str]]:
    """robomimic's `mask/SPLIT`: names of demos."""
    mask = file.get("mask")
    if not isinstance(mask, h5py.Group):
        return {}
    found = hdf5_file.members(mask, Path(file.filename).name)
    return {split: frozenset(map(text_of, names.read().reshape(-1).tolist())) for split, names in found.items()}


def _split(name: str, source: Source, masks: Mapping[str, frozenset[str]]) -> str:
    order = source.splits or ("train", "valid", *sorted(masks))
    return next((split for split in order if name in masks.get(split, ())), "")


def _total(data: h5py.Group, demos: list[_Named]) -> Iterator[Finding]:
    total = integer_attribute(data.attrs, "total")
    samples = [demo.samples for demo in demos if demo.samples is not None]
    if total is None or len(samples) < len(demos) or total == sum(samples):
        return
    detail = f"`total` says {total} samples, those of the {len(demos)} demos sum to {sum(samples)}"
    yield Finding("load", "metadata.total", float(abs(total - sum(samples))), "steps", detail=detail)


def _gaps(demos: list[_Named]) -> Iterator[Finding]:
    present = {demo.number for demo in demos}
    missing = max(present, default=-1) + 1 - len(present)
    if missing:
        first = list(islice((n for n in count() if n not in present), min(missing, 8)))
        more = ", ..." if missing > len(first) else ""
        names = ", ".join(map(str, first)) + more
        detail = f"demo numbers run to {max(present)} and {missing} are not in the file ({names})"
        yield Finding("load", "metadata.demo_numbers", float(missing), "demos", detail=detail)


def _overlap(masks: Mapping[str, frozenset[str]]) -> Iterator[Finding]:
    both = masks.get("train", frozenset()) & masks.get("valid", frozenset())
    if both:
        detail = f"the masks train and valid share {', '.join(sorted(both)[:5])}"
        yield Finding("load", "metadata.mask_overlap", float(len(both)), "episodes", detail=detail)
