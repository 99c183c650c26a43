"""LeRobot v3.0: several episodes per Parquet and per mp4 file, tasks and episodes as Parquet, statistics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from examples.sample.draw import CAMERAS, SIZE_PX, Frames
from examples.sample.recorded import Recorded
from examples.sample.robot import FINGERS, JOINTS, RATE_HZ

EPISODES_PER_DATA_FILE = 4
EPISODES_PER_VIDEO = 5
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
POSE = ["x", "y", "z", "qx", "qy", "qz", "qw"]
VECTORS = {
    "action": [*JOINTS, "gripper"],
    "observation.state": [*JOINTS, *FINGERS],
    "observation.velocity": [*JOINTS, *FINGERS],
    "observation.tool_pose": POSE,
    "observation.cube_pose": POSE,
}
SCALARS = {
    "next.reward": "float32",
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
X264 = {"crf": "20", "preset": "veryfast", "g": "10", "threads": "1", "x264-params": "threads=1:sliced-threads=0"}
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}

Table = dict[str, NDArray[np.generic]]


def write(folder: Path, recorded: Sequence[Recorded]) -> None:
    """Write the dataset; `recorded` in order of episode_index."""
    tasks = sorted({one.instruction or "" for one in recorded})
    tables, start = [], 0
    for number, one in enumerate(recorded):
        tables.append(_steps(one, number, start, tasks.index(one.instruction or "")))
        start += len(one.episode.qpos)
    _write_data(folder, tables)
    _write_videos(folder, recorded)
    _write_meta(folder, recorded, tables, tasks)


def _steps(recorded: Recorded, number: int, start: int, task: int) -> Table:
    episode = recorded.episode
    at = np.arange(len(episode.qpos))
    stamps = (at / RATE_HZ).astype(np.float32)
    if recorded.slot.swapped is not None:
        stamps[list(recorded.slot.swapped)] = stamps[list(recorded.slot.swapped)[::-1]]
    return {
        "action": episode.action.astype(np.float32),
        "observation.state": episode.position.astype(np.float32),
        "observation.velocity": episode.velocity.astype(np.float32),
        "observation.tool_pose": recorded.tool_xyzw.astype(np.float32),
        "observation.cube_pose": recorded.cube_xyzw.astype(np.float32),
        "next.reward": episode.reward.astype(np.float32),
        "timestamp": stamps,
        "frame_index": at,
        "episode_index": np.full(len(at), number),
        "index": at + start,
        "task_index": np.full(len(at), task),
    }


def _column(values: NDArray[np.generic]) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _write_data(folder: Path, tables: Sequence[Table]) -> None:
    for first in range(0, len(tables), EPISODES_PER_DATA_FILE):
        group = tables[first : first + EPISODES_PER_DATA_FILE]
        columns = {name: _column(np.concatenate([table[name] for table in group])) for name in group[0]}
        path = folder / DATA_PATH.format(chunk_index=0, file_index=first // EPISODES_PER_DATA_FILE)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)


def _write_videos(folder: Path, recorded: Sequence[Recorded]) -> None:
    for camera in CAMERAS:
        for first in range(0, len(recorded), EPISODES_PER_VIDEO):
            group = recorded[first : first + EPISODES_PER_VIDEO]
            key = f"observation.images.{camera}"
            place = VIDEO_PATH.format(video_key=key, chunk_index=0, file_index=first // EPISODES_PER_VIDEO)
            path = folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            encode(path, np.concatenate([one.frames[camera] for one in group]))


def encode(path: Path, frames: Frames) -> None:
    """(T, H, W, 3) to an h264 mp4 whose bytes depend on the frames alone."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(RATE_HZ), options=X264)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def statistics(values: NDArray[np.generic]) -> dict[str, list[float]]:
    """min, max, mean, std, count and quantiles of (T,) or (T, D) by element."""
    table = np.asarray(values, np.float64).reshape(len(values), -1)
    summary = {"min": table.min(0), "max": table.max(0), "mean": table.mean(0), "std": table.std(0)}
    summary |= {name: np.quantile(table, share, axis=0) for name, share in QUANTILES.items()}
    return {name: numbers.tolist() for name, numbers in summary.items()} | {"count": [len(table)]}


def _write_meta(folder: Path, recorded: Sequence[Recorded], tables: Sequence[Table], tasks: Sequence[str]) -> None:
    meta = folder / "meta"
    (meta / "episodes" / "chunk-000").mkdir(parents=True)
    pq.write_table(_tasks(tasks), meta / "tasks.parquet")
    whole = {name: statistics(np.concatenate([table[name] for table in tables])) for name in tables[0]}
    (meta / "stats.json").write_text(json.dumps(whole, indent=4) + "\n")
    rows = _episodes(recorded, tables)
    pq.write_table(pa.Table.from_pylist(rows), meta / "episodes" / "chunk-000" / "file-000.parquet")
    info = {
        "codebase_version": "v3.0",
        "robot_type": "panda",
        "total_episodes": len(recorded),
        "total_frames": sum(len(one.episode.qpos) for one in recorded),
        "total_tasks": len(tasks),
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 500,
        "fps": round(RATE_HZ),
        "splits": {"train": f"0:{len(recorded)}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "features": _features(),
    }
    (meta / "info.json").write_text(json.dumps(info, indent=4) + "\n")


def _tasks(tasks: Sequence[str]) -> pa.Table:
    """Task texts as pandas writes an index without a name."""
    index = "__index_level_0__"
    columns = [
        {"name": name, "field_name": field, "pandas_type": kind, "numpy_type": numpy, "metadata": None}
        for name, field, kind, numpy in (
            ("task_index", "task_index", "int64", "int64"),
            (None, index, "unicode", "object"),
        )
    ]
    pandas = {"index_columns": [index], "column_indexes": [], "columns": columns, "pandas_version": "2.2.0"}
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), index: pa.array(tasks, pa.string())})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def _episodes(recorded: Sequence[Recorded], tables: Sequence[Table]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    shown = 0
    for number, (one, table) in enumerate(zip(recorded, tables, strict=True)):
        steps = len(table["index"])
        shown = 0 if number % EPISODES_PER_VIDEO == 0 else shown
        row: dict[str, object] = {
            "episode_index": number,
            "tasks": [one.instruction or ""],
            "length": steps,
            "data/chunk_index": 0,
            "data/file_index": number // EPISODES_PER_DATA_FILE,
            "dataset_from_index": int(table["index"][0]),
            "dataset_to_index": int(table["index"][-1]) + 1,
        }
        for camera in CAMERAS:
            key = f"videos/observation.images.{camera}"
            row[f"{key}/chunk_index"] = 0
            row[f"{key}/file_index"] = number // EPISODES_PER_VIDEO
            row[f"{key}/from_timestamp"] = shown / RATE_HZ
            row[f"{key}/to_timestamp"] = (shown + steps) / RATE_HZ
        for name, values in table.items():
            row |= {f"stats/{name}/{kind}": numbers for kind, numbers in statistics(values).items()}
        row |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        rows.append(row)
        shown += steps
    return rows


def _features() -> dict[str, object]:
    features: dict[str, object] = {
        name: {"dtype": "float32", "names": names, "shape": [len(names)]} for name, names in VECTORS.items()
    }
    video = {
        "video.height": SIZE_PX,
        "video.width": SIZE_PX,
        "video.codec": "h264",
        "video.pix_fmt": "yuv420p",
        "video.is_depth_map": False,
        "video.fps": round(RATE_HZ),
        "video.channels": 3,
        "has_audio": False,
    }
    for camera in CAMERAS:
        features[f"observation.images.{camera}"] = {
            "dtype": "video",
            "shape": [SIZE_PX, SIZE_PX, 3],
            "names": ["height", "width", "channels"],
            "info": video,
        }
    features |= {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in SCALARS.items()}
    return features
