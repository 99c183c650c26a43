"""Planning of RLDS sources: which episodes metadata or disk names, from record headers alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from transforms.conventions import Source
from transforms.episode import Finding, Problem, RecordingRef
from transforms.source_paths import id_prefix
from transforms.sources.rlds_metadata import (
    DatasetInfo,
    Shard,
    is_version_folder,
    list_shards,
    load_info,
    shard_split,
    version_folders,
)
from transforms.sources.rlds_steps import metadata_finding
from transforms.sources.tfrecord import HEADER_BYTES, Record, header_length, index_records
from transforms.unreadable import Unreadable

FORMAT = "rlds"
_OTHER_MAGIC = (b"\x89HDF", b"PAR1", b"\x1a\x45\xdf\xa3")


class RecordPlace(msgspec.Struct, frozen=True):
    """Where an episode lies in its shard: offset of the record's header, bytes of its payload."""

    offset: int
    length: int


def detect(path: Path) -> bool:
    """True for a TFDS version's folder, a folder of such versions, and a file of TFRecords (also a damaged one)."""
    if path.is_dir():
        return is_version_folder(path) or any(
            is_version_folder(child) for child in path.iterdir() if child.name[:1].isdigit() and child.is_dir()
        )
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    if header_length(head) is not None:
        return True
    foreign = head.startswith(_OTHER_MAGIC) or head[4:8] == b"ftyp"
    return ".tfrecord" in path.name and not foreign


@dataclass(frozen=True)
class _Numbering:
    """How refs of one shard are named: `place` with the split or the file, `first` the index of its first episode."""

    source: str
    place: str
    first: int


def _shard_refs(shard: Shard, numbering: _Numbering, findings: tuple[Finding, ...]) -> list[RecordingRef]:
    """One ref per episode that the shard holds or should hold; damage takes the place of a declared episode."""
    records, found = _records(shard)
    missing = (shard.declared or 0) - len(records) if records or shard.declared is not None else 1
    absent = Problem(
        "declared_absent", f"{shard.path.name} of split {shard.split!r}: metadata names an episode that is not on disk"
    )
    records = records + [Record(0, 0, absent)] * missing
    refs = []
    for index, record in enumerate(records, numbering.first):
        place = "" if record.problem else msgspec.json.encode(RecordPlace(record.offset, record.length)).decode()
        refs.append(
            RecordingRef(
                f"{numbering.place}/{index:06d}",
                numbering.source,
                FORMAT,
                str(shard.path),
                place,
                shard.split,
                record.problem,
                findings + found,
            )
        )
    return refs


def _records(shard: Shard) -> tuple[list[Record], tuple[Finding, ...]]:
    """The records of a shard, and where their number is not the declared one; none where the file is absent."""
    if not shard.path.exists():
        return [], ()
    try:
        records = index_records(shard.path)
    except OSError as error:
        detail = f"{shard.path}: {error.strerror or error}; check that it is a readable file"
        return [Record(0, 0, Problem("unreadable", detail))], ()
    whole = sum(record.problem is None for record in records)
    if shard.declared is None or whole == shard.declared:
        return [record for record in records if shard.declared != 0 or record.length], ()
    detail = f"{shard.path.name}: shardLengths says {shard.declared} episodes and {whole} whole ones are on disk"
    return records, (metadata_finding("shard_length", detail, float(abs(whole - shard.declared)), "episodes"),)


def plan(source: Source, path: Path) -> Iterator[RecordingRef]:
    """One ref per episode that metadata or disk names within `source.splits`, from record headers only.

    Raises Unreadable `wrong_format` where a folder holds no TFRecord data set.
    """
    path = path.absolute()
    if path.is_file():
        info, fault = load_info(path.parent)
        shards = [s for s in (list_shards(path.parent, info) if info else []) if s.path.name == path.name]
        split = shards[0].split if shards else shard_split(path.name)
        if not (source.splits and split and split not in source.splits):
            place = f"{id_prefix(source, path.parent)}/{path.name.replace('.tfrecord', '')}"
            shard = shards[0] if shards else Shard(split, path, None, False)
            yield from _shard_refs(shard, _Numbering(source.name, place, 0), _dataset_findings(fault))
        return
    folders = version_folders(path) or [path]
    for folder in folders:
        version = "" if len(folders) == 1 else ".".join(folder.relative_to(path).parts) + "."
        place = f"{id_prefix(source, path)}/{version}"
        yield from _plan_folder(source, folder, place)


def _dataset_findings(fault: str) -> tuple[Finding, ...]:
    return (metadata_finding("dataset_info", fault, 1.0, "files"),) if fault else ()


def _alike(info: DatasetInfo | None) -> tuple[Finding, ...]:
    """Splits that state the same shards and the same bytes: chance does not repeat a size to the byte."""
    stated: dict[tuple[tuple[int, ...], int], list[str]] = defaultdict(list)
    for split in info.splits if info else ():
        size = str(split.num_bytes)
        if size.isdecimal() and int(size):
            stated[tuple(map(int, split.shard_lengths)), int(size)].append(split.name)
    return tuple(
        metadata_finding(
            "splits_alike",
            f"splits {' and '.join(names)} each state {sum(lengths)} episodes in {size} bytes: "
            "they may hold the same episodes; compare them before one is used to evaluate the other",
            float(len(names)),
            "splits",
        )
        for (lengths, size), names in stated.items()
        if len(names) > 1
    )


def _plan_folder(source: Source, folder: Path, place: str) -> Iterator[RecordingRef]:
    info, fault = load_info(folder)
    shards = list_shards(folder, info)
    if not shards:
        raise Unreadable(
            "wrong_format", f"{folder}: neither dataset_info.json nor a *.tfrecord file names an episode; check `path:`"
        )
    splits = list(dict.fromkeys(shard.split for shard in shards))
    for split in source.splits or splits:
        if split not in splits:
            problem = Problem("absent", f"{folder}: no split {split!r}; it has {', '.join(splits)}: correct `splits:`")
            yield RecordingRef(f"{place}{split}/000000", source.name, FORMAT, str(folder), "", split, problem)
            continue
        first = 0
        for shard in (shard for shard in shards if shard.split == split):
            findings = (*_dataset_findings(fault), *_alike(info))
            if info is not None and not shard.named:
                detail = f"{shard.path.name} is not in dataset_info.json"
                findings += (metadata_finding("shard_undeclared", detail, 1.0, "files"),)
            refs = _shard_refs(shard, _Numbering(source.name, f"{place}{split}", first), findings)
            first += len(refs)
            yield from refs
