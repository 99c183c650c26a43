"""`--format keep-list`: which episodes and steps were kept, for loaders that read the source itself; no data is copied.

TARGET/keep_ranges.json       {source: {recording: [[start, end), ...]}}, by step of the recording as it is on disk
TARGET/keep_times_ns.json     {source: {recording: [[first, last], ...]}}, of those that were cut or put on one clock
TARGET/lerobot_episodes.json  {data set: [episode_index, ...]}, each list for `LeRobotDataset(episodes=...)`
TARGET/openpi/SOURCE.json     {"RECORDING_FOLDERPATH--FILE_PATH": [[start, end), ...]}, openpi's `filter_dict_path`
                              (Physical-Intelligence/openpi, src/openpi/training/droid_rlds_dataset.py)

A step is kept where it begins a complete transition of a kept episode: never the last one, whose action has no outcome.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from beam_pipeline.curated import CuratedEpisode, CuratedSet, part_dataset
from beam_pipeline.exports.export import Exported, ExportError, ExportOptions, chosen_episodes
from transforms.episode import TIMESTAMP
from transforms.output_files import TRANSITIONS
from transforms.output_schema import EPISODE_ID
from transforms.schema import FRAME_INDEX, STALENESS

RANGES, TIMES, LEROBOT, OPENPI = "keep_ranges.json", "keep_times_ns.json", "lerobot_episodes.json", "openpi"
_SUCCESS = re.compile(".*success.*", re.DOTALL)
"""openpi drops every trajectory whose file_path does not match this, whatever its filter says."""
Ranges = list[list[int]]


@dataclass(frozen=True)
class _Kept:
    """The kept steps of one episode: frame index (N,) and time (N,) ns, -1 where it has none.

    Resampled steps are none of the recording's.
    """

    steps: NDArray[np.int64]
    times_ns: NDArray[np.int64]
    resampled: bool


@dataclass(frozen=True)
class SourceKept:
    """Recording -> ranges of its own steps, or of its time where its steps are others."""

    steps: Mapping[str, Ranges]
    times_ns: Mapping[str, Ranges]


def ranges_of(steps: NDArray[np.int64]) -> Ranges:
    """Sorted step indices (N,) as half-open runs [start, end)."""
    if not len(steps):
        return []
    breaks = np.flatnonzero(np.diff(steps) != 1)
    starts = steps[np.concatenate([[0], breaks + 1])]
    ends = steps[np.concatenate([breaks, [len(steps) - 1]])] + 1
    return [[int(a), int(b)] for a, b in zip(starts, ends, strict=True)]


def _kept_steps(curated: CuratedSet, source: str) -> dict[str, _Kept]:
    """Episode id -> its kept steps, in one pass over the source's transitions."""
    found: dict[str, list[NDArray[np.int64]]] = defaultdict(list)
    resampled: set[str] = set()
    for batch in _batches(curated, source):
        ids = batch.column(EPISODE_ID).to_pylist()
        times = batch.column(TIMESTAMP).fill_null(-1).to_numpy()
        placed = np.stack([batch.column(FRAME_INDEX).to_numpy(), times])
        aged = np.zeros(batch.num_rows, np.bool_)
        for name in batch.schema.names:
            if name.startswith(STALENESS):
                aged |= np.asarray(batch.column(name).is_valid())
        starts = [i for i, one in enumerate(ids) if i == 0 or one != ids[i - 1]]
        for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
            found[ids[start]].append(placed[:, start:end])
            if aged[start:end].any():
                resampled.add(ids[start])
    joined = {name: np.concatenate(parts, axis=1) for name, parts in found.items()}
    found_steps = {}
    for name, rows in joined.items():
        order = np.argsort(rows[0])
        found_steps[name] = _Kept(rows[0][order], rows[1][order], name in resampled)
    return found_steps


def _batches(curated: CuratedSet, source: str) -> Iterator[pa.RecordBatch]:
    needed = (EPISODE_ID, FRAME_INDEX, TIMESTAMP)
    for path in curated.files(TRANSITIONS, source):
        found = part_dataset(path)
        columns = [name for name in found.schema.names if name in needed or name.startswith(STALENESS)]
        yield from found.to_batches(columns=columns)


def _attribute(episode: CuratedEpisode, name: str) -> object:
    held = [pair["value"] for pair in episode.row["attributes"] or () if pair["key"] == name]
    return json.loads(held[0]) if held else None


def lerobot_lists(episodes: Sequence[CuratedEpisode]) -> dict[str, list[int]]:
    """Data set -> indices of its kept episodes; a data set is the source, or source/FOLDER where a pattern named it."""
    lists: dict[str, set[int]] = defaultdict(set)
    for episode in episodes:
        index = _attribute(episode, "episode_index")
        if episode.row["format"] == "lerobot" and isinstance(index, int):
            lists["/".join(episode.episode_id.split("/")[:-2])].add(index)
    return {name: sorted(indices) for name, indices in sorted(lists.items())}


def openpi_filter(
    episodes: Sequence[CuratedEpisode], ranges: Mapping[str, Ranges], notes: list[str]
) -> dict[str, Ranges]:
    """openpi's key of an episode -> ranges of its steps; empty where the source does not have the metadata for it."""
    recordings: dict[str, str] = {}
    shared: set[str] = set()
    unnamed = unsuccessful = 0
    for episode in episodes:
        folder, path = _attribute(episode, "recording_folderpath"), _attribute(episode, "file_path")
        if not isinstance(folder, str) or not isinstance(path, str):
            unnamed += 1
            continue
        key, recording = f"{folder}--{path}", episode.episode_id
        if recordings.setdefault(key, recording) != recording:
            shared.add(key)
        unsuccessful += not _SUCCESS.fullmatch(path)
    if unnamed and any(episode.row["format"] == "rlds" for episode in episodes):
        notes.append(
            f"{unnamed} kept episodes lack recording_folderpath or file_path, by which openpi's DROID loader names "
            f"them: they are not in {OPENPI}/"
        )
    if shared:
        notes.append(f"{len(shared)} names stand for several recordings, such as {min(shared)!r}: not in {OPENPI}/")
    if unsuccessful:
        notes.append(f"openpi drops {unsuccessful} kept episodes: their file_path does not hold 'success'")
    return {key: ranges[name] for key, name in sorted(recordings.items()) if key not in shared and name in ranges}


def write(curated: CuratedSet, options: ExportOptions) -> Exported:
    """The Writer of `--format keep-list`."""
    if options.without or options.canonical:
        raise ExportError("a keep list holds no columns: leave --without and --canonical out")
    chosen = chosen_episodes(curated, options)
    kept: dict[str, SourceKept] = {}
    lists: dict[str, list[int]] = {}
    filters: dict[str, dict[str, Ranges]] = {}
    notes: list[str] = []
    for source, episodes in chosen.items():
        own: list[str] = []
        kept[source] = _source_kept(curated, source, episodes, own)
        lists |= lerobot_lists(episodes)
        filters[source] = openpi_filter(episodes, kept[source].steps, own)
        notes += [f"{source}: {note}" for note in own]
    steps = {source: one.steps for source, one in kept.items() if one.steps}
    times = {source: one.times_ns for source, one in kept.items() if one.times_ns}
    paths = [_save(options.output / RANGES, steps, 2)]
    paths += [_save(options.output / TIMES, times, 2)] if times else []
    paths += [_save(options.output / LEROBOT, lists, 1)] if lists else []
    for source, found in filters.items():
        paths += [_save(options.output / OPENPI / f"{quote(source, safe='')}.json", found, 1)] if found else []
    n_steps = sum(episode.n_transitions for episodes in chosen.values() for episode in episodes)
    places = tuple(path.relative_to(options.output) for path in paths)
    return Exported(places, sum(map(len, chosen.values())), n_steps, tuple(notes))


def _source_kept(curated: CuratedSet, source: str, episodes: Sequence[CuratedEpisode], notes: list[str]) -> SourceKept:
    kept = _kept_steps(curated, source)
    steps: dict[str, Ranges] = {}
    times: dict[str, Ranges] = defaultdict(list)
    timeless = 0
    for episode in episodes:
        own = kept.get(episode.episode_id)
        if own is None:
            continue
        runs, parent = ranges_of(own.steps), episode.row["parent_id"]
        if not own.resampled and parent is None:
            steps[episode.episode_id] = runs
            continue
        at = dict(zip(own.steps.tolist(), own.times_ns.tolist(), strict=True))
        spans = [[at[start], at[end - 1]] for start, end in runs]
        if any(first < 0 for first, _ in spans):
            timeless += 1
        else:
            times[parent or episode.episode_id] += spans
    if times:
        notes.append(f"{len(times)} recordings were cut or put on one clock: {TIMES} has the times that were kept")
    if timeless:
        notes.append(f"{timeless} kept episodes are parts of recordings without a clock and in no list")
    return SourceKept(dict(sorted(steps.items())), {name: sorted(spans) for name, spans in sorted(times.items())})


def _save(path: Path, value: Mapping[str, object], depth: int) -> Path:
    """One line an entry at `depth`, so that people can read and compare it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_lines(value, depth) + "\n", encoding="utf-8")
    return path


def _lines(value: object, depth: int) -> str:
    if not depth or not isinstance(value, Mapping):
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    rows = [f"{json.dumps(name, ensure_ascii=False)}: {_lines(value[name], depth - 1)}" for name in sorted(value)]
    return "{\n" + ",\n".join(rows) + "\n}"
