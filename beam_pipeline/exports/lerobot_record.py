"""`export.json` beside an export, and what a user is told: origins of episodes, what is left out, frames not shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from beam_pipeline.curated import CuratedSet
from beam_pipeline.exports.export import Exported, ExportOptions
from beam_pipeline.exports.lerobot_cameras import VideoFileReport
from beam_pipeline.exports.lerobot_sets import DataSet
from beam_pipeline.exports.lerobot_tasks import task_of

RECORD = "export.json"


@dataclass(frozen=True, eq=False)
class Written:
    """One data set that was written, with its video files where they were taken whole."""

    data: DataSet
    videos: tuple[VideoFileReport, ...]
    notes: tuple[str, ...] = ()


def finish(curated: CuratedSet, options: ExportOptions, kind: str, written: Sequence[Written]) -> Exported:
    """Write export.json and say what was written."""
    root = options.output
    record = {
        "format": kind,
        "manifest": curated.manifest.number,
        "config_hash": curated.manifest.config_hash,
        "code_version": curated.manifest.code_version,
        "videos": options.videos,
        "frames_not_shown": sum(file.frames_not_shown for one in written for file in one.videos),
        "data_sets": [_entry(one, root) for one in written],
    }
    (root / RECORD).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return Exported(
        folders=tuple(one.data.folder.relative_to(root) for one in written),
        n_episodes=sum(len(one.data.episodes) for one in written),
        n_steps=sum(one.data.n_steps for one in written),
        notes=tuple(note for one in written for note in _notes(one, options)),
    )


def _entry(one: Written, root: Path) -> dict[str, object]:
    data = one.data
    return {
        "folder": data.folder.relative_to(root).as_posix(),
        "sources": list(data.sources),
        "fps": data.fps,
        "left_out": dict(sorted(data.left_out.items())),
        "episodes": [
            {
                "episode_index": number,
                "episode_id": scanned.episode.episode_id,
                "content_id": scanned.episode.content_id,
                "source": scanned.episode.source,
            }
            for number, scanned in enumerate(data.episodes)
        ],
        "video_files": [asdict(file) for file in one.videos],
    }


def _notes(one: Written, options: ExportOptions) -> list[str]:
    data, names = one.data, ", ".join(one.data.sources)
    notes = [f"{names}: {column} is left out: {why}" for column, why in sorted(data.left_out.items())]
    silent = sum(not task_of(scanned) for scanned in data.episodes)
    if silent:
        notes.append(f"{names}: {silent} of {len(data.episodes)} episodes have no instruction; their task is empty")
    hidden = sum(file.frames_not_shown for file in one.videos)
    if hidden:
        files = [file for file in one.videos if file.frames_not_shown]
        total = sum(file.frames for file in one.videos)
        notes.append(
            f"{names}: {hidden} of {total} frames in {len(files)} of {len(one.videos)} video files are shown by no "
            f"exported step, being of rejected or other episodes; {RECORD} lists them, --videos reencode omits them"
        )
    if options.videos == "reference" and one.videos:
        notes.append(f"{names}: {len(one.videos)} video files are links into the curated folder; keep it")
    return [*notes, *one.notes]
