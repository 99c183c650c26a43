"""Published recordings: what their headers show of the disagreements that are known of them, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.beam_pipeline.inspection.found import Dataset, codes, inspected, only, said


def stream(dataset: Dataset, name: str) -> tuple[str, list[int]]:
    return next((s["dtype"], s["shape"]) for s in dataset["streams"] if s["name"] == name)


def camera(dataset: Dataset, name: str) -> tuple[object, ...]:
    keys = ("codec", "width", "height", "files", "files_absent")
    return next(tuple(c[key] for key in keys) for c in dataset["cameras"] if c["name"] == name)


def test_gr00t(robot_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = only(capsys, robot_data / "gr00t/robot_sim.PickNPlace")
    assert (dataset["format"], dataset["version"], dataset["robot"]) == (
        "lerobot",
        "v2.0 with modality.json",
        "GR1ArmsOnly",
    )
    assert (dataset["episodes_listed"], dataset["episodes_present"], dataset["steps"]) == (5, 3, 416 + 470 + 470)
    assert dataset["duration_s"] == pytest.approx(67.8)
    assert stream(dataset, "observation.state") == ("float64", [44])
    assert camera(dataset, "ego_view") == ("h264", 256, 256, 3, 0)
    assert camera(dataset, "egoview") == ("h264", 1280, 800, 0, 3)
    assert codes(dataset) == {
        "DATA-101": 2,
        "DATA-104": 1,
        "DATA-203": 1,
        "DATA-204": 1,
        "DATA-206": 1,
        "DATA-501": 3,
        "DATA-602": 5,
    }
    assert said(dataset, "DATA-101")[0].startswith("episode 3: data/chunk-000/episode_000003.parquet is absent")
    assert said(dataset, "DATA-104")[0].startswith("egoview: no file on disk")
    assert said(dataset, "DATA-203") == ["declared 2; 5 episodes x 2 cameras make 10"]
    assert said(dataset, "DATA-501")[0].startswith("the first step is not at 0, 0.05 s")
    assert said(dataset, "DATA-602") == ["'valid'"]


def test_g1(robot_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = only(capsys, robot_data / "lerobot_v21_g1")
    assert (dataset["episodes_listed"], dataset["episodes_present"], dataset["steps"]) == (100, 2, 393 + 343)
    assert camera(dataset, "cam_high") == ("av1", 640, 480, 2, 0)
    assert codes(dataset) == {"DATA-101": 98}
    state = next(s for s in dataset["streams"] if s["name"] == "observation.state")
    assert (len(state["names"]), state["names"][0], state["rate_hz"]) == (26, "kLeftShoulderPitch", 30)
    assert dataset["instructions"] == [{"text": "Pick up the yellow bottle on the table.", "episodes": 100}]


def test_so101(robot_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = only(capsys, robot_data / "lerobot_v30_so101")
    assert (dataset["episodes_listed"], dataset["episodes_present"], dataset["steps"]) == (4, 4, 1492)
    assert dataset["splits"] == {"train": 4}
    assert camera(dataset, "top") == ("av1", 640, 480, 0, 1)
    assert codes(dataset) == {"DATA-104": 2}


def test_bridge(robot_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = only(capsys, robot_data / "rlds/bridge_dataset/1.0.0")
    assert (dataset["version"], dataset["splits"]) == ("bridge_dataset 1.0.0", {"train": 25, "val": 25})
    assert (dataset["episodes_listed"], dataset["episodes_present"]) == (50, 25)
    assert (stream(dataset, "action"), stream(dataset, "observation.state")) == (("float32", [7]), ("float32", [7]))
    assert camera(dataset, "image_0") == ("jpeg", 64, 64, 0, 0)
    assert codes(dataset) == {"DATA-101": 25, "DATA-210": 1, "DATA-409": 3, "DATA-502": 1, "DATA-701": 1}
    assert "is_last is set on 0 of 10 steps" in said(dataset, "DATA-701")[0]
    assert "has_image_0 is False" in said(dataset, "DATA-409")[0]


def test_isaac(robot_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = only(capsys, robot_data / "isaaclab_hdf5")
    assert (dataset["episodes_present"], dataset["steps"], dataset["files"]) == (20, 2163 + 2328, 2)
    assert stream(dataset, "states.articulation.robot.joint_position") == ("float32", [9])
    assert codes(dataset) == {"DATA-109": 1, "DATA-211": 1, "DATA-502": 1, "DATA-601": 1}
    assert said(dataset, "DATA-211") == ["`total` says 3901 samples, those of the 10 demos sum to 2163"]
    assert said(dataset, "DATA-109")[0].endswith("(3, 4, 5, 7, 10, 11, 15)")


def test_a_video_alone(robot_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = "mcap_prismax/100/robot.left_camera.color.image_raw.mp4"
    status, (dataset,) = inspected(capsys, robot_data / video)
    assert status == 0
    assert (dataset["format"], dataset["steps"]) == ("video", 958)
    assert camera(dataset, "image_raw") == ("h264", 640, 480, 1, 0)
    assert codes(dataset) == {"DATA-111": 1, "DATA-601": 1}


def test_prismax(robot_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, (dataset,) = inspected(capsys, robot_data / "mcap_prismax")
    assert (status, dataset["format"], dataset["episodes_present"]) == (0, "mcap", 1)
    assert dataset["duration_s"] == pytest.approx(38.3, abs=0.1)
    rates = {s["name"]: (s["dtype"], s["rate_hz"]) for s in dataset["streams"]}
    kind, rate = rates["/robot/arm_left_follow/joint_states"]
    assert len(rates) == 7 and kind == "sensor_msgs/JointState" and rate == pytest.approx(50, rel=0.03)
    assert camera(dataset, "robot.left_camera.color.image_raw") == ("h264", 640, 480, 1, 0)


def test_kuka(robot_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, (dataset,) = inspected(capsys, robot_data / "ros1")
    assert (status, dataset["format"], dataset["duration_s"]) == (0, "rosbag1", pytest.approx(41, abs=0.1))
    (stream_,) = dataset["streams"]
    assert (stream_["name"], stream_["dtype"]) == ("/joint_states", "sensor_msgs/JointState")
    assert stream_["rate_hz"] == pytest.approx(100, rel=0.01)


def test_bags_that_are_cut_off(robot_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in ("mcap_prismax/100.mcap", "ros1/kuka_honeypot_test.bag"):
        data = (robot_data / place).read_bytes()
        path = tmp_path / Path(place).name
        path.write_bytes(data[: len(data) // 2])
        assert codes(only(capsys, path)) == {"DATA-012": 1}


def test_a_folder_of_sets_is_one_block_each(robot_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, datasets = inspected(capsys, robot_data)
    paths = {dataset["path"] for dataset in datasets}
    for place in ("lerobot_v21_g1", "lerobot_v30_so101", "isaaclab_hdf5", "rlds/bridge_dataset"):
        assert str(robot_data / place) in paths
    assert any(text.endswith("README.md") for dataset in datasets for text in said(dataset, "DATA-003"))
