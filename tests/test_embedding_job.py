"""Embeddings asked for in the configuration, of small recordings of two formats, and read back by CuratedSet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pyarrow.compute as pc
import pytest

from beam_pipeline.__main__ import main
from beam_pipeline.curated import CuratedSet
from beam_pipeline.embedding_table import stored_embeddings, vectors_of
from beam_pipeline.output_folder import OutputError
from tests.factories import motion, write_isaac, write_lerobot_v21
from tests.job import Job, run_job

ASKED = "\nembedding:\n  text: {device: cpu}\n  frames: {model: descriptor, frames_per_episode: 4}\n"
CAMERA = "videos/chunk-000/observation.images.front"
STEPS = (30, 35, 40, 45)


@dataclass(frozen=True)
class Runs:
    """The same recordings curated in this process and by two workers of Ray."""

    folder: Path
    direct: Job
    ray: Job

    @property
    def curated(self) -> CuratedSet:
        return CuratedSet(self.direct.output)


def encode_again(source: Path, target: Path) -> None:
    """The same frames by another codec, coarsely."""
    with av.open(str(source)) as read, av.open(str(target), "w") as write:
        stream = write.add_stream("libx264", rate=20, options={"crf": "34", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for frame in read.decode(video=0):
            shown = av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), format="rgb24")
            write.mux(stream.encode(shown))
        write.mux(stream.encode(None))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Four LeRobot episodes, a fifth that shows the frames of the first, and two of Isaac Lab without a camera."""
    folder = tmp_path_factory.mktemp("embedded")
    motions = {i: motion(i, steps) for i, steps in enumerate(STEPS)}
    write_lerobot_v21(folder / "toy", {**motions, 4: motion(4, STEPS[0])})
    encode_again(folder / f"toy/{CAMERA}/episode_000000.mp4", folder / f"toy/{CAMERA}/episode_000004.mp4")
    write_isaac(folder / "isaac/demos.hdf5", {0: motion(10), 1: motion(11)})
    sources = (
        f"  - {{name: toy, path: {folder / 'toy'}, format: lerobot}}\n"
        f"  - {{name: isaac, path: {folder / 'isaac'}, format: isaac_hdf5}}"
    )
    direct, ray = (
        run_job(folder, sources, ASKED, *flags, output=output, embodiments=" {}")
        for output, flags in (("one", ()), ("two", ("--runner=RayRunner", "--ray_workers_max=2")))
    )
    assert [direct.status, ray.status] == [0, 0]
    return Runs(folder, direct, ray)


def test_every_measured_episode_has_its_vectors(runs: Runs) -> None:
    frames, texts = runs.curated.embeddings("frames"), runs.curated.embeddings("text")
    assert not frames.column("vector").null_count and not texts.column("vector").null_count
    assert set(frames.column("episode_id").to_pylist()) == {f"toy/train/{i:06d}" for i in range(5)}, "Isaac has none"
    assert set(frames.column("camera").to_pylist()) == {"front"} and frames.num_rows == 20
    assert frames.column("step").to_pylist()[:8] == [3, 11, 18, 26, 4, 13, 21, 30], "the middles of quarters"
    assert set(texts.column("episode_id").to_pylist()) == {f"toy/train/{i:06d}" for i in range(5)}
    assert set(runs.curated.embeddings("frames", "toy").column("source").to_pylist()) == {"toy"}


def test_instructions_are_compared_where_there_are_enough(runs: Runs) -> None:
    rows = runs.curated.rows("evidence", where=pc.field("check") == "grounding.text_agreement").to_pylist()
    said = {row["episode_id"]: (row["status"], row["detail"]) for row in rows}
    few = ("not_run", "5 episodes of the source can be compared, fewer than 20")
    silent = ("not_run", "no instruction that names a deed")
    toy = {f"toy/train/{i:06d}": few for i in range(5)}
    assert said == {**toy, "isaac/demos/000000": silent, "isaac/demos/000001": silent}


def test_an_episode_encoded_again_is_nearest_to_its_original(runs: Runs) -> None:
    frames = runs.curated.embeddings("frames")
    vectors, ids = vectors_of(frames).reshape(5, 4, -1), frames.column("episode_id").to_pylist()[::4]
    means = vectors.mean(1) / np.linalg.norm(vectors.mean(1), axis=1, keepdims=True)
    near = means @ means.T
    copy, original = ids.index("toy/train/000004"), ids.index("toy/train/000000")
    others = np.delete(near[original], [copy, original])
    assert near[original, copy] > 0.98 > others.max(), near


def test_vectors_are_the_same_bytes_on_two_ray_workers_and_decide_keeps_them(runs: Runs) -> None:
    files = [sorted((job.output / "_evidence").rglob("embeddings-*.parquet")) for job in (runs.direct, runs.ray)]
    assert len(files[0]) == 1 and [f.read_bytes() for f in files[0]] == [f.read_bytes() for f in files[1]]
    rows = runs.curated.embeddings()
    again = main(["decide", "--config", str(runs.folder / "job.yaml"), "--output", str(runs.direct.output)])
    assert again == 0 and runs.curated.embeddings().equals(rows)


def test_what_was_not_stored_is_named_and_what_does_not_compare_is_refused(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OutputError, match="holds no embeddings of toy; add `embedding:` to the configuration and meas"):
        stored_embeddings(tmp_path, ["toy"])
    without = tmp_path / "without.yaml"
    without.write_text((runs.folder / "job.yaml").read_text().replace(ASKED, ""))
    assert main(["--config", str(without), "--output", str(runs.direct.output)]) != 0
    assert "embedding" in capsys.readouterr().err, "it was measured with"
    with pytest.raises(ValueError, match=r"0 of 25 rows have no vector and the others are of 2 models \(1/frame-1, "):
        vectors_of(runs.curated.embeddings())
