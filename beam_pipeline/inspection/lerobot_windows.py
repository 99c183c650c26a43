"""Camera files of a LeRobot v3 set against the windows that meta/episodes places in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from beam_pipeline.inspection.code import VIDEO_SHORT
from beam_pipeline.inspection.episode_table import EpisodeTable, Placement, placement
from beam_pipeline.inspection.lerobot_episodes import Videos, notice_absent
from beam_pipeline.inspection.report import EXAMPLES, Notices
from beam_pipeline.inspection.video_headers import period_ns
from transforms.media import VideoHeader
from transforms.sources.lerobot_episodes import Window
from transforms.sources.lerobot_meta import Dataset
from transforms.sources.lerobot_tables import EPISODE
from transforms.sources.lerobot_videos import camera_name, window_findings


@dataclass(frozen=True, eq=False)
class _Windows:
    """(E,) window of each episode in its file of one camera, seconds."""

    place: Placement
    numbers: NDArray[np.int64]
    end_s: NDArray[np.float64]

    def against(self, file: str, header: VideoHeader, name: str, notices: Notices) -> None:
        """Windows that reach past the end of the file."""
        if not header.duration_ns:
            return
        length = (header.duration_ns + period_ns(header) / 2) * 1e-9
        short = np.flatnonzero((self.place.file == self.place.names.index(file)) & (self.end_s > length))
        if len(short):
            far = int(short[np.argmax(self.end_s[short])])
            text = f"{name}: {file} ends at {header.duration_ns * 1e-9:g} s; episode {self.numbers[far]} needs "
            notices.add(VIDEO_SHORT, f"{text}{self.end_s[far]:g} s", len(short))


def window_videos(
    dataset: Dataset, table: EpisodeTable, feature: str, present: NDArray[np.bool_], notices: Notices
) -> Videos:
    """The camera's files that episodes on disk name, and their windows; `present` (E,) bool."""
    root, info, name = Path(dataset.root), dataset.info, camera_name(feature)
    prefix = f"videos/{feature}"
    place = placement(
        table.ints(f"{prefix}/chunk_index"),
        table.ints(f"{prefix}/file_index"),
        lambda chunk, file: info.video_file(video_key=feature, chunk_index=chunk, file_index=file),
    )
    numbers, lengths = table.ints(EPISODE), table.ints("length")
    start, end = table.seconds(f"{prefix}/from_timestamp"), table.seconds(f"{prefix}/to_timestamp")
    nowhere = np.flatnonzero(present & (place.file < 0))
    if len(nowhere):
        text = f"{name}: the metadata lists no file for {len(nowhere)} episodes, such as {numbers[nowhere[0]]}"
        notices.add("integrity.camera_absent", text, len(nowhere))
    if info.fps:
        short = np.flatnonzero((lengths / info.fps - (end - start) > 0.5 / info.fps) & (place.file >= 0))
        if len(short):
            notices.add("metadata.to_timestamp", f"{name}: in {len(short)} of {len(numbers)} episodes", len(short))
        for at in short[:EXAMPLES].tolist():
            window = Window(place.names[place.file[at]], float(start[at]), float(end[at]))
            rows = int(lengths[at])
            for found in window_findings(name, window, rows, rows, round(1e9 / info.fps)):
                notices.add(found.check, f"episode {numbers[at]}, {found.detail}", 0)
    needed = place.sums(present.astype(np.int64))
    wanted = [file for file, count in zip(place.names, needed.tolist(), strict=True) if count]
    files = [file for file in wanted if (root / file).is_file()]
    absent = [file for file in wanted if not (root / file).is_file()]
    if absent:
        notice_absent(feature, len(absent), len(wanted), absent[0], notices)
    return Videos(files, len(absent), _Windows(place, numbers, end).against)
