"""Planning a LeRobot data set: one reference per episode that metadata or disk names, and where the two disagree."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import msgspec
import numpy as np

from transforms.arrays import rounded
from transforms.conventions import Source
from transforms.episode import Finding, Problem, RecordingRef
from transforms.source_paths import id_prefix
from transforms.sources.lerobot_episodes import MAX_EPISODES, EpisodeList, Listed, Place, load_list
from transforms.sources.lerobot_meta import DATA_PATH, Dataset, Info, digest_of, load_dataset
from transforms.sources.lerobot_tables import episode_runs, parquet
from transforms.unreadable import Unreadable

FORMAT = "lerobot"
NO_SPLIT = "no_split"


@dataclass(frozen=True)
class Planned:
    """What one data set offers: episodes, files without any, findings on single episodes and on all of them."""

    episodes: Mapping[int, Listed]
    unreadable: Mapping[str, Problem]
    own: Mapping[int, tuple[Finding, ...]]
    shared: tuple[Finding, ...]


def finding(check: str, value: float | None, detail: str, unit: str = "") -> Finding:
    """A finding of the loader; numbers keep 9 significant digits, so that bytes are stable."""
    return Finding("load", check, None if value is None else rounded(value), unit, detail=detail)


def disk_files(root: Path, info: Info) -> list[str]:
    """Data files on disk, relative to the data set, sorted."""
    folder = (info.data_path or DATA_PATH[info.version]).split("{")[0].rpartition("/")[0] or "data"
    return sorted(p.relative_to(root).as_posix() for p in (root / folder).glob("**/*.parquet") if p.is_file())


def _by_number(files: list[str]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    for file in files:
        if number := re.search(r"(\d{1,18})\.parquet$", file):
            found[int(number[1])].append(file)
    return found


def plan_v2(listed: Mapping[int, Listed], files: list[str]) -> Planned:
    """One file per episode: a listed episode found elsewhere is taken from there, an unlisted file is an episode."""
    numbers, on_disk = _by_number(files), set(files)
    episodes = dict(listed)
    own: dict[int, tuple[Finding, ...]] = {}
    for number, paths in numbers.items():
        entry = listed.get(number)
        if entry is None:
            episodes[number] = Listed(number, paths[0])
            own[number] = (
                finding("metadata.unlisted", 1, f"{paths[0]} is on disk; the metadata lists no episode {number}"),
            )
        elif entry.data not in on_disk:
            episodes[number] = msgspec.structs.replace(entry, data=paths[0])
            own[number] = (finding("metadata.data_path", 1, f"expected {entry.data}, found {paths[0]}"),)
        if more := [path for path in paths if path != episodes[number].data]:
            text = f"{', '.join(more)} beside {episodes[number].data}: a second file of episode {number}, not read"
            own[number] = (*own.get(number, ()), finding("metadata.unlisted", len(more), text))
    return Planned(episodes, {}, own, ())


def plan_v3(root: Path, listed: Mapping[int, Listed], files: list[str]) -> Planned:
    """Many episodes per file: a file whose rows the listed lengths do not sum to is searched for unlisted episodes."""
    expected: dict[str, int] = defaultdict(int)
    for entry in listed.values():
        expected[entry.data] += entry.length or 0
    episodes = dict(listed)
    own: dict[int, tuple[Finding, ...]] = {}
    unreadable: dict[str, Problem] = {}
    shared: list[Finding] = []
    for name in files:
        try:
            file = parquet(root / name)
            n_rows = file.metadata.num_rows
            if n_rows == expected.get(name, -1):
                continue
            runs = episode_runs(file)
        except Unreadable as error:
            if name not in expected:
                unreadable[name] = error.problem
            continue  # listed episodes of it are read, and fail, one by one
        if name in expected:
            shared.append(
                finding("metadata.length", n_rows - expected[name], f"{name}: {n_rows} rows, {expected[name]} listed")
            )
        for number in np.unique(runs[0]).tolist() if runs is not None else []:
            if number >= 0 and number not in episodes:
                episodes[number] = Listed(number, name)
                text = f"{name} holds rows of episode {number}; the metadata lists no such episode"
                own[number] = (finding("metadata.unlisted", 1, text),)
    return Planned(episodes, unreadable, own, tuple(shared))


def _from_total(root: Path, info: Info) -> dict[int, Listed]:
    """Episodes by number alone, where the data set has no list of them."""
    total = info.total_episodes or 0
    if total > MAX_EPISODES:
        raise Unreadable(
            "absurd_size",
            f"{root}/meta/info.json: total_episodes is {total} and no list of episodes backs it; limit {MAX_EPISODES}; "
            "correct it or restore the list",
        )
    if info.version == 3:
        return {}
    return {i: Listed(i, info.data_file(episode_chunk=info.chunk(i), episode_index=i)) for i in range(total)}


@dataclass(frozen=True)
class ListTotals:
    """What the list of episodes comes to; `present` False without one, `frames` None where a length is not stated."""

    present: bool
    episodes: int
    frames: int | None
    chunks: int
    broken: tuple[str, ...] = ()
    repeated: tuple[int, ...] = ()


def totals_of(listing: EpisodeList, info: Info) -> ListTotals:
    """The totals of a list whose episodes are known one by one."""
    lengths = [entry.length for entry in listing.episodes.values()]
    frames = None if None in lengths else sum(length or 0 for length in lengths)
    chunks = len({info.chunk(number) for number in listing.episodes})
    return ListTotals(listing.present, len(lengths), frames, chunks, listing.broken, listing.repeated)


def metadata_findings(dataset: Dataset, listing: ListTotals) -> tuple[Finding, ...]:
    """Where info.json disagrees with the list of episodes: findings that concern the whole data set."""
    info = dataset.info
    found = [finding("metadata.unreadable", None, text) for text in dataset.broken]
    n = listing.episodes
    if not listing.present:
        found.append(finding("metadata.episodes", None, "the data set has no list of episodes"))
        return tuple(found)
    for text in listing.broken:
        found.append(finding("metadata.episodes", len(listing.broken), text))
    for number in listing.repeated:
        found.append(
            finding("metadata.episodes", number, f"episode {number} is listed more than once; the first is used")
        )
    if info.total_episodes is not None and info.total_episodes != n:
        text = f"declared {info.total_episodes}, listed {n}"
        found.append(finding("metadata.total_episodes", info.total_episodes, text, "episodes"))
    if info.total_frames is not None and listing.frames is not None and info.total_frames != listing.frames:
        text = f"declared {info.total_frames}, listed {listing.frames}"
        found.append(finding("metadata.total_frames", info.total_frames, text, "frames"))
    cameras = info.named("video")
    if info.total_videos is not None and info.total_videos != n * len(cameras):
        text = f"declared {info.total_videos}; {n} episodes x {len(cameras)} cameras make {n * len(cameras)}"
        found.append(finding("metadata.total_videos", info.total_videos, text, "videos"))
    found += split_findings(info, n)
    if info.version != 3 and info.total_chunks is not None and info.total_chunks != listing.chunks:
        text = f"declared {info.total_chunks}; the listed episodes lie in {listing.chunks}"
        found.append(finding("metadata.total_chunks", info.total_chunks, text, "chunks"))
    tasks = len(dataset.tasks)
    if info.total_tasks is not None and info.total_tasks != tasks:
        text = f"declared {info.total_tasks}, listed {tasks}"
        found.append(finding("metadata.total_tasks", info.total_tasks, text, "tasks"))
    return tuple(found)


def split_findings(info: Info, n: int) -> list[Finding]:
    """Splits that are no range, that reach past the last episode, overlap, or leave episodes out."""
    found = []
    ranges = []
    for split in sorted(info.splits):
        span = info.split_range(split)
        if span is None:
            found.append(
                finding("metadata.splits", None, f"split {split!r} is {info.splits[split]!r}; need 'first:end'")
            )
        elif span[1] > n:
            text = f"split {split!r} is {info.splits[split]!r}; {n} episodes are listed"
            found.append(finding("metadata.splits", span[1], text, "episodes"))
        ranges += [span] if span else []
    ranges.sort()
    for (_, end), (start, stop) in pairwise(ranges):
        if start < end:
            text = f"two splits both hold episodes {start} to {min(end, stop) - 1}"
            found.append(finding("metadata.splits", min(end, stop) - start, text, "episodes"))
    return found


def split_ranges(info: Info) -> list[tuple[str, int, int]]:
    """Name, first and end episode of the splits that are ranges, by name."""
    spans = [(split, info.split_range(split)) for split in sorted(info.splits)]
    return [(split, *span) for split, span in spans if span is not None]


def split_of(ranges: Sequence[tuple[str, int, int]], episode: int) -> str:
    """Name of the first split whose range holds the episode; empty where none does."""
    return next((split for split, first, end in ranges if first <= episode < end), "")


def undeclared_cameras(root: Path, info: Info) -> tuple[Finding, ...]:
    """Folders of videos whose camera info.json does not declare."""
    pattern = "videos/*" if info.version == 3 else "video*/chunk-*/*"
    names = {path.name for path in root.glob(pattern) if path.is_dir()} - set(info.features)
    return tuple(
        finding("metadata.camera_undeclared", 1, f"{name}: has videos on disk; info.json declares no such camera")
        for name in sorted(names)
        if not name.startswith("chunk-")
    )


def plan(source: Source, path: Path) -> Iterator[RecordingRef]:
    """One reference per episode within the source's splits, in episode order; raises Unreadable where there is none."""
    if not path.exists():
        raise Unreadable("absent", f"{path} is absent; correct the source's path")
    if not path.is_dir():
        raise Unreadable("wrong_format", f"{path} is a file; a LeRobot source is the folder that holds meta/info.json")
    if not any(path.iterdir()):
        raise Unreadable("empty", f"{path} is an empty folder; a LeRobot data set needs meta/info.json")
    digest = digest_of(path)
    dataset = load_dataset(str(path), digest)
    info = dataset.info
    if unknown := sorted(set(source.splits) - set(info.splits)):
        known = ", ".join(sorted(info.splits)) or "none"
        raise Unreadable("absent", f"{path}: split {unknown[0]!r} is not declared; info.json declares: {known}")
    listing = load_list(path, info)
    files = disk_files(path, info)
    known_episodes = listing.episodes if listing.present else _from_total(path, info)
    planned = plan_v3(path, known_episodes, files) if info.version == 3 else plan_v2(known_episodes, files)
    if info.version == 3 and not listing.present:
        missing = range(min(info.total_episodes or 0, MAX_EPISODES))
        planned = Planned(
            {**{i: Listed(i, "") for i in missing}, **planned.episodes}, planned.unreadable, planned.own, planned.shared
        )
    if not planned.episodes and not planned.unreadable:
        raise Unreadable("empty", f"{path}: metadata lists no episode and disk holds none; point the source elsewhere")
    shared = (*metadata_findings(dataset, totals_of(listing, info)), *undeclared_cameras(path, info), *planned.shared)
    prefix, on_disk, ranges = id_prefix(source, path), set(files), split_ranges(info)
    uris = {name: str(path / name) for name in files}
    for episode in sorted(planned.episodes):
        entry = planned.episodes[episode]
        split = split_of(ranges, episode)
        if source.splits and split not in source.splits:
            continue
        absent = None
        if entry.data not in on_disk:
            named = entry.data or "any data file"
            absent = Problem(
                "declared_absent", f"episode {episode}: {named} is absent in {path.name}; restore the file"
            )
        yield RecordingRef(
            f"{prefix}/{quote(split, safe='') or NO_SPLIT}/{episode:06d}",
            source.name,
            FORMAT,
            uris.get(entry.data) or str(path / entry.data),
            msgspec.json.encode(Place(digest, entry)).decode(),
            split,
            absent,
            (*shared, *planned.own.get(episode, ())),
        )
    for name in sorted(planned.unreadable) if not source.splits else []:
        stem = quote(name.removesuffix(".parquet").replace("/", "_"), safe="")
        yield RecordingRef(
            f"{prefix}/{stem}/000000",
            source.name,
            FORMAT,
            str(path / name),
            problem=planned.unreadable[name],
            findings=shared,
        )
