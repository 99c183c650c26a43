"""LeRobot v2: one file per episode, as the reader plans it, with the rows that each footer states."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from beam_pipeline.inspection.lerobot_episodes import Episodes, Videos, notice_absent, videos_on_disk
from beam_pipeline.inspection.report import Notices
from beam_pipeline.inspection.video_headers import period_ns
from transforms.conventions import Source
from transforms.media import VideoHeader
from transforms.sources.lerobot import PLACE
from transforms.sources.lerobot_episodes import Listed, Window
from transforms.sources.lerobot_meta import Dataset
from transforms.sources.lerobot_plan import NO_SPLIT, plan
from transforms.sources.lerobot_videos import locate, window_findings
from transforms.sources.parquet_footer import stated_rows
from transforms.unreadable import Unreadable


def episodes_v2(source: Source, dataset: Dataset, notices: Notices) -> Episodes:
    """All episodes that the list or disk names."""
    root = Path(dataset.root)
    refs = list(plan(source, root))
    notices.refs(refs)
    rows: dict[str, int] = {}
    present: list[Listed] = []
    tasks: Counter[str] = Counter()
    for ref in refs:
        if not ref.place:
            continue
        listed = PLACE.decode(ref.place).listed
        tasks.update(dict.fromkeys(listed.tasks, 1))
        if ref.problem is None:
            present.append(listed)
            try:
                rows[listed.data] = stated_rows(root / listed.data)
            except Unreadable as error:
                notices.problem(error.problem)
                continue
            if listed.length is not None and rows[listed.data] != listed.length:
                text = f"episode {listed.episode}: {rows[listed.data]} rows, {listed.length} listed"
                notices.add("metadata.length", text)
    return Episodes(
        listed=len(refs),
        present=len(present),
        steps=sum(rows.values()),
        data_files=[listed.data for listed in present],
        splits=dict(sorted(Counter(ref.split or NO_SPLIT for ref in refs).items())),
        tasks=tasks,
        videos=_videos(dataset, present, rows, notices),
    )


def _videos(
    dataset: Dataset, present: Sequence[Listed], rows: Mapping[str, int], notices: Notices
) -> Mapping[str, Videos]:
    """Files of each camera of the episodes that are there."""
    root, info = Path(dataset.root), dataset.info
    on_disk = videos_on_disk(root) if dataset.cameras else set()
    found: dict[str, Videos] = {}
    for feature in dataset.cameras:
        files: dict[str, int | None] = {}
        absent: list[str] = []
        for listed in present:
            window, moved = locate(root, info, feature, listed)
            notices.findings(moved)
            if window is not None and window.file in on_disk:
                files[window.file] = rows.get(listed.data)
            elif window is not None:
                absent.append(window.file)
        if absent:
            notice_absent(feature, len(absent), len(present), absent[0], notices)
        found[feature] = Videos(list(files), len(absent), _Frames(files).against)
    return found


class _Frames:
    """Frames that a header states against the rows of the file's episode."""

    def __init__(self, rows: Mapping[str, int | None]) -> None:
        self._rows = rows

    def against(self, file: str, header: VideoHeader, name: str, notices: Notices) -> None:
        n_rows = self._rows[file]
        if n_rows is not None and header.n_declared:
            for found in window_findings(name, Window(file), header.n_declared, n_rows, period_ns(header)):
                notices.add(found.check, f"{found.detail} ({file})")
