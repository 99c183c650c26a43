"""Small real datasets written without any code of the project, so that tests compare with an independent reading."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import google_crc32c
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]


def motion(seed: int, steps: int = 40, joints: int = 7) -> Floats:
    """(steps, joints) rad: a smooth, slow, distinct movement around the Panda's middle pose."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 1, steps)[:, None]
    middle = np.array([0.0, -0.4, 0.0, -2.0, 0.0, 2.0, 0.8])[:joints]
    waves = sum(
        rng.uniform(-0.15, 0.15, joints) * np.sin(np.pi * k * time + rng.uniform(0, 6, joints)) for k in (1, 2, 3)
    )
    return (middle + waves).astype("<f4")


def _example_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="oracle", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, int, int, str]) -> Any:
        added = file.message_type.add(name=name)
        for field, number, kind, label, type_name in fields:
            new = added.field.add(name=field, number=number, type=kind, label=label)
            if type_name:
                new.type_name = type_name
        return added

    message("Bytes", ("value", 1, 12, 3, ""))
    message("Floats", ("value", 1, 2, 3, ""))
    message("Ints", ("value", 1, 3, 3, ""))
    message(
        "Feature",
        ("bytes_list", 1, 11, 1, ".oracle.Bytes"),
        ("float_list", 2, 11, 1, ".oracle.Floats"),
        ("int64_list", 3, 11, 1, ".oracle.Ints"),
    )
    features = message("Features")
    entry = features.nested_type.add(name="Entry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=9, label=1)
    entry.field.add(name="value", number=2, type=11, label=1).type_name = ".oracle.Feature"
    features.field.add(name="feature", number=1, type=11, label=3).type_name = ".oracle.Features.Entry"
    message("Example", ("features", 1, 11, 1, ".oracle.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("oracle.Example"))


EXAMPLE = _example_class()


def masked_crc(data: bytes) -> int:
    """TFRecord's masked crc32c."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frame(payload: bytes) -> bytes:
    """One TFRecord."""
    length = struct.pack("<Q", len(payload))
    return length + struct.pack("<I", masked_crc(length)) + payload + struct.pack("<I", masked_crc(payload))


def jpeg(seed: int, size: int = 32) -> bytes:
    """A structured image as JPEG bytes."""
    rng = np.random.default_rng(seed)
    pixels = np.kron(rng.integers(40, 220, (4, 4, 3)), np.ones((size // 4, size // 4, 1))).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG")
    return out.getvalue()


def rlds_example(
    seed: int, steps: int = 40, instruction: str = "pick up the cube", states: Floats | None = None
) -> bytes:
    """A serialised episode with state (8), action (7), one camera and RLDS flags."""
    q = motion(seed, steps) if states is None else states
    count = len(q)
    example = EXAMPLE()
    feature = example.features.feature
    gripper = np.linspace(1, 0, count, dtype="f4")[:, None]
    feature["steps/observation/state"].float_list.value.extend(np.hstack([q, gripper]).ravel().tolist())
    feature["steps/action"].float_list.value.extend(q.ravel().tolist())
    feature["steps/reward"].float_list.value.extend([0.0] * (count - 1) + [1.0] * min(1, count))
    feature["steps/discount"].float_list.value.extend([1.0] * count)
    flags = {"is_first": 0, "is_last": count - 1, "is_terminal": count - 1}
    for name, at in flags.items():
        feature[f"steps/{name}"].int64_list.value.extend(int(i == at) for i in range(count))
    feature["steps/language_instruction"].bytes_list.value.extend([instruction.encode()] * count)
    feature["steps/observation/image"].bytes_list.value.extend(jpeg(1000 * seed + i) for i in range(count))
    return bytes(example.SerializeToString(deterministic=True))


def _tensor(shape: Sequence[int], dtype: str) -> dict[str, Any]:
    return {
        "pythonClassName": "tensorflow_datasets.core.features.tensor_feature.Tensor",
        "tensor": {"shape": {"dimensions": [str(s) for s in shape]}, "dtype": dtype, "encoding": "none"},
    }


def _features(children: dict[str, Any]) -> dict[str, Any]:
    return {
        "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
        "featuresDict": {"features": children},
    }


def write_rlds(folder: Path, shards: Sequence[Sequence[bytes]], declared: Sequence[int] | None = None) -> list[Path]:
    """A dataset version folder: shards of serialised examples with the metadata that TFDS writes."""
    folder.mkdir(parents=True)
    image = {
        "pythonClassName": "tensorflow_datasets.core.features.image_feature.Image",
        "image": {"shape": {"dimensions": ["32", "32", "3"]}, "dtype": "uint8", "encodingFormat": "jpeg"},
    }
    text = {"pythonClassName": "tensorflow_datasets.core.features.text_feature.Text", "text": {}}
    step = {name: _tensor((), "bool") for name in ("is_first", "is_last", "is_terminal")}
    step |= {name: _tensor((), "float32") for name in ("reward", "discount")}
    step |= {"action": _tensor((7,), "float32"), "language_instruction": text}
    step["observation"] = _features({"state": _tensor((8,), "float32"), "image": image})
    dataset = {
        "pythonClassName": "tensorflow_datasets.core.features.dataset_feature.Dataset",
        "sequence": {"feature": _features(step), "length": "-1"},
    }
    (folder / "features.json").write_text(json.dumps(_features({"steps": dataset})))
    lengths = [str(n) for n in (declared or [len(s) for s in shards])]
    split = {"name": "train", "shardLengths": lengths, "numBytes": "0"}
    split["filepathTemplate"] = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    info = {"name": "toy", "version": "1.0.0", "fileFormat": "tfrecord", "splits": [split]}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    paths = []
    for index, shard in enumerate(shards):
        path = folder / f"toy-train.tfrecord-{index:05d}-of-{len(shards):05d}"
        path.write_bytes(b"".join(frame(example) for example in shard))
        paths.append(path)
    return paths


def write_isaac(path: Path, demos: dict[int, Floats], quaternion: Sequence[float] = (1, 0, 0, 0)) -> None:
    """An Isaac Lab recorder file; each demo's (T, 7) joint positions gain two fingers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = sum(len(q) for q in demos.values())
        data.attrs["env_args"] = json.dumps({"env_name": "Toy-Franka-v0", "type": 2})
        for number, q in demos.items():
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = len(q)
            demo.attrs["success"] = True
            fingers = np.repeat(np.linspace(0.04, 0.0, len(q), dtype="f4")[:, None], 2, axis=1)
            joints = np.hstack([q, fingers]).astype("f4")
            demo["actions"] = np.hstack([q, fingers[:, :1]]).astype("f4")
            demo["obs/joint_pos"] = joints - joints[:1]
            demo["obs/eef_pos"] = np.cumsum(q[:, :3], axis=0).astype("f4") * 0.01
            demo["obs/eef_quat"] = np.tile(np.asarray(quaternion, "f4"), (len(q), 1))
            robot = "states/articulation/robot"
            demo[f"{robot}/joint_position"] = joints
            demo[f"{robot}/joint_velocity"] = (
                np.gradient(joints, axis=0).astype("f4") * 20 if len(q) > 1 else joints * 0
            )
            demo[f"{robot}/root_pose"] = np.tile(np.array([0, 0, 0, 1, 0, 0, 0], "f4"), (len(q), 1))


def write_video(
    path: Path, frames: int, fps: int = 20, size: int = 64, seed: int = 0, frozen_from: int | None = None
) -> None:
    """An mp4 of a moving square on a textured ground."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    ground = np.kron(rng.integers(60, 200, (8, 8, 3)), np.ones((size // 8, size // 8, 1))).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            shown = index if frozen_from is None else min(index, frozen_from)
            image = ground.copy()
            left = (3 * shown) % (size - 16)
            image[20:36, left : left + 16] = (250, 20, 20)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def write_lerobot_v21(
    folder: Path,
    episodes: dict[int, Floats],
    fps: int = 20,
    video: bool = True,
    listed: int | None = None,
    task: str = "push the block to the left",
) -> None:
    """A LeRobot v2.1 folder; `listed` episodes are declared, those of `episodes` are on disk."""
    (folder / "meta").mkdir(parents=True)
    (folder / "data/chunk-000").mkdir(parents=True)
    count = listed if listed is not None else len(episodes)
    vector = {"dtype": "float32", "names": None}
    features: dict[str, Any] = {
        "observation.state": {**vector, "shape": [7]},
        "action": {**vector, "shape": [7]},
        "timestamp": {**vector, "shape": [1]},
    }
    features |= {
        n: {"dtype": "int64", "shape": [1], "names": None}
        for n in ("frame_index", "episode_index", "index", "task_index")
    }
    if video:
        info = {"video.height": 64, "video.width": 64, "video.codec": "mpeg4", "video.fps": fps}
        features["observation.images.front"] = {"dtype": "video", "shape": [64, 64, 3], "names": None, "info": info}
    lengths = {i: len(episodes.get(i, np.zeros((30, 7)))) for i in range(count)}
    meta = {
        "codebase_version": "v2.1",
        "robot_type": "toy",
        "total_episodes": count,
        "total_frames": sum(lengths.values()),
        "total_tasks": 1,
        "total_videos": count if video else 0,
        "total_chunks": 1,
        "chunks_size": 1000,
        "fps": fps,
        "splits": {"train": f"0:{count}"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": features,
    }
    (folder / "meta/info.json").write_text(json.dumps(meta))
    (folder / "meta/tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": task}) + "\n")
    lines = [json.dumps({"episode_index": i, "tasks": [task], "length": n}) for i, n in lengths.items()]
    (folder / "meta/episodes.jsonl").write_text("\n".join(lines) + "\n")
    start = 0
    for index, q in sorted(episodes.items()):
        write_lerobot_episode(folder / f"data/chunk-000/episode_{index:06d}.parquet", index, q, start, fps)
        start += len(q)
        if video:
            path = folder / f"videos/chunk-000/observation.images.front/episode_{index:06d}.mp4"
            write_video(path, len(q), fps, seed=index)


def write_lerobot_episode(path: Path, index: int, q: Floats, start: int, fps: int) -> None:
    """One episode's Parquet file."""
    count = len(q)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(q.ravel(), pa.float32()), 7)
    columns = {
        "observation.state": flat,
        "action": flat,
        "timestamp": pa.array(np.arange(count, dtype="f4") / np.float32(fps), pa.float32()),
        "frame_index": pa.array(np.arange(count)),
        "episode_index": pa.array(np.full(count, index)),
        "index": pa.array(np.arange(start, start + count)),
        "task_index": pa.array(np.zeros(count, np.int64)),
    }
    pq.write_table(pa.table(columns), path)
