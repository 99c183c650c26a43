"""LeRobot v2.1 with GR00T's modality.json: a Parquet and an mp4 file an episode, whose frame t is step t's."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from beam_pipeline.curated import CuratedSet
from beam_pipeline.exports.export import Exported, ExportError, ExportOptions
from beam_pipeline.exports.lerobot_cameras import VideoFileReport, WholeFiles
from beam_pipeline.exports.lerobot_files import CHUNK_SIZE, info, whole_statistics, write_json
from beam_pipeline.exports.lerobot_modality import modality
from beam_pipeline.exports.lerobot_record import Written, finish
from beam_pipeline.exports.lerobot_sets import DataSet, data_sets
from beam_pipeline.exports.lerobot_statistics import Statistics
from beam_pipeline.exports.lerobot_steps import (
    arrow_schema,
    camera_statistics,
    column_statistics,
    episode_columns,
    stored_features,
)
from beam_pipeline.exports.lerobot_tasks import task_of, task_table

KIND = "lerobot-v21-gr00t"
DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"


def write(curated: CuratedSet, options: ExportOptions) -> Exported:
    """One data set, or one a source where they differ; raises ExportError."""
    written = [_DataSetWriter(curated, data, options).write() for data in data_sets(curated, options)]
    return finish(curated, options, KIND, written)


def video_path(camera: str, number: int) -> str:
    """Path of an episode's video."""
    return VIDEO_PATH.format(episode_chunk=number // CHUNK_SIZE, video_key=camera, episode_index=number)


class _DataSetWriter:
    """One data set on its way to disk."""

    def __init__(self, curated: CuratedSet, data: DataSet, options: ExportOptions) -> None:
        pictures = data.cameras("image")
        if pictures:
            raise ExportError(
                f"{pictures[0].name} of {data.sources[0]!r} stores pictures, and GR00T reads videos alone; "
                f"--image-cameras video encodes them, --without {pictures[0].name} leaves them out"
            )
        self._curated = curated
        self._data = data
        self._root = data.folder
        self._tasks = task_table(data.episodes, data.annotations)
        self._features = stored_features(data)
        self._modality, self._notes = modality(data)
        self._whole: dict[str, WholeFiles] = {}
        for camera in data.cameras("video"):
            if options.videos != "reencode" and camera.name in data.episodes[0].videos:
                files = WholeFiles(curated, camera.name, data.episodes, options.videos)
                files.check_first(data.episodes)
                self._whole[camera.name] = files

    def write(self) -> Written:
        """All files; info.json last."""
        data, meta = self._data, self._root / "meta"
        meta.mkdir(parents=True)
        reports: list[VideoFileReport] = []
        episodes, found, first = [], [], 0
        for number, one in enumerate(data.episodes):
            found.append({"episode_index": number, "stats": self._episode(number, first, reports)})
            episodes.append({"episode_index": number, "tasks": [task_of(one)], "length": len(one.times_ns)})
            first += len(one.times_ns)
        _write_lines(meta / "episodes.jsonl", episodes)
        _write_lines(meta / "episodes_stats.jsonl", found)
        _write_lines(
            meta / "tasks.jsonl", ({"task_index": i, "task": text} for i, text in enumerate(self._tasks.texts))
        )
        write_json(meta / "modality.json", self._modality)
        files = [self._root / data_path(number) for number in range(len(data.episodes))]
        write_json(meta / "stats.json", whole_statistics(files, self._features))
        cameras = data.cameras("video")
        more = {
            "total_videos": len(cameras) * len(data.episodes),
            "total_chunks": -(-len(data.episodes) // CHUNK_SIZE),
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if cameras else None,
        }
        shown = {f.name: self._root / video_path(f.name, 0) for f in cameras}
        write_json(meta / "info.json", info(data, "v2.1", len(self._tasks.texts), more, shown))
        return Written(data, tuple(reports), tuple(self._notes))

    def _episode(self, number: int, first: int, reports: list[VideoFileReport]) -> dict[str, Statistics]:
        one = self._data.episodes[number]
        columns = episode_columns(self._curated, self._data, one, number, first, self._tasks)
        path = self._root / data_path(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(columns.table(arrow_schema(self._data), self._features), path, compression="snappy")
        found = column_statistics(columns, self._features)
        for camera in self._data.cameras("video"):
            target = video_path(camera.name, number)
            whole = self._whole.get(camera.name)
            if whole is not None:
                source = one.videos[camera.name].path
                whole.carry(source, self._root / target)
                reports.append(whole.report(source, target, one))
            into = None if whole is not None else self._root / target
            found[camera.name] = camera_statistics(self._curated, self._data, one, columns, camera, into).statistics()
        return found


def data_path(number: int) -> str:
    """Path of an episode's rows."""
    return DATA_PATH.format(episode_chunk=number // CHUNK_SIZE, episode_index=number)


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
