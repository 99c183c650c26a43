"""What a LeRobot data set's list of episodes comes to, whichever way it is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from beam_pipeline.inspection.code import CAMERA_WITHOUT_FILES
from beam_pipeline.inspection.report import Notices
from transforms.media import VideoHeader
from transforms.sources.lerobot_videos import camera_name


def _nothing(file: str, header: VideoHeader, name: str, notices: Notices) -> None:
    """No window to hold a file against."""


@dataclass(frozen=True)
class Videos:
    """A camera's files on disk, relative to the data set, and how many that episodes need are `absent`.

    `against(file, header, camera, notices)` holds one file's header against the episodes that it should show.
    """

    files: Sequence[str]
    absent: int = 0
    against: Callable[[str, VideoHeader, str, Notices], None] = _nothing


@dataclass(frozen=True)
class Episodes:
    """Counts: episodes listed or found, those whose data file is on disk, rows of these files (`steps`).

    `tasks`: text to number of episodes; `videos` by feature.
    """

    listed: int
    present: int
    steps: int
    data_files: Sequence[str]
    splits: Mapping[str, int]
    tasks: Mapping[str, int]
    videos: Mapping[str, Videos] = field(default_factory=dict)


def videos_on_disk(root: Path) -> set[str]:
    """Every file below `videos/` or `video/`, relative to the data set."""
    folders = [root / "videos", root / "video"]
    return {path.relative_to(root).as_posix() for folder in folders for path in folder.glob("**/*.*") if path.is_file()}


def notice_absent(feature: str, absent: int, needed: int, example: str, notices: Notices) -> None:
    """A camera without any file is one notice; one without some is a notice of so many files."""
    name = camera_name(feature)
    if absent and absent == needed:
        notices.add(
            CAMERA_WITHOUT_FILES, f"{name}: no file on disk of the {needed} that episodes need, such as {example}"
        )
    elif absent:
        notices.add(
            "integrity.camera_absent", f"{name}: {absent} of {needed} files are absent, such as {example}", absent
        )
