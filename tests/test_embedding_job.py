"""Embeddings of the sample and of real recordings, asked for in the configuration and read back by CuratedSet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from beam_pipeline.__main__ import main
from beam_pipeline.curated import CuratedSet
from beam_pipeline.embedding_table import vectors_of
from beam_pipeline.output_folder import OutputError
from examples.make_sample import make_sample
from examples.sample.draw import CAMERAS
from examples.sample.flaws import FlawSizes
from tests.factories import motion, write_lerobot_v21
from tests.job import read_ledger, run_job
from tests.sample_truth import Curated

ASKED = "\nembedding:\n  text: {device: cpu}\n  frames: {frames_per_episode: 4}\n"


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Curated:
    folder = tmp_path_factory.mktemp("embedded")
    make_sample(folder / "in", 7, 8, FlawSizes())
    config = folder / "in" / "sample.yaml"
    config.write_text(config.read_text() + ASKED)
    status = main(["--config", str(config), "--output", str(folder / "out")])
    return Curated(folder, FlawSizes(), status)


def by_episode(rows: pa.Table) -> Mapping[str, NDArray[np.float32]]:
    """Episode -> mean direction of its frames."""
    ids, vectors = np.array(rows.column("episode_id").to_pylist()), vectors_of(rows)
    means = {str(name): vectors[ids == name].mean(0) for name in np.unique(ids)}
    return {name: mean / np.linalg.norm(mean) for name, mean in means.items()}


def test_every_measured_episode_of_the_sample_has_its_vectors(curated: Curated) -> None:
    assert curated.status == 0
    rows = CuratedSet(curated.output).embeddings()
    assert not rows.column("vector").null_count, rows.column("error").to_pylist()
    ledger = read_ledger(curated.output)
    measured = {name for name, row in ledger.items() if row["outcome"] in ("kept", "rejected", "duplicate")}
    assert set(rows.column("episode_id").to_pylist()) == measured
    frames = CuratedSet(curated.output).embeddings("frames")
    per_camera: dict[tuple[str, str], list[int]] = {}
    for row in frames.select(["episode_id", "camera", "step"]).to_pylist():
        per_camera.setdefault((row["episode_id"], row["camera"]), []).append(row["step"])
    shown = {name for name in measured if not name.startswith("sample_isaac")}
    assert per_camera.keys() == {(name, camera) for name in shown for camera in CAMERAS}, "Isaac's have no camera"
    assert all(len(steps) <= 4 and steps == sorted(set(steps)) for steps in per_camera.values())
    texts = CuratedSet(curated.output).embeddings("text", "sample_rlds")
    assert set(texts.column("source").to_pylist()) == {"sample_rlds"}


def test_planted_copies_are_nearest_to_each_other(curated: Curated) -> None:
    frames = CuratedSet(curated.output).embeddings("frames")
    means = by_episode(frames)
    groups = [[name for name in group if name in means] for group in curated.truth["duplicate_groups"]]
    members = {name for group in groups for name in group}
    assert sum(len(group) > 1 for group in groups) >= 2
    for group in groups:
        inside = min(float(means[a] @ means[b]) for a in group for b in group)
        outside = max(float(means[a] @ means[b]) for a in group for b in means.keys() - members)
        assert inside > outside, (group, inside, outside)


def test_vectors_are_the_same_bytes_on_two_ray_workers(tmp_path: Path) -> None:
    motions = {i: motion(i, 30 + 5 * i) for i in range(6)}
    write_lerobot_v21(tmp_path / "set", motions)
    sources = f"  - {{name: toy, path: {tmp_path / 'set'}, format: lerobot}}"
    jobs = [
        run_job(tmp_path, sources, ASKED, *flags, output=output, embodiments=" {}")
        for output, flags in (("one", ()), ("two", ("--runner=RayRunner", "--ray_workers_max=2")))
    ]
    assert [job.status for job in jobs] == [0, 0]
    files = [sorted((job.output / "_evidence").rglob("embeddings-*.parquet")) for job in jobs]
    assert len(files[0]) == 1 and [f.read_bytes() for f in files[0]] == [f.read_bytes() for f in files[1]]
    rows = CuratedSet(jobs[0].output).embeddings("frames")
    assert rows.num_rows == 24 and rows.column("step").to_pylist()[:4] == [3, 11, 18, 26]
    again = main(["decide", "--config", str(tmp_path / "job.yaml"), "--output", str(jobs[0].output)])
    assert again == 0 and CuratedSet(jobs[0].output).embeddings("frames").equals(rows), "decide keeps them"


def test_what_was_not_stored_is_named_and_what_does_not_compare_is_refused(tmp_path: Path) -> None:
    write_lerobot_v21(tmp_path / "set", {0: motion(1, 30)})
    job = run_job(tmp_path, f"  - {{name: toy, path: {tmp_path / 'set'}, format: lerobot}}", embodiments=" {}")
    with pytest.raises(OutputError, match="holds no embeddings of toy; add `embedding:` to the configuration and meas"):
        CuratedSet(job.output).embeddings()
    config = tmp_path / "job.yaml"
    config.write_text(config.read_text() + ASKED)
    assert main(["--config", str(config), "--output", str(job.output)]) != 0, "it was measured without"
    assert main(["--config", str(config), "--output", str(tmp_path / "other")]) == 0
    rows = CuratedSet(tmp_path / "other").embeddings()
    with pytest.raises(ValueError, match=r"0 of 5 rows have no vector and the others are of 2 models \(1/frame-1, "):
        vectors_of(rows)
