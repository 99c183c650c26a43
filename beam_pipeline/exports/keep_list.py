"""`--format keep-list`: which episodes and steps were kept, for loaders that read the source itself; no data is copied.

TARGET/keep_ranges.json       {source: {recording: [[start, end), ...]}}, by step of the recording as it is on disk
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
import pyarrow.dataset as ds
from numpy.typing import NDArray

from beam_pipeline.curated import CuratedEpisode, CuratedSet
from beam_pipeline.exports.export import Exported, ExportError, ExportOptions, chosen_episodes
from transforms.output_files import LEDGER, TRANSITIONS
from transforms.output_schema import EPISODE_ID
from transforms.schema import FRAME_INDEX, STALENESS

RANGES, LEROBOT, OPENPI = "keep_ranges.json", "lerobot_episodes.json", "openpi"
_SUCCESS = re.compile(".*success.*", re.DOTALL)
"""openpi drops every trajectory whose file_path does not match this, whatever its filter says."""
Ranges = list[list[int]]


@dataclass(frozen=True)
class _Kept:
    """The kept steps of one episode by its own frame index (N,); resampled steps are none of the recording's."""

    steps: NDArray[np.int64]
    resampled: bool


def ranges_of(steps: NDArray[np.int64]) -> Ranges:
    """Sorted step indices (N,) as half-open runs [start, end)."""
    if not len(steps):
        return []
    breaks = np.flatnonzero(np.diff(steps) != 1)
    starts = steps[np.concatenate([[0], breaks + 1])]
    ends = steps[np.concatenate([breaks, [len(steps) - 1]])] + 1
    return [[int(a), int(b)] for a, b in zip(starts, ends, strict=True)]


def merged(ranges: Ranges) -> Ranges:
    """Ranges in order, those that touch joined."""
    out: Ranges = []
    for start, end in sorted(ranges):
        if out and start <= out[-1][1]:
            out[-1][1] = max(end, out[-1][1])
        else:
            out.append([start, end])
    return out


def _kept_steps(curated: CuratedSet, source: str) -> dict[str, _Kept]:
    """Episode id -> its kept steps, in one pass over the source's transitions."""
    found: dict[str, list[NDArray[np.int64]]] = defaultdict(list)
    resampled: set[str] = set()
    for batch in _batches(curated, source):
        ids = batch.column(EPISODE_ID).to_pylist()
        frames = batch.column(FRAME_INDEX).to_numpy()
        aged = np.zeros(batch.num_rows, np.bool_)
        for name in batch.schema.names:
            if name.startswith(STALENESS):
                aged |= np.asarray(batch.column(name).is_valid())
        starts = [i for i, one in enumerate(ids) if i == 0 or one != ids[i - 1]]
        for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
            found[ids[start]].append(frames[start:end])
            if aged[start:end].any():
                resampled.add(ids[start])
    return {name: _Kept(np.sort(np.concatenate(parts)), name in resampled) for name, parts in found.items()}


def _batches(curated: CuratedSet, source: str) -> Iterator[pa.RecordBatch]:
    for path in curated.files(TRANSITIONS, source):
        found = ds.dataset(str(path), format="parquet" if path.suffix == ".parquet" else "ipc")
        columns = [n for n in found.schema.names if n in (EPISODE_ID, FRAME_INDEX) or n.startswith(STALENESS)]
        yield from found.to_batches(columns=columns)


def _offsets(curated: CuratedSet, source: str) -> dict[str, int | None]:
    """Episode cut out of a recording -> the recording's step at which it starts, None where that cannot be told.

    The tiles of a recording lie end to end; a tile that failed may not say how many steps it has, and one such is
    what the others leave.
    """
    tiles: dict[str, list[tuple[int, str, int | None]]] = defaultdict(list)
    whole: dict[str, int | None] = {}
    for row in curated.rows(LEDGER, source, [EPISODE_ID, "parent_id", "start_ns", "n_steps"]).to_pylist():
        whole[row[EPISODE_ID]] = row["n_steps"]
        if row["parent_id"] is not None:
            tiles[row["parent_id"]].append((row["start_ns"] or 0, row[EPISODE_ID], row["n_steps"]))
    found: dict[str, int | None] = {}
    for parent, parts in tiles.items():
        known = sum(count or 0 for _, _, count in parts)
        left = (whole.get(parent) or 0) - known
        unknown = sum(count is None for _, _, count in parts)
        start = 0
        for _, name, count in sorted(parts, key=lambda part: part[:2]):
            named = re.search(r"/step-(\d+)$", name)
            start = int(named[1]) if named else start
            found[name] = start if left >= 0 and unknown == (left > 0) else None
            start += left if count is None else count
    return found


def _attribute(episode: CuratedEpisode, name: str) -> object:
    held = [pair["value"] for pair in episode.row["attributes"] or () if pair["key"] == name]
    return json.loads(held[0]) if held else None


def _recording(episode: CuratedEpisode) -> str:
    return str(episode.row["parent_id"] or episode.episode_id)


def lerobot_lists(episodes: Sequence[CuratedEpisode], notes: list[str]) -> dict[str, list[int]]:
    """Data set -> indices of its kept episodes; a data set is the source, or source/FOLDER where a pattern named it."""
    lists: dict[str, set[int]] = defaultdict(set)
    cut = 0
    for episode in episodes:
        index = _attribute(episode, "episode_index")
        if episode.row["format"] != "lerobot" or not isinstance(index, int):
            continue
        if episode.row["parent_id"] is not None:
            cut += 1
            continue
        lists["/".join(episode.episode_id.split("/")[:-2])].add(index)
    if cut:
        notes.append(
            f"{cut} kept episodes are parts of longer ones and in no list of {LEROBOT}, since LeRobot loads whole "
            f"episodes; {RANGES} has their steps"
        )
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
        key, recording = f"{folder}--{path}", _recording(episode)
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
    chosen = chosen_episodes(curated, options)
    all_ranges: dict[str, dict[str, Ranges]] = {}
    lists: dict[str, list[int]] = {}
    filters: dict[str, dict[str, Ranges]] = {}
    notes: list[str] = []
    for source, episodes in chosen.items():
        own: list[str] = []
        all_ranges[source] = _source_ranges(curated, source, episodes, own)
        lists |= lerobot_lists(episodes, own)
        kept = openpi_filter(episodes, all_ranges[source], own)
        if kept:
            filters[source] = kept
        notes += [f"{source}: {note}" for note in own]
    if not any(all_ranges.values()) and not lists:
        raise ExportError("no kept episode can be named in its source: " + "; ".join(notes))
    options.output.mkdir(parents=True, exist_ok=True)
    paths = [_save(options.output / RANGES, all_ranges, 2)]
    if lists:
        paths.append(_save(options.output / LEROBOT, lists, 1))
    for source, kept in filters.items():
        paths.append(_save(options.output / OPENPI / f"{quote(source, safe='')}.json", kept, 1))
    n_steps = sum(b - a for own in all_ranges.values() for ranges in own.values() for a, b in ranges)
    return Exported(tuple(paths), sum(map(len, chosen.values())), n_steps, tuple(notes))


def _source_ranges(
    curated: CuratedSet, source: str, episodes: Sequence[CuratedEpisode], notes: list[str]
) -> dict[str, Ranges]:
    kept, offsets = _kept_steps(curated, source), _offsets(curated, source)
    found: dict[str, Ranges] = defaultdict(list)
    resampled = unplaced = 0
    for episode in episodes:
        steps, offset = kept.get(episode.episode_id), offsets.get(episode.episode_id, 0)
        if steps is None:
            continue
        if steps.resampled:
            resampled += 1
        elif offset is None:
            unplaced += 1
        else:
            found[_recording(episode)] += ranges_of(steps.steps + offset)
    if unplaced:
        notes.append(f"{unplaced} kept episodes are parts of recordings whose other parts do not say how long they are")
    if resampled:
        notes.append(f"{resampled} kept episodes were put on another clock: their steps are none of the recording's")
    return {name: merged(ranges) for name, ranges in sorted(found.items())}


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
