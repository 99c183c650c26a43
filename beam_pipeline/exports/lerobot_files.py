"""What LeRobot v2.1 and v3.0 data sets share on disk: info.json's features, JSON files, statistics of the whole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_pipeline.exports.lerobot_clock import as_number
from beam_pipeline.exports.lerobot_columns import Feature, values_of
from beam_pipeline.exports.lerobot_sets import DataSet
from beam_pipeline.exports.lerobot_statistics import Statistics, statistics
from beam_pipeline.exports.video_files import header

CHUNK_SIZE = 1000
"""Files, or episodes of v2.1, in one folder."""


def write_json(path: Path, value: object) -> None:
    """JSON as LeRobot writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")


def info(
    data: DataSet, version: str, n_tasks: int, more: Mapping[str, object], video: Mapping[str, Path]
) -> dict[str, Any]:
    """info.json; `video` names one exported file of each video feature, whose header is described."""
    splits, start = {}, 0
    for name, count in data.splits:
        splits[name] = f"{start}:{start + count}"
        start += count
    return {
        "codebase_version": version,
        "robot_type": data.robot_type,
        "total_episodes": len(data.episodes),
        "total_frames": data.n_steps,
        "total_tasks": n_tasks,
        "chunks_size": CHUNK_SIZE,
        "fps": as_number(data.fps),
        "splits": splits,
        **more,
        "features": {f.name: _feature(f, data.fps, video.get(f.name)) for f in data.features},
    }


def _feature(feature: Feature, fps: float, video: Path | None) -> dict[str, Any]:
    entry = {"dtype": feature.dtype, "shape": list(feature.shape), "names": json.loads(feature.names)}
    if video is not None:
        file = header(video)
        entry["info"] = {
            "video.height": file.height,
            "video.width": file.width,
            "video.codec": file.codec,
            "video.pix_fmt": file.pixel_format,
            "video.is_depth_map": False,
            "video.fps": as_number(fps),
            "video.channels": 3,
            "has_audio": file.has_audio,
        }
    return entry


def whole_statistics(files: Sequence[Path], features: Mapping[str, Feature]) -> dict[str, Statistics]:
    """Statistics of every feature of numbers over all files, exact; one column is in memory at a time."""
    found = {}
    for name, feature in features.items():
        if feature.dtype in ("image", "string"):
            continue
        parts = [values_of(_plain(pq.read_table(path, columns=[name])[name]), feature) for path in files]
        found[name] = statistics(np.concatenate(parts))
    return found


def _plain(column: pa.ChunkedArray) -> pa.Array:
    kind = column.type
    if pa.types.is_fixed_size_list(kind):
        column = column.cast(pa.list_(kind.value_type))
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
