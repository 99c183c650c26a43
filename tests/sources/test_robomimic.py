"""robomimic's own parts of the layout, as dataset_states_to_obs.py writes them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from tests.aloha_files import scene
from tests.factories import motion
from transforms.arrays import column_matrix
from transforms.conventions import Embodiment, Source
from transforms.episode import Finding, ImageRef, Recording
from transforms.formats import detect
from transforms.loader import plan, read_images
from transforms.sources import isaac_hdf5

STEPS = 30
MODEL = "<mujoco model='lift'>" + "<body/>" * 12_000 + "</mujoco>"
"""Over 64 KB, as robosuite's are: HDF5 stores such an attribute in another way."""


@pytest.fixture()
def path(tmp_path: Path) -> Path:
    """Two demos of low-dimensional and image observations, each with the observation after its last step."""
    path = tmp_path / "image.hdf5"
    args = {"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": 20, "robots": ["Panda"]}}
    with h5py.File(path, "w", track_order=True) as file:
        data = file.create_group("data")
        data.attrs["total"], data.attrs["env_args"] = 2 * STEPS, json.dumps(args)
        for number in (0, 1):
            demo, q, frames = data.create_group(f"demo_{number}"), motion(number, STEPS + 1), scene(number, STEPS + 1)
            demo.attrs["num_samples"] = STEPS
            demo.attrs.create("model_file", MODEL)
            demo["actions"] = np.diff(q, axis=0).astype("f8")
            demo["states"] = np.hstack([np.arange(STEPS)[:, None] / 20, q[:-1], q[:-1]])
            demo["rewards"] = (np.arange(STEPS) == STEPS - 1).astype("f8")
            demo["dones"] = (np.arange(STEPS) == STEPS - 1).astype("i8")
            for group, rows in (("obs", slice(None, -1)), ("next_obs", slice(1, None))):
                demo[f"{group}/robot0_joint_pos"] = q[rows]
                demo[f"{group}/robot0_eef_pos"] = q[rows, :3]
                demo.create_dataset(f"{group}/agentview_image", data=frames[rows], compression="gzip")
        file["mask/train"] = np.array([b"demo_0"])
        file["mask/valid"] = np.array([b"demo_1"])
        file["mask/20_percent_train"] = np.array([b"demo_0"])
    return path


def read(path: Path, number: int = 0, rate_hz: float | None = None) -> Recording:
    source = Source("r", str(path))
    return isaac_hdf5.read(list(plan(source))[number], source, Embodiment(rate_hz=rate_hz))


def found(recording: Recording) -> dict[str, Finding]:
    return {finding.check: finding for finding in recording.findings}


def test_everything_that_the_layout_states(path: Path) -> None:
    assert detect(path) == "isaac_hdf5"
    recording = read(path)
    steps = recording.streams["steps"]
    with h5py.File(path) as file:
        demo = file["data/demo_0"]
        for name, place in (
            ("action", "actions"),
            ("states", "states"),
            ("reward", "rewards"),
            ("dones", "dones"),
            ("observation.robot0_joint_pos", "obs/robot0_joint_pos"),
            ("next_observation.robot0_eef_pos", "next_obs/robot0_eef_pos"),
        ):
            values = column_matrix(steps, name)
            assert values is not None
            np.testing.assert_array_equal(values, demo[place][()].reshape(STEPS, -1), name)
    assert recording.success is True and recording.findings == ()
    assert json.loads(recording.attributes["model_file"]) == MODEL
    assert json.loads(recording.attributes["env_args"])["env_name"] == "Lift"
    assert json.loads(recording.attributes["split"]) == "train"
    assert json.loads(recording.attributes["masks"]) == ["20_percent_train", "train"]
    assert json.loads(read(path, 1).attributes["split"]) == "valid"


def test_images_are_the_pixels_and_next_obs_repeats_them(path: Path) -> None:
    recording = read(path)
    assert list(recording.videos) == ["agentview_image"]
    ref = recording.videos["agentview_image"]
    assert isinstance(ref, ImageRef) and ref.count == STEPS
    shown = [np.asarray(Image.open(io.BytesIO(image))) for image in read_images(ref, [0, 29])]
    np.testing.assert_array_equal(shown, scene(0, STEPS + 1)[[0, 29]])


def test_the_rate_is_control_freq_unless_another_is_declared(path: Path) -> None:
    times = read(path).streams["steps"].column("timestamp_ns").to_pylist()
    assert times[:3] == [0, 50_000_000, 100_000_000]
    recording = read(path, rate_hz=10)
    assert recording.streams["steps"].column("timestamp_ns").to_pylist()[1] == 100_000_000
    rate = found(recording)["metadata.fps"]
    assert (rate.value, rate.unit) == (20.0, "Hz") and "`rate_hz` is 10, env_args says control_freq 20" in rate.detail
    with h5py.File(path, "r+") as file:
        file["data"].attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": True}})
    assert read(path).streams["steps"].column("timestamp_ns").null_count == STEPS


def test_next_obs_that_does_not_follow_is_named(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        for place in ("obs", "next_obs"):
            file[f"data/demo_0/{place}/with_nan"] = np.full(STEPS, np.nan)
        file["data/demo_0/next_obs/robot0_joint_pos"][11, 2] += 1e-3
        file["data/demo_0/next_obs/robot0_joint_pos"][20, 0] += 1e-3
        file["data/demo_0/next_obs/robot0_eef_pos"][STEPS - 1] = 7  # after the last step: nothing to agree with
    (finding,) = read(path).findings
    assert (finding.check, finding.value, finding.unit, finding.frames) == ("metadata.next_obs", 2, "steps", (11, 11))
    assert "next_obs/robot0_joint_pos differs from obs of the following step on 2 steps" in finding.detail


def test_next_images_that_do_not_follow_are_named(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        frames = file["data/demo_1/obs/agentview_image"][()]
        file["data/demo_1/next_obs/agentview_image"][...] = frames
    finding = found(read(path, 1))["metadata.next_obs"]
    assert finding.value == 8 and "next_obs/agentview_image" in finding.detail
    assert found(read(path, 0)) == {}


def test_dones_before_the_end_cut_nothing_and_are_named(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["data/demo_0/dones"][[4, 5]] = 1
        file["data/demo_1/rewards"][...] = 0
    recording = read(path)
    early = found(recording)["metadata.dones"]
    assert (early.value, early.frames) == (2.0, (4, 5)) and "first of them step 4; no step is cut" in early.detail
    assert recording.streams["steps"].num_rows == STEPS
    assert read(path, 1).success is False, "an end without a reward is no success"
