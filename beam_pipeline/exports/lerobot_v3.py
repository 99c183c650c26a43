"""LeRobot v3.0: many episodes a file, whole videos shared by the episodes that they show.

Layout: https://huggingface.co/docs/lerobot/lerobot-dataset-v3, and lerobot's own writer (0.4).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from beam_pipeline.curated import CuratedSet
from beam_pipeline.exports.export import Exported, ExportOptions
from beam_pipeline.exports.lerobot_cameras import VideoFileReport, WholeFiles
from beam_pipeline.exports.lerobot_files import CHUNK_SIZE, info, whole_statistics, write_json
from beam_pipeline.exports.lerobot_record import Written, finish
from beam_pipeline.exports.lerobot_sets import DataSet, data_sets
from beam_pipeline.exports.lerobot_statistics import PixelCounts, Statistics
from beam_pipeline.exports.lerobot_steps import (
    arrow_schema,
    camera_statistics,
    column_statistics,
    episode_columns,
    stored_features,
)
from beam_pipeline.exports.lerobot_tasks import TaskTable, task_of, task_table

KIND = "lerobot-v3"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
DATA_MB, VIDEO_MB = 100, 200
_ROWS_AT_ONCE = 1000


def write(curated: CuratedSet, options: ExportOptions) -> Exported:
    """One data set, or one a source where they differ; raises ExportError."""
    written = [_DataSetWriter(curated, data, options).write() for data in data_sets(curated, options)]
    return finish(curated, options, KIND, written)


def video_path(camera: str, number: int) -> str:
    """Path of a camera's file by its number."""
    chunk, file = divmod(number, CHUNK_SIZE)
    return VIDEO_PATH.format(video_key=camera, chunk_index=chunk, file_index=file)


class _DataFiles:
    """data/*.parquet in the making: a row group an episode, the next file after DATA_MB."""

    def __init__(self, root: Path, schema: pa.Schema) -> None:
        self._root = root
        self._schema = schema
        self._writer: pq.ParquetWriter | None = None
        self._number = -1
        self.paths: list[Path] = []

    def add(self, rows: pa.Table) -> tuple[int, int]:
        """Write an episode; returns chunk and file."""
        if self._writer is None or self.paths[-1].stat().st_size >= DATA_MB << 20:
            self.close()
            self._number += 1
            chunk, file = divmod(self._number, CHUNK_SIZE)
            path = self._root / DATA_PATH.format(chunk_index=chunk, file_index=file)
            path.parent.mkdir(parents=True, exist_ok=True)
            self.paths.append(path)
            self._writer = pq.ParquetWriter(path, self._schema, compression="snappy")
        self._writer.write_table(rows)
        return divmod(self._number, CHUNK_SIZE)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class _DataSetWriter:
    """One data set on its way to disk."""

    def __init__(self, curated: CuratedSet, data: DataSet, options: ExportOptions) -> None:
        self._curated = curated
        self._data = data
        self._root = data.folder
        self._tasks = task_table(data.episodes, data.annotations)
        self._features = stored_features(data)
        self._whole: dict[str, WholeFiles] = {}
        for camera in data.cameras("video"):
            if options.videos != "reencode" and camera.name in data.episodes[0].videos:
                self._whole[camera.name] = WholeFiles(curated, camera.name, data.episodes, options.videos)
        self._counts: dict[str, PixelCounts] = {}

    def write(self) -> Written:
        """All files; info.json last."""
        data = self._data
        self._root.mkdir(parents=True, exist_ok=True)
        reports = self._write_whole_videos()
        files = _DataFiles(self._root, arrow_schema(data))
        rows, first = [], 0
        try:
            for number, one in enumerate(data.episodes):
                rows.append(self._episode(files, number, first))
                first += len(one.times_ns)
        finally:
            files.close()
        _write_episodes(self._root / EPISODES_PATH, rows)
        write_tasks(self._root / "meta/tasks.parquet", self._tasks)
        whole = whole_statistics(files.paths, self._features)
        whole |= {name: counts.statistics() for name, counts in self._counts.items()}
        write_json(self._root / "meta/stats.json", whole)
        more = {
            "data_files_size_in_mb": DATA_MB,
            "video_files_size_in_mb": VIDEO_MB,
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if data.cameras("video") else None,
        }
        shown = {f.name: self._root / video_path(f.name, 0) for f in data.cameras("video")}
        write_json(self._root / "meta/info.json", info(data, "v3.0", len(self._tasks.texts), more, shown))
        return Written(data, tuple(reports))

    def _write_whole_videos(self) -> list[VideoFileReport]:
        reports = []
        for camera, files in self._whole.items():
            for number, path in enumerate(files.paths):
                target = video_path(camera, number)
                files.carry(path, self._root / target)
                reports.append(files.report(path, target))
        return reports

    def _episode(self, files: _DataFiles, number: int, first: int) -> dict[str, Any]:
        one = self._data.episodes[number]
        columns = episode_columns(self._curated, self._data, one, number, first, self._tasks)
        chunk, file = files.add(columns.table(arrow_schema(self._data), self._features))
        count = len(one.times_ns)
        row: dict[str, Any] = {
            "episode_index": number,
            "tasks": [task_of(one)],
            "length": count,
            "data/chunk_index": chunk,
            "data/file_index": file,
            "dataset_from_index": first,
            "dataset_to_index": first + count,
        }
        found = column_statistics(columns, self._features)
        for camera in (f for f in self._data.features if f.is_camera):
            place: Path | None = None
            if camera.dtype == "video":
                whole = self._whole.get(camera.name)
                from_s = whole.first_s(one) if whole else 0.0
                at = whole.number(one) if whole else number
                place = None if whole else self._root / video_path(camera.name, number)
                row |= _video_row(camera.name, at, from_s, from_s + count / self._data.fps)
            counts = camera_statistics(self._curated, self._data, one, columns, camera, place)
            self._counts[camera.name] = counts.merged(self._counts.get(camera.name))
            found[camera.name] = counts.statistics()
        return {**row, **_flat(found), "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}


def _video_row(camera: str, number: int, from_s: float, to_s: float) -> dict[str, Any]:
    chunk, file = divmod(number, CHUNK_SIZE)
    values = {"chunk_index": chunk, "file_index": file, "from_timestamp": from_s, "to_timestamp": to_s}
    return {f"videos/{camera}/{name}": value for name, value in values.items()}


def _flat(found: Mapping[str, Statistics]) -> dict[str, Any]:
    return {f"stats/{feature}/{name}": value for feature, one in found.items() for name, value in one.items()}


def _write_episodes(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.Table.from_pylist([dict(rows[0])]).schema
    with pq.ParquetWriter(path, schema, compression="snappy") as writer:
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            part = [dict(row) for row in rows[start : start + _ROWS_AT_ONCE]]
            writer.write_table(pa.Table.from_pylist(part, schema=schema))


def write_tasks(path: Path, tasks: TaskTable) -> None:
    """Texts as the unnamed index of a pandas table, which is how LeRobot stores them."""
    index = "__index_level_0__"
    columns: list[dict[str, str | None]] = [
        {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"},
        {"name": None, "field_name": index, "pandas_type": "unicode", "numpy_type": "object"},
    ]
    pandas = {
        "index_columns": [index],
        "column_indexes": [],
        "columns": [{**column, "metadata": None} for column in columns],
        "pandas_version": "2.2.0",
    }
    table = pa.table(
        {"task_index": pa.array(range(len(tasks.texts)), pa.int64()), index: pa.array(tasks.texts, pa.string())}
    )
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), path)
