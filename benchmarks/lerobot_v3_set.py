"""A generated LeRobot v3 data set of any number of episodes, with known flaws, laid out as LeRobot does.

One row group per episode in data files; meta/episodes in row groups of 1,000, as conversion and aggregation write it
(a recorder flushes every 10), with statistics of every feature beside each episode; two cameras whose files hold many
episodes each.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

FPS = 20
JOINTS = 7
CAMERAS = ("observation.images.front", "observation.images.wrist")
VECTORS = ("action", "observation.state")
COUNTERS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
TASKS = tuple(f"put the {thing} into the {place}" for thing in ("cube", "cup", "spoon") for place in ("box", "sink"))
PER_DATA_FILE, PER_VIDEO_FILE, PER_META_FILE, PER_META_GROUP = 1000, 10_000, 10_000, 1000
SHORT_FRAMES = 3
STATISTICS = ("min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99")
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Truth:
    """What was planted: episodes of the absent data file, windows that end early, the file with a row too few."""

    episodes: int
    frames: int
    absent: int
    short: int
    file_short_of_a_row: str


def data_name(file: int) -> str:
    """A data file's place in the set."""
    return f"data/chunk-{file // 1000:03d}/file-{file % 1000:03d}.parquet"


def write_set(root: Path, episodes: int, seed: int, meta_group: int = PER_META_GROUP) -> Truth:
    """Write a set of at least 2,000 episodes of 20 to 79 rows; the last data file but one is left out.

    `meta_group` episodes share a row group of meta/episodes.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.integers(20, 80, episodes)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    files = -(-episodes // PER_DATA_FILE)
    absent = files - 2
    short = np.sort(rng.choice(episodes - 2 * PER_DATA_FILE, min(25, episodes // 100), replace=False))
    (root / "meta").mkdir(parents=True)
    for file in range(files):
        if file != absent:
            numbers = np.arange(file * PER_DATA_FILE, min(episodes, (file + 1) * PER_DATA_FILE))
            _data(root / data_name(file), numbers, lengths, starts, rng, cut=file == 0)
    ends = _videos(root, lengths)
    _meta(root, lengths, starts, ends, short, rng, meta_group)
    _info(root, episodes, int(lengths.sum()))
    missing = int((np.arange(episodes) // PER_DATA_FILE == absent).sum())
    return Truth(episodes, int(lengths.sum()), missing, len(short), data_name(0))


def _vector(rows: int, rng: np.random.Generator) -> pa.Array:
    walk = np.cumsum(rng.standard_normal((rows, JOINTS), dtype="f4") * np.float32(0.01), axis=0)
    return pa.FixedSizeListArray.from_arrays(pa.array(walk.ravel()), JOINTS)


def _data(path: Path, numbers: Ints, lengths: Ints, starts: Ints, rng: np.random.Generator, cut: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = None
    for number in numbers.tolist():
        rows = int(lengths[number]) - (cut and number == numbers[-1])
        frames = np.arange(rows)
        columns = {name: _vector(rows, rng) for name in VECTORS}
        columns |= {
            "timestamp": pa.array(frames.astype("f4") / np.float32(FPS)),
            "frame_index": pa.array(frames),
            "episode_index": pa.array(np.full(rows, number)),
            "index": pa.array(frames + starts[number]),
            "task_index": pa.array(np.full(rows, number % len(TASKS))),
        }
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _videos(root: Path, lengths: Ints) -> NDArray[np.float64]:
    """(E,) s at which each episode ends in its file; both cameras share the same bytes."""
    frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), format="rgb24")
    codec = av.CodecContext.create("mpeg4", "w")
    codec.width = codec.height = 32
    codec.pix_fmt, codec.time_base, codec.framerate = "yuv420p", Fraction(1, FPS), FPS
    picture = bytes(next(iter([*codec.encode(frame), *codec.encode(None)])))
    ends = np.zeros(len(lengths))
    for file, first in enumerate(range(0, len(lengths), PER_VIDEO_FILE)):
        held = lengths[first : first + PER_VIDEO_FILE]
        ends[first : first + len(held)] = np.cumsum(held) / FPS
        paths = [root / f"videos/{camera}/chunk-000/file-{file:03d}.mp4" for camera in CAMERAS]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(paths[0]), "w") as container:
            stream = container.add_stream("mpeg4", rate=FPS)
            stream.width = stream.height = 32
            stream.pix_fmt = "yuv420p"
            for index in range(int(held.sum())):
                packet = av.Packet(picture)
                packet.stream, packet.time_base = stream, Fraction(1, FPS)
                packet.pts = packet.dts = index
                packet.duration, packet.is_keyframe = 1, True
                container.mux(packet)
        os.link(paths[0], paths[1])
    return ends


def _statistics(rows: int, rng: np.random.Generator) -> dict[str, pa.Array]:
    """The columns `stats/FEATURE/NAME` of some episodes."""
    columns: dict[str, pa.Array] = {}
    for name, width in [*((v, JOINTS) for v in VECTORS), *((c, 1) for c in COUNTERS), *((c, 3) for c in CAMERAS)]:
        for statistic in STATISTICS:
            width = 1 if statistic == "count" else width
            values = pa.array(rng.random(rows * width) if statistic != "count" else np.full(rows, 50))
            offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * width)
            columns[f"stats/{name}/{statistic}"] = pa.ListArray.from_arrays(offsets, values)
    return columns


def _meta(
    root: Path,
    lengths: Ints,
    starts: Ints,
    ends: NDArray[np.float64],
    short: Ints,
    rng: np.random.Generator,
    meta_group: int,
) -> None:
    pq.write_table(
        pa.table({"task_index": np.arange(len(TASKS)), "__index_level_0__": list(TASKS)}), root / "meta/tasks.parquet"
    )
    numbers = np.arange(len(lengths))
    shown = ends.copy()
    shown[short] -= SHORT_FRAMES / FPS
    for part, first in enumerate(range(0, len(lengths), PER_META_FILE)):
        at = numbers[first : first + PER_META_FILE]
        columns: dict[str, Any] = {
            "episode_index": at,
            "tasks": pa.array([[TASKS[n % len(TASKS)]] for n in at.tolist()]),
            "length": lengths[at],
            "data/chunk_index": at // PER_DATA_FILE // 1000,
            "data/file_index": at // PER_DATA_FILE % 1000,
            "dataset_from_index": starts[at],
            "dataset_to_index": starts[at + 1],
        }
        for camera in CAMERAS:
            columns[f"videos/{camera}/chunk_index"] = np.zeros(len(at), np.int64)
            columns[f"videos/{camera}/file_index"] = at // PER_VIDEO_FILE
            columns[f"videos/{camera}/from_timestamp"] = ends[at] - lengths[at] / FPS
            columns[f"videos/{camera}/to_timestamp"] = (shown if camera == CAMERAS[0] else ends)[at]
        table = pa.table({**columns, **_statistics(len(at), rng)})
        path = root / f"meta/episodes/chunk-000/file-{part:03d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, row_group_size=meta_group)


def _feature(dtype: str, shape: Sequence[int], names: Sequence[str] | None = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "names": names}


def _info(root: Path, episodes: int, frames: int) -> None:
    """info.json, which says h264 of mpeg4 files and seven frames too many."""
    names = [f"joint_{i}.pos" for i in range(JOINTS)]
    features: dict[str, Any] = {name: _feature("float32", [JOINTS], names) for name in VECTORS}
    features |= {name: _feature("float32" if name == "timestamp" else "int64", [1]) for name in COUNTERS}
    for camera in CAMERAS:
        video = {"video.codec": "h264", "video.fps": FPS, "video.is_depth_map": False}
        features[camera] = {**_feature("video", [32, 32, 3], ["height", "width", "channels"]), "info": video}
    info = {
        "codebase_version": "v3.0",
        "robot_type": "generated",
        "total_episodes": episodes,
        "total_frames": frames + 7,
        "total_tasks": len(TASKS),
        "chunks_size": 1000,
        "fps": FPS,
        "splits": {"train": f"0:{episodes}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": features,
    }
    (root / "meta/info.json").write_text(json.dumps(info), encoding="utf-8")
