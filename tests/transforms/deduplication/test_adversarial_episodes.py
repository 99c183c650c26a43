"""What real sets are full of: one instruction for thousands, arms that rest, cameras that are black."""

from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline as Pipeline
from apache_beam.testing.util import assert_that, equal_to

from tests.encoded import write_frames
from tests.transforms.deduplication.test_deduplicator import shingle_files
from transforms.arrays import list_column
from transforms.deduplication.agreement import AgreementParams, frames_similarity, verify
from transforms.deduplication.deduplicator import DedupParams, GPUDeduplicator
from transforms.deduplication.fingerprint import FingerprintParams, fingerprint
from transforms.episode import Episode, VideoRef
from transforms.evidence import Fingerprint
from transforms.frames import FrameParams, look
from transforms.schema import JOINT_POSITION

PARAMS = FingerprintParams()
WAYS = 5


def reach(seed: int, steps: int = 100) -> np.ndarray:
    """(T, 7) rad through random way points."""
    ways = np.random.default_rng(seed).uniform(-1.2, 1.2, (WAYS + 1, 7))
    phase = np.linspace(0, WAYS, steps, endpoint=False)
    low = phase.astype(int)
    blend = (1 - np.cos(np.pi * (phase - low)))[:, None] / 2
    return ways[low] * (1 - blend) + ways[low + 1] * blend


def episode(name: str, joints: np.ndarray, text: str = "", video: Path | None = None) -> Fingerprint:
    columns = {JOINT_POSITION: list_column(joints)}
    if video is not None:
        columns["observation.images.top.pts_ns"] = pa.array(np.arange(len(joints)) * 50_000_000)
    one = Episode(
        name, "s", "arm", "", "lerobot", pa.RecordBatch.from_pydict(columns), instruction=text, content_id=name
    )
    if video is None:
        return fingerprint(one, PARAMS)
    end = (len(joints) - 1) * 50_000_000
    filmed = Episode(**{**vars(one), "videos": {"top": VideoRef(str(video), 0, end)}})
    seen = look(filmed, "not asked", lambda ref, places: [], FrameParams())
    return fingerprint(Episode(**{**vars(filmed), "frame_hashes": seen.hashes}), PARAMS)


def edges_of(folder: Path, found: list[Fingerprint], expected: list[tuple[str, str]]) -> None:
    with Pipeline(FnApiRunner()) as pipeline:
        paths = shingle_files(folder, found, 2)
        edges = pipeline | beam.Create(paths) | GPUDeduplicator(DedupParams())
        assert_that(edges | beam.Map(lambda edge: (edge.a, edge.b)), equal_to(expected))


def test_a_thousand_episodes_of_one_template_are_no_duplicates_and_one_copy_among_them_is(tmp_path):
    things = ("cube", "cup", "bowl", "brush")
    found = [episode(f"e/{i:04d}", reach(i), f"pick up the {things[i % 4]}") for i in range(1000)]
    found.append(episode("f/0000", reach(77)[2:-2], f"pick up the {things[77 % 4]}"))
    edges_of(tmp_path, found, [("e/0077", "f/0000")])


def test_arms_that_rest_or_hardly_move_link_nothing(tmp_path):
    noise = np.random.default_rng(1)
    still = [np.tile(reach(i)[:1], (100, 1)) for i in range(100)]
    found = [episode(f"still/{i:03d}", q, "wait") for i, q in enumerate(still)]
    found += [episode(f"same/{i:03d}", still[0], "wait") for i in range(100)]
    found += [episode(f"noisy/{i:03d}", still[0] + noise.normal(0, 1e-3, (100, 7)), "wait") for i in range(100)]
    assert not any(one.trajectory_shingles for one in found)
    edges_of(tmp_path, found, [])


def test_black_and_flat_cameras_abstain_and_noise_of_a_dark_sensor_too(tmp_path):
    rng = np.random.default_rng(2)
    black = [np.zeros((64, 64, 3), np.uint8)] * 100
    dark = [rng.integers(0, 6, (64, 64, 3)).astype(np.uint8) for _ in range(100)]
    bright = [np.full((64, 64, 3), 200, np.uint8)] * 100
    picture = [np.kron(rng.integers(30, 220, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)] * 100
    videos = {"black": black, "dark": dark, "bright": bright, "picture": picture}
    found = {
        name: episode(name, reach(1), "lift", write_frames(tmp_path / f"{name}.mp4", frames))
        for name, frames in videos.items()
    }
    assert [name for name, one in found.items() if one.frames] == ["picture"]
    params = AgreementParams()
    for name in ("black", "dark", "bright"):
        edge = verify(found[name], found["picture"], params)
        assert edge is not None and edge.similarity == 1.0 and edge.frames is None
    assert frames_similarity(found["black"].frames, found["dark"].frames, params) is None
