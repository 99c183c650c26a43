"""Exports of a curated folder: episodes a second and peak memory, beside a plain copy of its video files.

    python -m benchmarks.export [--episodes 300] [--steps 60] [--json FILE] [--check]

The set is a generated LeRobot v2.1 one with two cameras, a file an episode and camera; each export is a process of its
own, watched (PSS of it and its children, every 50 ms), and starting Python is part of its time.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import Report, Row, finish, package_versions, parser
from benchmarks.memory import watched

SEED, FPS, JOINTS, SIDE_PX = 2026, 20, 7, 128
CAMERAS = ("observation.images.front", "observation.images.wrist")
DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
ARMS: dict[str, Sequence[str]] = {
    "lerobot-v3, copy": ("lerobot-v3", "--videos", "copy"),
    "lerobot-v3, remux": ("lerobot-v3", "--videos", "remux"),
    "rlds, without videos": ("rlds",),
    "keep-list": ("keep-list",),
}


def write_video(path: Path, steps: int, rng: np.random.Generator) -> None:
    """A square that wanders over a textured ground, all of it drawn from `rng`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ground = np.kron(rng.integers(40, 200, (16, 16, 3)), np.ones((SIDE_PX // 16, SIDE_PX // 16, 1))).astype(np.uint8)
    places = np.clip(np.cumsum(rng.integers(-4, 5, (steps, 2)), axis=0) + SIDE_PX // 2, 0, SIDE_PX - 24)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "g": "20"})
        stream.width = stream.height = SIDE_PX
        stream.pix_fmt = "yuv420p"
        for top, left in places:
            picture = ground.copy()
            picture[top : top + 24, left : left + 24] = (250, 20, 20)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def write_set(root: Path, episodes: int, steps: int) -> None:
    """A LeRobot v2.1 set of distinct episodes."""
    rng = np.random.default_rng(SEED)
    (root / "meta").mkdir(parents=True)
    for number in range(episodes):
        place = {"episode_chunk": number // 1000, "episode_index": number}
        path = root / DATA.format(**place)
        path.parent.mkdir(parents=True, exist_ok=True)
        q = np.cumsum(rng.standard_normal((steps, JOINTS), dtype="f4") * np.float32(0.02), axis=0)
        vector = pa.FixedSizeListArray.from_arrays(pa.array(q.ravel()), JOINTS)
        counters = {
            "timestamp": pa.array(np.arange(steps, dtype="f4") / np.float32(FPS)),
            "frame_index": pa.array(np.arange(steps)),
            "episode_index": pa.array(np.full(steps, number)),
            "index": pa.array(np.arange(number * steps, (number + 1) * steps)),
            "task_index": pa.array(np.zeros(steps, np.int64)),
        }
        pq.write_table(pa.table({"observation.state": vector, "action": vector, **counters}), path)
        for camera in CAMERAS:
            write_video(root / VIDEO.format(**place, video_key=camera), steps, rng)
    features: dict[str, dict[str, object]] = {
        name: {"dtype": "float32", "shape": [JOINTS], "names": None} for name in ("observation.state", "action")
    }
    features["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
    for name in ("frame_index", "episode_index", "index", "task_index"):
        features[name] = {"dtype": "int64", "shape": [1], "names": None}
    for camera in CAMERAS:
        features[camera] = {"dtype": "video", "shape": [SIDE_PX, SIDE_PX, 3], "names": None}
    info = {
        "codebase_version": "v2.1",
        "robot_type": "generated",
        "total_episodes": episodes,
        "total_frames": episodes * steps,
        "total_tasks": 1,
        "total_videos": episodes * len(CAMERAS),
        "chunks_size": 1000,
        "fps": FPS,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA,
        "video_path": VIDEO,
        "features": features,
    }
    (root / "meta/info.json").write_text(json.dumps(info), encoding="utf-8")
    (root / "meta/tasks.jsonl").write_text('{"task_index": 0, "task": "follow the square"}\n', encoding="utf-8")
    lines = [json.dumps({"episode_index": i, "tasks": ["follow the square"], "length": steps}) for i in range(episodes)]
    (root / "meta/episodes.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> int:
    """Generate, curate, export, print."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--episodes", type=int, default=300)
    arguments.add_argument("--steps", type=int, default=60, help="of each episode")
    options = arguments.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder, curated = Path(name), Path(name) / "curated"
        write_set(folder / "set", options.episodes, options.steps)
        command = [sys.executable, "-m", "beam_pipeline"]
        subprocess.run([*command, "curate", str(folder / "set"), "--output", str(curated)], check=True)
        videos = sorted((curated / "videos").iterdir())
        size_mb = sum(file.stat().st_size for file in videos) / 1e6
        started = time.monotonic()
        shutil.copytree(curated / "videos", folder / "plain")
        copied_s = time.monotonic() - started
        about = f"{len(videos)} files, {size_mb:.1f} MB, of {options.episodes} episodes of {options.steps} steps"
        rows.append(Row("plain copy of the videos", copied_s, "s", about))
        for arm, words in ARMS.items():
            target = folder / arm.replace(", ", "-").replace(" ", "-")
            export = [*command, "export", "--format", *words, "--output", str(target), str(curated)]
            peak_mb, wall_s = watched(export)
            rows.append(Row(arm, options.episodes / wall_s, "episodes/s", f"{wall_s:.2f} s"))
            rows.append(Row(f"{arm}: peak PSS", peak_mb, "MB"))
    versions = package_versions("pyarrow", "av", "numpy")
    return finish(Report("Exports of a curated folder", rows, versions=versions), options.json, options.check)


if __name__ == "__main__":
    sys.exit(main())
