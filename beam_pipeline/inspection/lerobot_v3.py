"""LeRobot v3: many episodes a file, listed by meta/episodes, held against footers column by column."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from beam_pipeline.inspection.episode_table import EpisodeTable, Placement, load_table, placement
from beam_pipeline.inspection.lerobot_episodes import Episodes
from beam_pipeline.inspection.lerobot_windows import window_videos
from beam_pipeline.inspection.report import EXAMPLES, Notices
from transforms.sources.lerobot_episodes import MAX_EPISODES, Listed
from transforms.sources.lerobot_meta import Dataset, Info
from transforms.sources.lerobot_plan import (
    NO_SPLIT,
    ListTotals,
    disk_files,
    metadata_findings,
    plan_v3,
    split_ranges,
    undeclared_cameras,
)
from transforms.sources.lerobot_tables import EPISODE
from transforms.sources.parquet_footer import stated_rows
from transforms.unreadable import Unreadable


def episodes_v3(dataset: Dataset, notices: Notices) -> Episodes:
    """All episodes that the list names or, where a file's rows are not those listed, that disk holds besides."""
    root, info = Path(dataset.root), dataset.info
    files = disk_files(root, info)
    notices.findings(undeclared_cameras(root, info))
    table = load_table(root)
    if table is None:
        return _without_list(dataset, files, notices)
    numbers, lengths = table.ints(EPISODE), table.ints("length")
    _notice_list(dataset, table, notices)
    _notice_rows(table, notices)
    place = placement(
        table.ints("data/chunk_index"),
        table.ints("data/file_index"),
        lambda chunk, file: info.data_file(chunk_index=chunk, file_index=file),
    )
    _notice_absent(place, set(files), notices)
    rows = _stated_rows(root, files, notices)
    unlisted = _notice_lengths(root, place, numbers, lengths, rows, notices)
    present = place.within(set(files))
    return Episodes(
        listed=len(numbers) + unlisted,
        present=int(present.sum()) + unlisted,
        steps=sum(rows.values()),
        data_files=files,
        splits=_splits(info, numbers),
        tasks=_tasks(dataset, table, notices),
        videos={feature: window_videos(dataset, table, feature, present, notices) for feature in dataset.cameras},
    )


def _notice_list(dataset: Dataset, table: EpisodeTable, notices: Notices) -> None:
    lengths = table.ints("length")
    frames = None if (lengths < 0).any() else int(lengths.sum())
    notices.findings(metadata_findings(dataset, ListTotals(True, len(lengths), frames, 0, table.broken)))
    if table.misplaced:
        text = f"{table.misplaced} entries of meta/episodes have no episode_index, data/chunk_index or data/file_index"
        notices.add("metadata.episodes", text, table.misplaced)
    if len(table.repeated):
        some = ", ".join(map(str, table.repeated[:EXAMPLES].tolist()))
        text = f"{len(table.repeated)} episodes are listed more than once, such as {some}; the first entry is used"
        notices.add("metadata.episodes", text, len(table.repeated))


def _notice_rows(table: EpisodeTable, notices: Notices) -> None:
    """`dataset_from_index` and `dataset_to_index` against the lengths and one another."""
    numbers, lengths = table.ints(EPISODE), table.ints("length")
    start, end = table.ints("dataset_from_index"), table.ints("dataset_to_index")
    stated = (start >= 0) & (end >= 0) & (lengths >= 0)
    wrong = np.flatnonzero(stated & (end - start != lengths))
    if len(wrong):
        at = int(wrong[0])
        text = f"{len(wrong)} episodes, such as {numbers[at]}: {start[at]} to {end[at]} for {lengths[at]} rows"
        notices.add("metadata.dataset_index", text, len(wrong))
    order = np.flatnonzero(stated)[np.argsort(start[stated], kind="stable")]
    loose = np.flatnonzero(start[order][1:] != end[order][:-1]) if len(order) > 1 else np.zeros(0, np.int64)
    if len(loose):
        before, after = order[loose[0]], order[loose[0] + 1]
        text = f"in {len(loose)} places, such as episode {numbers[before]} to {end[before]}, {numbers[after]} from "
        notices.add("metadata.dataset_index", f"{text}{start[after]}", len(loose))


def _notice_absent(place: Placement, on_disk: set[str], notices: Notices) -> None:
    counts = place.sums(np.ones(len(place.file), np.int64))
    for name, count in zip(place.names, counts.tolist(), strict=True):
        if name not in on_disk:
            notices.add("declared_absent", f"{name} is absent, with {count} listed episodes", count)


def _stated_rows(root: Path, files: list[str], notices: Notices) -> Mapping[str, int]:
    rows: dict[str, int] = {}
    for name in files:
        try:
            rows[name] = stated_rows(root / name)
        except Unreadable as error:
            notices.problem(error.problem)
    return rows


def _notice_lengths(
    root: Path,
    place: Placement,
    numbers: np.typing.NDArray[np.int64],
    lengths: np.typing.NDArray[np.int64],
    rows: Mapping[str, int],
    notices: Notices,
) -> int:
    """Search the files whose rows the listed lengths do not sum to; the number of episodes that only they name."""
    expected = dict(zip(place.names, place.sums(np.maximum(lengths, 0)).tolist(), strict=True))
    odd = [name for name, count in rows.items() if count != expected.get(name, -1)]
    if not odd:
        return 0
    held = place.within(set(odd))
    listed = {
        number: Listed(number, place.names[file], length)
        for number, file, length in zip(
            numbers[held].tolist(), place.file[held].tolist(), np.maximum(lengths[held], 0).tolist(), strict=True
        )
    }
    planned = plan_v3(root, listed, odd)
    notices.findings(planned.shared)
    known = set(numbers.tolist())
    unlisted = [number for number in planned.own if number not in known]
    for number in unlisted:
        notices.findings(planned.own[number])
    for problem in planned.unreadable.values():
        notices.problem(problem)
    return len(unlisted)


def _splits(info: Info, numbers: np.typing.NDArray[np.int64]) -> Mapping[str, int]:
    """Episodes by the first split that holds them."""
    left = np.ones(len(numbers), bool)
    found: dict[str, int] = {}
    for split, first, end in split_ranges(info):
        held = left & (numbers >= first) & (numbers < end)
        found[split], left = int(held.sum()), left & ~held
    if left.any():
        found[NO_SPLIT] = int(left.sum())
    return found


def _tasks(dataset: Dataset, table: EpisodeTable, notices: Notices) -> Mapping[str, int]:
    tasks = table.tasks()
    known = set(dataset.tasks.values())
    strange = sorted(text for text in tasks if text not in known) if known else []
    if strange:
        notices.add("metadata.tasks", f"episodes list {strange[0]!r}; the task table has no such text", len(strange))
    return tasks


def _without_list(dataset: Dataset, files: list[str], notices: Notices) -> Episodes:
    """Episodes of a set without meta/episodes: what its data files hold, up to the declared total."""
    root, info = Path(dataset.root), dataset.info
    notices.findings(metadata_findings(dataset, ListTotals(False, 0, None, 0)))
    planned = plan_v3(root, {}, files)
    for problem in planned.unreadable.values():
        notices.problem(problem)
    total = min(info.total_episodes or 0, MAX_EPISODES)
    absent = len(set(range(total)) - set(planned.episodes))
    if absent:
        notices.add("declared_absent", f"{absent} of {total} declared episodes are in no data file", absent)
    numbers = np.array(sorted(planned.episodes), np.int64)
    rows = _stated_rows(root, [name for name in files if name not in planned.unreadable], notices)
    return Episodes(
        listed=len(planned.episodes) + absent,
        present=len(planned.episodes),
        steps=sum(rows.values()),
        data_files=files,
        splits=_splits(info, numbers),
        tasks={},
        videos={},
    )
