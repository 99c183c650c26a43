"""The episodes that a LeRobot data set lists: episodes.jsonl (v2) or meta/episodes (v3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from transforms.sources.lerobot_meta import Info, lines
from transforms.sources.lerobot_tables import table_of
from transforms.unreadable import Unreadable

MAX_EPISODES = 1_000_000
"""More episodes than this are never planned from a bare number."""


class Window(msgspec.Struct, frozen=True):
    """Where a v3 camera file shows the episode: `file` relative to the data set, seconds of the file's clock."""

    file: str
    start_s: float | None = None
    end_s: float | None = None


class Listed(msgspec.Struct, frozen=True):
    """One episode as the metadata lists it; `data` relative to the data set, `row_start` the row within that file."""

    episode: int
    data: str
    length: int | None = None
    tasks: tuple[str, ...] = ()
    row_start: int | None = None
    first_index: int | None = None
    windows: Mapping[str, Window] = {}


class Place(msgspec.Struct, frozen=True):
    """What `read` needs of one planned episode, beside its data file; `digest` of the data set's metadata."""

    digest: str
    listed: Listed


@dataclass(frozen=True)
class EpisodeList:
    """The listed episodes by number; `present` is False where the data set has no list at all."""

    episodes: Mapping[int, Listed]
    present: bool
    broken: tuple[str, ...] = ()
    repeated: tuple[int, ...] = ()


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(t for t in value if isinstance(t, str)) if isinstance(value, list) else ()


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _seconds(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def list_v2(root: Path, info: Info) -> EpisodeList:
    """episodes.jsonl; lines that cannot be understood are named in `broken`."""
    path = root / "meta" / "episodes.jsonl"
    if not path.is_file():
        return EpisodeList({}, False)
    found: dict[int, Listed] = {}
    broken, repeated = [], []
    for number, row in enumerate(lines(path), 1):
        episode = _count(row.get("episode_index")) if isinstance(row, dict) else None
        if episode is None:
            broken.append(f"episodes.jsonl line {number}: {row if isinstance(row, Exception) else 'no episode_index'}")
        elif episode in found:
            repeated.append(episode)
        else:
            data = info.data_file(episode_chunk=info.chunk(episode), episode_index=episode)
            found[episode] = Listed(episode, data, _count(row.get("length")), _texts(row.get("tasks")))
    return EpisodeList(found, True, tuple(broken), tuple(repeated))


def list_v3(root: Path, info: Info) -> EpisodeList:
    """meta/episodes; its statistics columns are not read. A part that cannot be read is named in `broken`."""
    parts = sorted((root / "meta" / "episodes").glob("**/*.parquet"))
    if not parts:
        return EpisodeList({}, False)
    rows: list[dict[str, Any]] = []
    broken, repeated = [], []
    for part in parts:
        try:
            rows += table_of(part, lambda name: not name.startswith(("stats/", "meta/"))).to_pylist()
        except Unreadable as error:
            broken.append(error.problem.detail)
    cameras = info.named("video")
    data_file = cache(lambda chunk, file: info.data_file(chunk_index=chunk, file_index=file))
    found: dict[int, Listed] = {}
    for row in rows:
        episode = _count(row.get("episode_index"))
        chunk, file = _count(row.get("data/chunk_index")), _count(row.get("data/file_index"))
        if episode is None or chunk is None or file is None:
            broken.append(f"meta/episodes: episode {row.get('episode_index')} has no data/chunk_index, data/file_index")
        elif episode in found:
            repeated.append(episode)
        else:
            windows = {key: window for key in cameras if (window := _window(info, key, row)) is not None}
            length, first = _count(row.get("length")), _count(row.get("dataset_from_index"))
            data = data_file(chunk, file)
            found[episode] = Listed(episode, data, length, _texts(row.get("tasks")), None, first, windows)
    return EpisodeList(_with_row_starts(found), True, tuple(broken), tuple(repeated))


def _window(info: Info, key: str, row: Mapping[str, Any]) -> Window | None:
    chunk, file = _count(row.get(f"videos/{key}/chunk_index")), _count(row.get(f"videos/{key}/file_index"))
    if chunk is None or file is None:
        return None
    start, end = _seconds(row.get(f"videos/{key}/from_timestamp")), _seconds(row.get(f"videos/{key}/to_timestamp"))
    return Window(info.video_file(video_key=key, chunk_index=chunk, file_index=file), start, end)


def _with_row_starts(found: Mapping[int, Listed]) -> Mapping[int, Listed]:
    """dataset_from_index counts through the whole data set; within a file it counts from the file's smallest."""
    first: dict[str, int] = {}
    for listed in found.values():
        if listed.first_index is not None:
            first[listed.data] = min(first.get(listed.data, listed.first_index), listed.first_index)
    return {
        episode: listed
        if listed.first_index is None
        else msgspec.structs.replace(listed, row_start=listed.first_index - first[listed.data])
        for episode, listed in found.items()
    }


def load_list(root: Path, info: Info) -> EpisodeList:
    """The episodes that the metadata lists."""
    return list_v3(root, info) if info.version == 3 else list_v2(root, info)
