"""Which frames are chosen, how they flow into the model, and what is stored of it."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline as Pipeline
from apache_beam.testing.util import assert_that, equal_to

from tests.factories import write_video
from transforms.coders import from_json
from transforms.decode_frames import FrameRequest
from transforms.embeddings import (
    FRAMES,
    BlockKey,
    EmbeddingParams,
    EmbedEpisodes,
    EmbedFrames,
    FrameEmbeddingParams,
    TextEmbeddingParams,
    chosen_steps,
    frame_requests,
)
from transforms.episode import Episode, VideoRef
from transforms.handlers.blocks import Embedded
from transforms.loader import read_images
from transforms.stored_embeddings import SCHEMA, StoreEmbeddings, embeddings_part


def episode(path: Path, name: str = "toy/0", steps: int = 40, gaps: tuple[int, ...] = ()) -> Episode:
    """An episode of one camera at 20 Hz; steps in `gaps` show no frame."""
    stamps = [None if i in gaps else i * 50_000_000 for i in range(steps)]
    columns = {
        "timestamp_ns": pa.array([i * 50_000_000 for i in range(steps)], pa.int64()),
        "observation.images.front.pts_ns": pa.array(stamps, pa.int64()),
    }
    video = VideoRef(str(path), 0, steps * 50_000_000)
    return Episode(
        name,
        "toy",
        "",
        str(path),
        "video",
        pa.RecordBatch.from_pydict(columns),
        videos={"front": video},
        instruction="go",
    )


def test_steps_are_the_middles_of_equal_parts() -> None:
    four = FrameEmbeddingParams(frames_per_episode=4)
    assert chosen_steps(40, 2.0, four) == [5, 15, 25, 35] and chosen_steps(3, None, four) == [0, 1, 2]
    assert chosen_steps(40, 1.95, FrameEmbeddingParams(rate_hz=2.0)) == [5, 15, 25, 35]
    assert chosen_steps(40, None, FrameEmbeddingParams(rate_hz=2.0)) == chosen_steps(40, None, FrameEmbeddingParams())
    assert chosen_steps(1, 0.0, four) == [0]


def test_requests_name_the_frames_that_are_shown(tmp_path: Path) -> None:
    params = FrameEmbeddingParams(frames_per_episode=4, batch_rows=3)
    first, second = frame_requests(episode(tmp_path, gaps=tuple(range(20))), params)
    assert first.steps == (22, 27, 32) and second.steps == (37,), "steps 0 to 19 have no frame"
    assert first.at == (1_100_000_000, 1_350_000_000, 1_600_000_000)
    assert from_json(second.key, BlockKey) == BlockKey("toy", "toy/0", FRAMES, "front", 1)
    assert first.ids == ("00000022", "00000027", "00000032")
    named = FrameEmbeddingParams(cameras=("wrist",))
    assert not list(frame_requests(episode(tmp_path), named)), "the camera is not there"


def rows_of(found: Embedded) -> tuple[str, tuple[str, ...], str, str]:
    key = from_json(found.key, BlockKey)
    return key.episode_id, found.ids, found.codes.tobytes().hex(), "".join(f.error for f in found.failures)


def test_frames_flow_through_decoding_and_inference_alike_in_any_order(tmp_path: Path) -> None:
    episodes = []
    for index in range(6):
        path = tmp_path / f"{index}.mp4"
        write_video(path, 40, seed=index) if index != 3 else path.write_bytes(b"not a video")
        episodes.append(episode(path, f"toy/{index}"))
    params = FrameEmbeddingParams(frames_per_episode=4)
    expected: list[tuple[str, tuple[str, ...], str, str]] = []
    for order in (episodes, episodes[::-1]):
        requests = [request for one in order for request in frame_requests(one, params)]
        with Pipeline(FnApiRunner()) as pipeline:
            found = (
                pipeline
                | beam.Create(requests).with_output_types(FrameRequest)
                | EmbedFrames(params, read_images)
                | beam.Map(rows_of)
            )
            if not expected:
                from transforms.decode_frames import read_frames
                from transforms.handlers.embedding import embed
                from transforms.handlers.frame_embedding import DescriptorEncoder

                for request in requests:
                    if "/3" in request.key:
                        expected.append(("toy/3", (), "", "wrong_format" * 4))
                    else:
                        expected.append(rows_of(embed(read_frames(request, 224, read_images), DescriptorEncoder(), 32)))
            assert_that(found, equal_to(expected))
    assert len({row[2] for row in expected}) == 6, "six different videos"


def test_stored_rows_say_whose_and_by_what(tmp_path: Path) -> None:
    good, bad = tmp_path / "a.mp4", tmp_path / "b.mp4"
    write_video(good, 40)
    bad.touch()
    params = EmbeddingParams(TextEmbeddingParams(device="cpu"), FrameEmbeddingParams(frames_per_episode=2))
    with Pipeline(FnApiRunner()) as pipeline:
        _ = (
            pipeline
            | beam.Create([episode(bad, "toy/1"), episode(good, "toy/0")]).with_output_types(Episode)
            | EmbedEpisodes(params, read_images)
            | StoreEmbeddings(str(tmp_path / "staging"))
        )
    (file,) = (tmp_path / "staging").rglob("embeddings-00000.parquet")
    table = pq.read_table(file)
    assert table.schema.equals(SCHEMA)
    rows = table.to_pylist()
    assert [(r["episode_id"], r["channel"], r["camera"], r["step"]) for r in rows] == [
        ("toy/0", "frames", "front", 10),
        ("toy/0", "frames", "front", 30),
        ("toy/0", "text", None, None),
        ("toy/1", "frames", "front", 10),
        ("toy/1", "frames", "front", 30),
        ("toy/1", "text", None, None),
    ]
    assert [r["device"] for r in rows] == ["cpu", "cpu", "cpu", None, None, "cpu"]
    assert rows[3]["vector"] is None and rows[3]["error"].startswith("empty: ") and "0 bytes" in rows[3]["error"]
    assert rows[2]["vector"] == rows[5]["vector"] and len(rows[2]["vector"]) == 384
    length = np.linalg.norm(np.array(rows[0]["vector"]) * rows[0]["scale"])
    assert abs(length - 1) < 0.01 and rows[0]["model_revision"] == "1/frame-1"


def test_a_file_of_stored_vectors_does_not_depend_on_the_order_they_came_in(tmp_path: Path) -> None:
    def one(name: str) -> Embedded:
        codes, scales = np.ones((1, 4), np.int8), np.ones(1, np.float32)
        return Embedded(("00000001",), codes, scales, ("cpu",), "m", "r", key=BlockKey("s", name, FRAMES, "c").text())

    members = [one(f"e{i}") for i in range(5)]
    reports = [embeddings_part(tmp_path / str(i), "s", 0, order) for i, order in enumerate((members, members[::-1]))]
    assert reports[0] == reports[1]


def test_wrong_parameters_are_named() -> None:
    with pytest.raises(ValueError, match=r"embedding.frames.frames_per_episode is 0; need at least 1"):
        FrameEmbeddingParams(frames_per_episode=0)
    with pytest.raises(ValueError, match=r"embedding.frames.rate_hz is 0; need 0 < rate_hz <= 1000"):
        FrameEmbeddingParams(rate_hz=0.0)
    with pytest.raises(ValueError, match="embedding names neither `text` nor `frames`"):
        EmbedEpisodes(EmbeddingParams(), read_images)
