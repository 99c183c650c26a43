"""Small whole episodes for the tests of the output: two robots, one with images, one with a video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from shutil import rmtree

import numpy as np
import pyarrow as pa
from PIL import Image

from transforms.arrays import list_column
from transforms.deduplication.fingerprint import FingerprintParams
from transforms.episode import CameraModel, Episode, Finding, ImageRef, VideoRef
from transforms.evidence import Evidence
from transforms.file_hash import file_hash
from transforms.measured import STORE, Measured, StoredFile, load_measured, write_part
from transforms.output_files import OUT
from transforms.staging import StageEpisode
from transforms.transition_alignment import TransitionAlignmentParams, align_transitions

STEP_NS = 100_000_000


def read_images(ref: ImageRef, indices: Sequence[int]) -> list[bytes]:
    """A 4 x 4 PNG per index, grey by index: stands in for a container file."""
    out = []
    for index in indices:
        file = BytesIO()
        Image.new("L", (4, 4), index).save(file, "PNG")
        out.append(file.getvalue())
    return out


def video_file(folder: Path) -> Path:
    """A file that is copied, never decoded."""
    path = folder / "front.mp4"
    path.write_bytes(bytes(range(256)) * 40)
    return path


def image_episode(source: str, index: int, steps: int = 5) -> Episode:
    """An episode of a six-joint arm, state float32, a wrist camera of images, one state of two."""
    state = (np.arange(steps * 6).reshape(steps, 6) / 8 + index).astype(np.float32)
    batch = pa.RecordBatch.from_pydict(
        {
            "timestamp_ns": pa.array(np.arange(steps) * STEP_NS),
            "frame_index": pa.array(np.arange(steps) + 100),
            "observation.state": list_column(state),
            "action": list_column(state * 2),
            "reward": pa.array(np.arange(steps, dtype=np.float32)),
            "gripper": pa.array(np.ones(steps, np.float32)),
            "observation.images.wrist.index": pa.array([*range(steps - 2), None, steps - 1], pa.int64()),
        }
    )
    episode = Episode(
        episode_id=f"{source}/train/{index:06d}",
        source=source,
        embodiment="arm",
        uri=f"/raw/{source}/shard-{index}.h5",
        format="isaac_hdf5",
        steps=batch,
        start_ns=0,
        end_ns=(steps - 1) * STEP_NS,
        videos={"wrist": ImageRef("shard.h5", "wrist", steps, "ab", n_bytes=70 * steps)},
        cameras={"wrist": CameraModel(4, 4)},
        instruction="pick the cube",
        instruction_status="matched",
        attributes={"task": '"cube"'},
        conventions={"urdf": "/robots/arm.urdf", "joint_unit": "rad"},
        success=True,
        findings=(Finding("quality", "quality.sparc", -1.5 - index), Finding("physics", "physics.limits", None)),
    )
    return align_transitions(episode, TransitionAlignmentParams())


def video_episode(source: str, index: int, video: Path, steps: int = 4) -> Episode:
    """An episode of another arm: seven joints, float64, a gripper of two fingers, a front camera in a video."""
    state = np.arange(steps * 7).reshape(steps, 7) / 4 + index
    batch = pa.RecordBatch.from_pydict(
        {
            "timestamp_ns": pa.array(np.arange(steps) * STEP_NS),
            "observation.state": list_column(state),
            "action": list_column(state),
            "gripper": list_column(np.ones((steps, 2))),
            "observation.images.front.pts_ns": pa.array(np.arange(steps) * STEP_NS + 2_000_000_000),
        }
    )
    ref = VideoRef(str(video), 2_000_000_000, 2_000_000_000 + steps * STEP_NS, 0, file_hash(video))
    episode = Episode(
        episode_id=f"{source}/{index:06d}",
        source=source,
        embodiment="other",
        uri=str(video),
        format="lerobot",
        steps=batch,
        start_ns=0,
        end_ns=(steps - 1) * STEP_NS,
        videos={"front": ref},
    )
    return align_transitions(episode, TransitionAlignmentParams())


def staged(staging: Path, episodes: Sequence[Episode]) -> list[Evidence]:
    """Stage the episodes; what was measured of each."""
    stage = StageEpisode(str(staging), FingerprintParams())
    return [evidence for episode in episodes for evidence in stage.process_element(episode)]


def stored(staging: Path, evidence: Sequence[Evidence], roots: Mapping[str, str]) -> Measured:
    """The same as stored evidence, read back."""
    files = []
    for source in sorted({one.source for one in evidence}):
        own = [one for one in evidence if one.source == source]
        for report in write_part(staging, source, 0, own, roots.get(source, "")):
            files.append(StoredFile(source, staging / OUT / report.path))
    measured = load_measured(files)
    rmtree(staging / OUT / STORE, ignore_errors=True)
    return measured
