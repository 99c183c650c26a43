"""Data sets of a chosen size, generated from committed seeds: what the readers' benchmark reads.

Every writer fills a folder with at least `megabytes` (1e6 bytes) and returns what it wrote. Values are noise, so that
no codec and no dictionary makes the files smaller than what they hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import av
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from transforms.sources.tf_example import encode_example
from transforms.sources.tfrecord import write_record

SEED = 2026
_CLIP_FRAMES = 150
Shapes = Mapping[str, tuple[int, ...]]

ROBOT: Shapes = {
    "observation/state": (14,),
    "observation/velocity": (14,),
    "observation/effort": (14,),
    "action": (14,),
}
TOUCH: Shapes = {"observation/wrench": (12,), "observation/tactile": (64,)}
ISAAC: Shapes = {
    "actions": (7,),
    "obs/actions": (7,),
    "obs/cube_orientations": (12,),
    "obs/cube_positions": (9,),
    "obs/eef_pos": (3,),
    "obs/eef_quat": (4,),
    "obs/gripper_pos": (2,),
    "obs/joint_pos": (9,),
    "obs/joint_vel": (9,),
    "obs/object": (39,),
    "states/articulation/robot/joint_position": (9,),
    "states/articulation/robot/joint_velocity": (9,),
    "states/articulation/robot/root_pose": (7,),
    "states/articulation/robot/root_velocity": (6,),
    **{f"states/rigid_object/cube_{i}/root_pose": (7,) for i in (1, 2, 3)},
    **{f"states/rigid_object/cube_{i}/root_velocity": (6,) for i in (1, 2, 3)},
}
"""What Isaac Lab's recorder writes of a Franka that stacks three cubes."""


@dataclass(frozen=True)
class Corpus:
    """Files of one data set with the episodes and steps (of videos: files and frames) that they hold."""

    folder: Path
    files: tuple[Path, ...]
    episodes: int
    steps: int

    @property
    def megabytes(self) -> float:
        """Size of the data files in 1e6 bytes."""
        return sum(path.stat().st_size for path in self.files) / 1e6


def _noise_image(rng: np.random.Generator, size: int) -> bytes:
    """Bytes that begin as a JPEG and are not decoded by either side."""
    return b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + rng.bytes(size)


def _rlds_features(shapes: Shapes, cameras: tuple[str, ...]) -> dict[str, object]:
    def tensor(shape: tuple[int, ...], dtype: str) -> dict[str, object]:
        return {"tensor": {"shape": {"dimensions": [str(s) for s in shape]}, "dtype": dtype, "encoding": "none"}}

    def node(children: dict[str, object]) -> dict[str, object]:
        return {"pythonClassName": "tensorflow_datasets.core.features", "featuresDict": {"features": children}}

    observation: dict[str, object] = {
        name.removeprefix("observation/"): tensor(shape, "float32")
        for name, shape in shapes.items()
        if name.startswith("observation/")
    }
    image = {"image": {"shape": {"dimensions": ["256", "256", "3"]}, "dtype": "uint8", "encodingFormat": "jpeg"}}
    observation |= dict.fromkeys(cameras, image)
    step: dict[str, object] = {name: tensor((), "bool") for name in ("is_first", "is_last", "is_terminal")}
    step |= {name: tensor((), "float32") for name in ("reward", "discount")}
    step |= {"action": tensor(shapes["action"], "float32"), "language_instruction": {"text": {}}}
    step["observation"] = node(observation)
    about = node({"file_path": {"text": {}}})
    return node({"steps": {"sequence": {"feature": node(step), "length": "-1"}}, "episode_metadata": about})


def write_rlds(folder: Path, megabytes: float, shapes: Shapes, cameras: tuple[str, ...], steps: int) -> Corpus:
    """A TFDS version's folder of 64 MB shards; `cameras` hold about 10 KB an image."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(SEED)
    (folder / "features.json").write_text(json.dumps(_rlds_features(shapes, cameras)))
    images = [_noise_image(rng, int(size)) for size in rng.integers(8_000, 12_000, 256)]
    names: list[Path] = []
    counts: list[int] = []
    total = written = rows = 0
    stream = None
    while total < megabytes * 1e6:
        if stream is None or written > 64e6:
            if stream is not None:
                stream.close()
            names.append(folder / f"part{len(names):05d}")
            counts.append(0)
            written, stream = 0, names[-1].open("wb")
        count = int(rng.integers(steps * 3 // 4, steps * 5 // 4))
        features: dict[str, list[bytes] | NDArray[np.generic]] = {
            f"steps/{name}": rng.standard_normal((count, *shape), np.float32) for name, shape in shapes.items()
        }
        features |= {"steps/reward": np.zeros(count, np.float32), "steps/discount": np.ones(count, np.float32)}
        index = np.arange(count)
        for flag, at in (("is_first", 0), ("is_last", count - 1), ("is_terminal", count - 1)):
            features[f"steps/{flag}"] = (index == at).astype(np.int64)
        features["episode_metadata/file_path"] = [f"raw/{sum(counts):06d}.h5".encode()]
        features["steps/language_instruction"] = [f"stack block {len(counts)} on the tray".encode()] * count
        for camera in cameras:
            features[f"steps/observation/{camera}"] = [images[i] for i in rng.integers(0, len(images), count)]
        size = write_record(stream, encode_example(features))
        counts[-1] += 1
        total, written, rows = total + size, written + size, rows + count
    if stream is not None:
        stream.close()
    files = [folder / f"noise-train.tfrecord-{i:05d}-of-{len(names):05d}" for i in range(len(names))]
    for name, file in zip(names, files, strict=True):
        name.rename(file)
    split = {"name": "train", "shardLengths": [str(count) for count in counts]}
    info = {"name": "noise", "version": "1.0.0", "fileFormat": "tfrecord", "splits": [split]}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return Corpus(folder, tuple(files), sum(counts), rows)


def _lerobot_info(shapes: Shapes, episodes: int, frames: int) -> dict[str, object]:
    scalar = {
        name: {"dtype": "int64", "shape": [1]} for name in ("frame_index", "episode_index", "index", "task_index")
    }
    return {
        "codebase_version": "v3.0",
        "robot_type": "noise",
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": 1,
        "fps": 50,
        "splits": {"train": f"0:{episodes}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "features": {
            **{name: {"dtype": "float32", "shape": list(shape)} for name, shape in shapes.items()},
            "timestamp": {"dtype": "float32", "shape": [1]},
            **scalar,
        },
    }


def _lerobot_rows(rng: np.random.Generator, shapes: Shapes, episode: int, first: int, count: int) -> pa.Table:
    index = np.arange(count)
    columns: dict[str, pa.Array] = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(rng.standard_normal(count * shape[0], np.float32)), shape[0])
        for name, shape in shapes.items()
    }
    columns["timestamp"] = pa.array(index.astype(np.float32) / np.float32(50))
    for name, values in (("frame_index", index), ("index", index + first)):
        columns[name] = pa.array(values)
    columns["episode_index"] = pa.array(np.full(count, episode))
    columns["task_index"] = pa.array(np.zeros(count, np.int64))
    return pa.table(columns)


def write_lerobot(folder: Path, megabytes: float, group_per_episode: bool) -> Corpus:
    """A v3.0 folder of 100 MB files, 500 rows an episode, written with LeRobot's own Parquet settings.

    LeRobot's recorder writes a row group an episode; its conversion from v2.1 one row group a file.
    """
    (folder / "meta/episodes/chunk-000").mkdir(parents=True)
    (folder / "data/chunk-000").mkdir(parents=True)
    rng = np.random.default_rng(SEED)
    shapes = {name.replace("/", "."): shape for name, shape in ROBOT.items()}
    files: list[Path] = []
    lengths: list[tuple[int, int]] = []
    total = first = 0
    while total < megabytes * 1e6:
        files.append(folder / f"data/chunk-000/file-{len(files):03d}.parquet")
        parts: list[pa.Table] = []
        size = 0
        while size < min(100e6, megabytes * 1e6 - total + 1e6):
            count = int(rng.integers(400, 600))
            parts.append(_lerobot_rows(rng, shapes, len(lengths), first, count))
            lengths.append((len(files) - 1, count))
            first, size = first + count, size + parts[-1].nbytes
        with pq.ParquetWriter(files[-1], parts[0].schema, compression="snappy", use_dictionary=True) as writer:
            for part in parts if group_per_episode else [pa.concat_tables(parts)]:
                writer.write_table(part)
        total += files[-1].stat().st_size
    counts = np.array([count for _, count in lengths])
    ends = np.cumsum(counts)
    pq.write_table(
        pa.table(
            {
                "episode_index": np.arange(len(lengths)),
                "tasks": [["stack the blocks"]] * len(lengths),
                "length": counts,
                "data/chunk_index": np.zeros(len(lengths), np.int64),
                "data/file_index": np.array([file for file, _ in lengths]),
                "dataset_from_index": ends - counts,
                "dataset_to_index": ends,
            }
        ),
        folder / "meta/episodes/chunk-000/file-000.parquet",
    )
    pq.write_table(pa.table({"task_index": [0], "task": ["stack the blocks"]}), folder / "meta/tasks.parquet")
    (folder / "meta/info.json").write_text(json.dumps(_lerobot_info(shapes, len(lengths), first)))
    return Corpus(folder, tuple(files), len(lengths), first)


def write_isaac(folder: Path, megabytes: float, cameras: tuple[str, ...]) -> Corpus:
    """Files of 50 demos with the datasets of Isaac Lab's recorder, contiguous; `cameras` are (T, 84, 84, 3) u8."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(SEED)
    files: list[Path] = []
    total = demos = rows = 0
    while total < megabytes * 1e6:
        files.append(folder / f"demos{len(files):03d}.hdf5")
        with h5py.File(files[-1], "w") as file:
            data, in_file = file.create_group("data"), 0
            for index in range(50):
                demo, count = data.create_group(f"demo_{index}"), int(rng.integers(200, 240))
                demo.attrs["num_samples"], demo.attrs["success"] = count, True
                size = 0
                for name, shape in ISAAC.items():
                    values = rng.standard_normal((count, *shape), np.float32)
                    demo[name], size = values, size + values.nbytes
                for camera in cameras:
                    pixels = rng.integers(0, 256, (count, 84, 84, 3), np.uint8)
                    demo[f"obs/{camera}"], size = pixels, size + pixels.nbytes
                demos, rows, in_file, total = demos + 1, rows + count, in_file + count, total + size
                if total >= megabytes * 1e6:
                    break
            data.attrs["total"] = in_file
    return Corpus(folder, tuple(files), demos, rows)


def _scene(rng: np.random.Generator, width: int, height: int, frames: int) -> Iterator[NDArray[np.uint8]]:
    """A textured ground with sensor noise under a moving square, RGB."""
    coarse = rng.integers(40, 210, (height // 16, width // 16, 3))
    ground = np.kron(coarse, np.ones((16, 16, 1))).astype(np.uint8)
    noise = rng.integers(0, 12, (8, height, width, 1), np.uint8)
    for index in range(frames):
        image = ground + noise[index % 8]
        left = (4 * index) % (width - 64)
        image[64:128, left : left + 64] = (250, 20, 20)
        yield image


def write_videos(folder: Path, megabytes: float, clips: int = 4) -> Corpus:
    """640x480 H.264 of 150 frames at 30 Hz and about 6 Mbit/s, distinct clips repeated until the size is reached."""
    folder.mkdir(parents=True)
    files: list[Path] = []
    total = frames = 0
    while total < megabytes * 1e6:
        files.append(folder / f"clip{len(files):05d}.mp4")
        if len(files) > clips:
            files[-1].write_bytes(files[len(files) - 1 - clips].read_bytes())
        else:
            rng = np.random.default_rng([SEED, len(files)])
            with av.open(str(files[-1]), "w") as container:
                stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "threads": "1"})
                stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 640, 480, "yuv420p", 6_000_000
                for image in _scene(rng, 640, 480, _CLIP_FRAMES):
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
                container.mux(stream.encode())
        total, frames = total + files[-1].stat().st_size, frames + _CLIP_FRAMES
    return Corpus(folder, tuple(files), len(files), frames)
