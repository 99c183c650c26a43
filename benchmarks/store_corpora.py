"""One large file of each format for the object stores' benchmark, and the bytes that each of its episodes takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.corpora import _scene
from benchmarks.mcap_corpus import write_mcap

SEED = 20261127
EPISODES = 50
FPS = 30
JOINTS = 7


@dataclass(frozen=True)
class LargeFile:
    """A source with one large file: `bytes_of` an episode by its number, and which episodes are read."""

    name: str
    folder: Path
    file: Path
    bytes_of: Mapping[int, int]
    read: Sequence[int]


def some(count: int) -> list[int]:
    """Every tenth episode from the fifth on: none beside another."""
    return list(range(5, count, 10)) or [0]


def hdf5(folder: Path, megabytes: float) -> LargeFile:
    """Isaac Lab demos with a camera, contiguous as its recorder writes them."""
    folder.mkdir(parents=True)
    path, rng = folder / "demos.hdf5", np.random.default_rng(SEED)
    rows = max(20, int(megabytes * 1e6 / EPISODES / (84 * 84 * 3)))
    held = {}
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        for number in range(EPISODES):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"], demo.attrs["success"] = rows, True
            demo["actions"] = rng.standard_normal((rows, JOINTS), np.float32)
            demo["obs/joint_pos"] = rng.standard_normal((rows, JOINTS), np.float32)
            demo["obs/table_cam"] = rng.integers(0, 256, (rows, 84, 84, 3), np.uint8)
            held[number] = sum(
                demo[name].id.get_storage_size() for name in ("actions", "obs/joint_pos", "obs/table_cam")
            )
        data.attrs["total"] = rows * EPISODES
    return LargeFile("HDF5", folder, path, held, some(EPISODES))


def _info(folder: Path, features: Mapping[str, object], frames: int, video: bool) -> None:
    said = {
        "codebase_version": "v3.0",
        "fps": FPS,
        "total_episodes": EPISODES,
        "total_frames": frames,
        "chunks_size": 1000,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4" if video else None,
        "features": features,
    }
    (folder / "meta").mkdir(parents=True, exist_ok=True)
    (folder / "meta/info.json").write_text(json.dumps(said), encoding="utf-8")
    tasks = pa.table({"task_index": [0], "task": ["stack the blocks"]})
    pq.write_table(tasks, folder / "meta/tasks.parquet")


def _set(folder: Path, rows: int, width: int, more: Mapping[str, Sequence[object]]) -> Path:
    """A v3 data file with a row group an episode; `more` are columns of the list of episodes."""
    path, rng = folder / "data/chunk-000/file-000.parquet", np.random.default_rng(SEED)
    path.parent.mkdir(parents=True)
    listed = folder / "meta/episodes/chunk-000/file-000.parquet"
    listed.parent.mkdir(parents=True)
    writer = None
    for number in range(EPISODES):
        index = np.arange(rows)
        state = pa.array(rng.standard_normal(rows * width, np.float32))
        table = pa.table(
            {
                "observation.state": pa.FixedSizeListArray.from_arrays(state, width),
                "timestamp": pa.array(index.astype("f4") / np.float32(FPS)),
                "frame_index": pa.array(index),
                "index": pa.array(index + number * rows),
                "episode_index": pa.array(np.full(rows, number)),
                "task_index": pa.array(np.zeros(rows, np.int64)),
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema, compression="snappy")
        writer.write_table(table)
    assert writer is not None
    writer.close()
    starts = np.arange(EPISODES) * rows
    columns = {
        "episode_index": np.arange(EPISODES),
        "tasks": [["stack the blocks"]] * EPISODES,
        "length": np.full(EPISODES, rows),
        "data/chunk_index": np.zeros(EPISODES, np.int64),
        "data/file_index": np.zeros(EPISODES, np.int64),
        "dataset_from_index": starts,
        "dataset_to_index": starts + rows,
        **more,
    }
    pq.write_table(pa.table(columns), listed)
    return path


def parquet(folder: Path, megabytes: float) -> LargeFile:
    """A LeRobot v3 set of one data file."""
    width = 256
    rows = max(20, int(megabytes * 1e6 / EPISODES / (4 * width)))
    path = _set(folder, rows, width, {})
    _info(folder, {"observation.state": {"dtype": "float32", "shape": [width]}}, rows * EPISODES, video=False)
    footer = pq.ParquetFile(path).metadata
    groups = (footer.row_group(number) for number in range(EPISODES))
    held = {
        number: sum(group.column(i).total_compressed_size for i in range(group.num_columns))
        for number, group in enumerate(groups)
    }
    return LargeFile("Parquet", folder, path, held, some(EPISODES))


def mcap(folder: Path, megabytes: float) -> LargeFile:
    """One bag of JointStates: a file is a recording, so all of it is read."""
    sample = write_mcap(folder / "sample", 0.001, chunks=1).files[0]
    chunks = max(1, int(megabytes * 1e6 / sample.stat().st_size))
    sample.unlink()
    sample.parent.rmdir()
    (path,) = write_mcap(folder / "bag", 0.001, chunks=chunks).files
    return LargeFile("MCAP", folder / "bag", path, {0: path.stat().st_size}, [0])


def mp4(folder: Path, megabytes: float) -> LargeFile:
    """A LeRobot v3 set whose one video holds all episodes: H.264 of 640x480, a keyframe every 50 frames."""
    path = folder / "videos/observation.images.front/chunk-000/file-000.mp4"
    path.parent.mkdir(parents=True)
    clip = folder / "clip.mp4"
    rng = np.random.default_rng(SEED)
    frames = 50
    options = {"preset": "ultrafast", "threads": "1", "g": str(frames), "sc_threshold": "0", "qp": "4"}
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for image in _scene(rng, 640, 480, frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    clips = max(1, round(megabytes * 1e6 / EPISODES / clip.stat().st_size))
    rows = clips * frames
    held: dict[int, int] = {}
    with av.open(str(clip)) as given, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(given.streams.video[0])
        packets = [packet for packet in given.demux(video=0) if packet.pts is not None]
        step = Fraction(1, FPS) / packets[0].time_base
        stored = [(bytes(packet), packet.pts, packet.dts, packet.is_keyframe, packet.time_base) for packet in packets]
        for episode in range(EPISODES):
            for number in range(clips):
                shift = int((episode * rows + number * frames) * step)
                for data, pts, dts, key, base in stored:
                    packet = av.Packet(data)
                    packet.stream, packet.time_base = stream, base
                    packet.pts, packet.dts, packet.is_keyframe = pts + shift, dts + shift, key
                    packet.duration = int(step)
                    container.mux(packet)
            held[episode] = clips * sum(len(data) for data, *_ in stored)
    clip.unlink()
    ends = [(number + 1) * rows / FPS for number in range(EPISODES)]
    camera = "videos/observation.images.front/"
    windows: dict[str, Sequence[object]] = {
        f"{camera}chunk_index": [0] * EPISODES,
        f"{camera}file_index": [0] * EPISODES,
        f"{camera}from_timestamp": [end - rows / FPS for end in ends],
        f"{camera}to_timestamp": ends,
    }
    _set(folder, rows, JOINTS, windows)
    shown = {"dtype": "video", "shape": [480, 640, 3], "names": ["height", "width", "channels"]}
    features = {"observation.state": {"dtype": "float32", "shape": [JOINTS]}, "observation.images.front": shown}
    _info(folder, features, rows * EPISODES, video=True)
    return LargeFile("mp4", folder, path, held, some(EPISODES))


CORPORA: Mapping[str, Callable[[Path, float], LargeFile]] = {
    "parquet": parquet,
    "mcap": mcap,
    "hdf5": hdf5,
    "mp4": mp4,
}
