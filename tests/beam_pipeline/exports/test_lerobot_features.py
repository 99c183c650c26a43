"""Columns, splits, statistics of pictures and parts of modality.json, each against numbers worked out apart."""

from __future__ import annotations

import io
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from beam_pipeline.exports.export import ExportError
from beam_pipeline.exports.lerobot_columns import column_shape, joined
from beam_pipeline.exports.lerobot_modality import part_of
from beam_pipeline.exports.lerobot_statistics import PixelCounts, sampled_steps, statistics, thinned
from beam_pipeline.exports.video_files import header
from tests.exported import export, vectors
from tests.factories import jpeg, motion, rlds_example, write_isaac, write_lerobot_v21, write_rlds
from tests.job import run_job


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("kLeftShoulderPitch", "left_arm"),
        ("kRightHandThumbRotation", "right_hand"),
        ("shoulder_pan.pos", "single_arm"),
        ("gripper.pos", "gripper"),
        ("left_gripper", "left_gripper"),
        ("right_knee_joint", "right_leg"),
        ("waist_yaw", "waist"),
        ("motor_3", None),
    ],
)
def test_the_part_that_a_name_speaks_of(name: str, part: str | None) -> None:
    assert part_of(name) == part


def test_a_column_stays_float32_where_every_value_is_one() -> None:
    exact = pa.array([[0.5, float("nan")], [float(np.float32(0.1)), 2.0]], pa.list_(pa.float64()))
    assert column_shape(exact).single
    assert not column_shape(pa.array([[0.1, 2.0]], pa.list_(pa.float64()))).single
    ragged = joined(column_shape(exact), column_shape(pa.array([[1.0]], pa.list_(pa.float64()))))
    assert ragged.problem == "its rows have 1 to 2 values; LeRobot needs one number"
    assert joined(column_shape(exact), column_shape(pa.nulls(3, pa.list_(pa.float64())))).missing == 3


def test_statistics_by_hand() -> None:
    found = statistics(np.array([[0, 10], [1, 20], [2, 60]], np.int64))
    assert (found["min"], found["max"], found["mean"], found["count"]) == ([0, 10], [2, 60], [1.0, 30.0], [3])
    assert found["q50"] == [1.0, 20.0] and found["q10"] == pytest.approx([0.2, 12.0])
    assert statistics(np.array([True, False]))["mean"] == [0.5]


def test_pixel_counts_are_the_statistics_of_the_pixels() -> None:
    frames = np.random.default_rng(3).integers(0, 256, (4, 8, 10, 3)).astype(np.uint8)
    parts = [PixelCounts(3, depth=False) for _ in range(2)]
    for at, frame in enumerate(frames):
        parts[at % 2].add(frame)
    found = parts[0].merged(parts[1]).statistics()
    pixels = frames.reshape(-1, 3) / 255
    for name, wanted in {
        "mean": pixels.mean(0),
        "std": pixels.std(0),
        "max": pixels.max(0),
        **{f"q{p:02d}": np.percentile(pixels, p, axis=0) for p in (1, 10, 50, 90, 99)},
    }.items():
        np.testing.assert_allclose(np.ravel(found[name]), wanted, rtol=1e-9, err_msg=name)
    assert np.shape(found["mean"]) == (3, 1, 1) and found["count"] == [4]


def test_as_many_frames_count_as_lerobot_takes() -> None:
    """LeRobot's own table: 100 of up to about 500 steps, 177 of 1000, 1681 of 20000."""
    assert [len(sampled_steps(n)) for n in (40, 400, 1000, 20000)] == [40, 100, 177, 1681]
    assert thinned(np.zeros((480, 640, 3))).shape == (120, 160, 3)
    assert thinned(np.zeros((256, 256, 3))).shape == (256, 256, 3)


def test_pictures_keep_their_bytes_and_their_statistics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rlds(tmp_path / "rlds", [[rlds_example(1)]])
    job = run_job(tmp_path, "  - {name: pictures, path: rlds, embodiment: panda}")
    run = export(capsys, job.output, tmp_path / "set")
    encoded = [jpeg(1000 + step) for step in range(40)]
    assert [row["bytes"] for row in run.rows()["observation.images.image"].to_pylist()] == encoded
    assert run.json("meta/info.json")["features"]["observation.images.image"]["shape"] == [32, 32, 3]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(one))) for one in encoded]).reshape(-1, 3) / 255
    found = run.json("meta/stats.json")["observation.images.image"]
    np.testing.assert_allclose(np.ravel(found["mean"]), pixels.mean(0), rtol=1e-9)
    np.testing.assert_allclose(np.ravel(found["std"]), pixels.std(0), rtol=1e-9)
    assert run.json("meta/stats.json")["next.reward"]["max"] == [1.0]


def test_sources_that_agree_are_one_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        write_lerobot_v21(tmp_path / name, {0: motion(ord(name))}, video=False)
    job = run_job(tmp_path, "".join(f"  - {{name: {n}, path: {n}, embodiment: panda}}\n" for n in "ab"))
    run = export(capsys, job.output, tmp_path / "set")
    assert run.json("meta/info.json")["total_episodes"] == 2
    assert [e["source"] for e in run.json("export.json")["data_sets"][0]["episodes"]] == ["a", "b"]
    np.testing.assert_array_equal(vectors(run.rows(), "action"), np.concatenate([motion(ord("a")), motion(ord("b"))]))


def test_canonical_columns_only_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_isaac(tmp_path / "isaac/a.hdf5", {0: motion(0), 1: motion(1)})
    robot = """
  panda:
    rate_hz: 20
    gripper: {position: {column: obs, start: 0, end: 1}, closed: 0.0, open: 0.04, unit: m}
""".replace("column: obs", "column: states.articulation.robot.joint_position").replace("0, end: 1", "7, end: 8")
    source = "  - {name: arm, path: 'isaac/*.hdf5', format: isaac_hdf5, embodiment: panda}"
    job = run_job(tmp_path, source, embodiments=robot)
    bare = export(capsys, job.output, tmp_path / "bare").json("meta/info.json")["features"]
    full = export(capsys, job.output, tmp_path / "full", "--canonical").json("meta/info.json")["features"]
    assert set(full) - set(bare) == {"observation.gripper"} and "observation.eef_pos" in bare
    assert not {"valid", "discount", "timestamp_ns", "next.observation.state"} & set(full)


def test_a_column_of_the_source_s_own_is_exported_though_canonical_ones_bear_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_isaac(tmp_path / "isaac/a.hdf5", {0: motion(0), 1: motion(1)})
    opening = np.linspace(0, 5, len(motion(0)), dtype="f4")
    with h5py.File(tmp_path / "isaac/a.hdf5", "a") as file:
        for demo in file["data"].values():
            demo["obs/gripper"] = opening[:, None]
            demo["obs/joint_position"] = demo["obs/joint_pos"][()]
    source = "  - {name: arm, path: 'isaac/*.hdf5', format: isaac_hdf5, embodiment: bare}"
    job = run_job(tmp_path, source, embodiments="\n  bare: {rate_hz: 20}\n")
    run = export(capsys, job.output, tmp_path / "set")
    features = run.json("meta/info.json")["features"]
    assert {"observation.gripper", "observation.joint_position"} <= set(features), run.out
    np.testing.assert_array_equal(vectors(run.rows(), "observation.gripper").ravel(), np.tile(opening, 2))


def test_an_export_is_curated_again_without_a_finding_about_its_metadata(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lerobot_v21(tmp_path / "toy", {0: motion(0), 1: motion(1)})
    first = run_job(tmp_path, "  - {name: toy, path: toy, embodiment: panda}")
    for kind in ("lerobot-v3", "lerobot-v21-gr00t"):
        run = export(capsys, first.output, tmp_path / kind, kind=kind)
        again = run_job(tmp_path, f"  - {{name: toy, path: {kind}, embodiment: panda}}", output=f"again-{kind}")
        assert again.outcomes() == {"toy/train/000000": "kept", "toy/train/000001": "kept"}
        tables = [pq.read_table(path) for path in (again.output / "evidence").rglob("*.parquet")]
        checks = {check for table in tables for check in table["check"].to_pylist()}
        assert len(checks) > 20 and not {check for check in checks if check.startswith("metadata.")}
        twice = export(capsys, again.output, tmp_path / f"twice-{kind}", kind=kind)
        assert twice.rows().equals(run.rows())


def test_a_file_that_is_no_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"none")
    with pytest.raises(ExportError, match=r"a\.mp4 is no video that can be read"):
        header(tmp_path / "a.mp4")
