"""The MCAP reader against files of mcap-ros2-support's writer: every type, clock, camera and mapping."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.writer import CompressionType
from PIL import Image

from tests.bag_files import JOINTS, LATE_NS, START_NS, STEP_NS, Message, header, joints, jpeg, write_mcap, xyz
from tests.factories import write_video
from transforms.arrays import column_matrix, times_ns
from transforms.conventions import Embodiment, Source, TopicField, Topics
from transforms.episode import ImageRef, Recording, Utterance, VideoRef
from transforms.loader import plan, read_images
from transforms.sources import mcap
from transforms.temporal_alignment import TemporalAlignmentParams, align
from transforms.unreadable import Unreadable

STATE, LEAD = "/arm/joint_states", "/arm/leader/joint_states"
T = 30


def values(seed: int, count: int = T, width: int = len(JOINTS)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width))


def load(path: Path, **changes: Any) -> Recording:
    source = replace(Source("b", str(path)), **changes)
    (ref,) = plan(source, fail_fast=True)
    assert ref.problem is None, ref.problem
    return mcap.read(ref, source, Embodiment())


def found(recording: Recording, check: str) -> list[tuple[float | None, str]]:
    return [(f.value, f.detail) for f in recording.findings if f.check == check]


@pytest.mark.parametrize("compression", [CompressionType.NONE, CompressionType.LZ4, CompressionType.ZSTD])
def test_joint_states_are_bit_equal_and_keep_both_clocks(tmp_path: Path, compression: CompressionType) -> None:
    state, lead = values(1), values(2)
    both = [m for pair in zip(joints(STATE, state, full=True), joints(LEAD, lead), strict=True) for m in pair]
    recording = load(write_mcap(tmp_path / "a.mcap", both, compression, 2048))
    assert (
        recording.recording_id == "b/a"
        and not recording.explicit
        and set(recording.streams) == {"observation.state", "action"}
    )
    steps = recording.streams["observation.state"]
    stamps = START_NS + STEP_NS * np.arange(T)
    np.testing.assert_array_equal(times_ns(steps), stamps)
    np.testing.assert_array_equal(steps.column("log_time_ns.observation.state"), stamps + LATE_NS)
    for column, factor in (("observation.state", 1), ("observation.velocity", 10), ("observation.effort", 100)):
        np.testing.assert_array_equal(column_matrix(steps, column), state * factor)
    np.testing.assert_array_equal(column_matrix(recording.streams["action"], "action"), lead)
    assert found(recording, "timestamps.log_delay_ms") == [
        (5.0, f"{STATE}: logged 5 to 5 ms after the header stamp"),
        (5.0, f"{LEAD}: logged 5 to 5 ms after the header stamp"),
    ]
    assert not [f for f in recording.findings if f.check.startswith("integrity.")]


def test_topics_of_one_rhythm_go_row_by_row_and_others_are_interpolated(tmp_path: Path) -> None:
    left, right = values(1), values(2)
    close = joints("/left/joint_states", left) + joints("/right/joint_states", right, start_ns=START_NS + 70_000)
    recording = load(write_mcap(tmp_path / "close.mcap", close))
    np.testing.assert_array_equal(
        column_matrix(recording.streams["observation.state"], "observation.state"), np.hstack([left, right])
    )
    assert [value for value, _ in found(recording, "alignment.topic_skew_ms")] == [0.07]

    slower = joints("/left/joint_states", left) + joints("/right/joint_states", right[: T // 2], step_ns=2 * STEP_NS)
    recording = load(write_mcap(tmp_path / "slower.mcap", slower))
    steps = recording.streams["observation.state"]
    merged = column_matrix(steps, "observation.state")
    assert merged is not None and merged.shape == (T, 6)
    np.testing.assert_array_equal(merged[:, :3], left)
    np.testing.assert_array_equal(merged[:-1:2, 3:], right[: T // 2][: len(merged[:-1:2])])
    np.testing.assert_allclose(merged[1:-2:2, 3:], (right[: T // 2 - 1] + right[1 : T // 2]) / 2)


def test_a_mapping_picks_joints_by_name_and_its_clock_rules_the_steps(tmp_path: Path) -> None:
    state, lead = values(1), values(2, 2 * T)
    messages = joints(STATE, state) + joints("/x", lead, start_ns=START_NS - 1000, step_ns=STEP_NS // 2)
    path = write_mcap(tmp_path / "a.mcap", sorted(messages, key=lambda m: m.log_ns))
    columns = {
        "observation.state": (TopicField(STATE, "position", ("wrist", "shoulder")),),
        "action": (TopicField("/x", "position"),),
    }
    recording = load(path, topics=Topics(columns, clock="observation.state"))
    assert recording.reference == "observation.state"
    steps = align(recording, TemporalAlignmentParams()).streams["steps"]
    np.testing.assert_array_equal(column_matrix(steps, "observation.state"), state[:, [2, 0]])
    np.testing.assert_array_equal(column_matrix(steps, "action"), lead[::2])
    by_default = align(replace(recording, reference=""), TemporalAlignmentParams()).streams["steps"]
    assert by_default.num_rows == 2 * T, "without a clock the fastest stream rules"


def test_joints_that_change_their_order_are_put_in_the_first_ones(tmp_path: Path) -> None:
    state = values(1)
    turned = joints(STATE, state[:, ::-1], names=JOINTS[::-1])
    other = joints(STATE, state[:, :2], names=("shoulder", "gripper"))
    messages = joints(STATE, state)[:10] + turned[10:20] + other[20:]
    recording = load(write_mcap(tmp_path / "a.mcap", messages))
    read = column_matrix(recording.streams["observation.state"], "observation.state")
    assert read is not None
    np.testing.assert_array_equal(read[:20], state[:20])
    np.testing.assert_array_equal(read[20:, 0], state[20:, 0])
    assert np.isnan(read[20:, 1:]).all()
    ((count, detail),) = found(recording, "metadata.joint_names")
    assert count == 20 and "names other joints in 20 of 30 messages" in detail


def sensors(index: int, v: Sequence[float]) -> list[Message]:
    stamp = START_NS + STEP_NS * index
    pose = {"position": xyz(v[:3]), "orientation": xyz(v[3:7])}
    twist = {"linear": xyz(v[:3]), "angular": xyz(v[3:6])}
    wrench = {"force": xyz(v[:3]), "torque": xyz(v[3:6])}
    imu = {"orientation": xyz(v[:4]), "angular_velocity": xyz(v[4:7]), "linear_acceleration": xyz(v[7:10])}
    imu |= {f"{name}_covariance": [0.0] * 9 for name in ("orientation", "angular_velocity", "linear_acceleration")}
    place = {"translation": xyz(v[:3]), "rotation": xyz(v[3:7])}
    frames = [{"header": header(stamp), "child_frame_id": child, "transform": place} for child in ("hand", "tool")]
    return [
        Message("/tool_pose", "geometry_msgs/msg/PoseStamped", stamp, {"header": header(stamp), "pose": pose}),
        Message("/target_pose", "geometry_msgs/msg/PoseStamped", stamp, {"header": header(stamp), "pose": pose}),
        Message("/base/twist", "geometry_msgs/msg/TwistStamped", stamp, {"header": header(stamp), "twist": twist}),
        Message("/wrist/ft", "geometry_msgs/msg/WrenchStamped", stamp, {"header": header(stamp), "wrench": wrench}),
        Message("/imu/data", "sensor_msgs/msg/Imu", stamp, {"header": header(stamp), **imu}),
        Message("/tf", "tf2_msgs/msg/TFMessage", stamp, {"transforms": frames[: 1 + index % 2]}),
    ]


def test_every_measurement_has_a_column(tmp_path: Path) -> None:
    rows = values(3, T, 10)
    messages = [m for index, row in enumerate(rows.tolist()) for m in sensors(index, row)]
    recording = load(write_mcap(tmp_path / "a.mcap", messages))
    expected = {
        "observation.pose.tool_pose": rows[:, :7],
        "action": rows[:, :7],
        "observation.twist.base.twist": rows[:, :6],
        "observation.wrench.wrist.ft": rows[:, :6],
        "observation.imu_orientation.imu": rows[:, :4],
        "observation.imu_angular_velocity.imu": rows[:, 4:7],
        "observation.imu_linear_acceleration.imu": rows[:, 7:10],
        "observation.tf.hand": rows[:, :7],
        "observation.tf.tool": np.where(np.arange(T)[:, None] % 2 == 1, rows[:, :7], np.nan),
    }
    batches = recording.streams.values()
    read = {name: column_matrix(b, name) for b in batches for name in b.schema.names if name in expected}
    assert read.keys() == expected.keys()
    for name, wanted in expected.items():
        np.testing.assert_array_equal(read[name], wanted, err_msg=name)


def raw_image(stamp: int, encoding: str, pixels: np.ndarray, pad: int = 0) -> dict[str, object]:
    height, width = pixels.shape[:2]
    lines = np.pad(pixels.reshape(height, -1).view(np.uint8), ((0, 0), (0, pad)))
    size = {"height": height, "width": width, "step": lines.shape[1], "is_bigendian": 0}
    return {"header": header(stamp), "encoding": encoding, "data": lines.tobytes(), **size}


def test_images_are_referenced_and_read_back(tmp_path: Path) -> None:
    stamps = [START_NS + STEP_NS * i for i in range(6)]
    rng = np.random.default_rng(0)
    bgr = rng.integers(0, 256, (6, 12, 16, 3), np.uint8)
    depth = rng.integers(0, 65536, (6, 12, 16), np.uint16)
    messages = []
    for i, stamp in enumerate(stamps):
        shown = {"header": header(stamp), "format": "bgr8; jpeg compressed bgr8", "data": jpeg(i * 40)}
        messages.append(Message("/front/image_raw/compressed", "sensor_msgs/msg/CompressedImage", stamp, shown))
        messages.append(
            Message("/wrist/image_raw", "sensor_msgs/msg/Image", stamp, raw_image(stamp, "bgr8", bgr[i], 4))
        )
        messages.append(Message("/wrist/depth", "sensor_msgs/msg/Image", stamp, raw_image(stamp, "16UC1", depth[i])))
    odd = messages[::3] + messages[1::3][::-1] + messages[2::3]  # written late, in any order
    path = write_mcap(tmp_path / "a.mcap", odd, chunk_size=1500)
    recording = load(path)
    assert set(recording.videos) == {"front", "wrist", "wrist.depth"}
    refs = {name: ref for name, ref in recording.videos.items() if isinstance(ref, ImageRef)}
    assert [refs[n].depth for n in ("front", "wrist", "wrist.depth")] == [False, False, True]
    np.testing.assert_array_equal(times_ns(recording.streams["video.wrist"]), stamps)
    assert read_images(refs["front"], [5, 0, 3]) == [jpeg(200), jpeg(0), jpeg(120)]
    for index, png in zip((4, 1), read_images(refs["wrist"], [4, 1]), strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), bgr[index][:, :, ::-1])
    (png,) = read_images(refs["wrist.depth"], [2])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), depth[2])
    with pytest.raises(IndexError, match=r"image 6 of /front/image_raw/compressed, which has 6"):
        read_images(refs["front"], [6])
    steps = align(recording, TemporalAlignmentParams()).streams["steps"]
    assert steps.column("observation.images.wrist.index").to_pylist() == list(range(6))
    path.unlink()
    with pytest.raises(
        Unreadable, match=r"a\.mcap: image 0 of /front/image_raw/compressed: .*copy or record the file again"
    ):
        mcap.read_images(refs["front"], [0])


def test_a_camera_of_a_format_that_is_not_read_is_named(tmp_path: Path) -> None:
    shown = {"header": header(START_NS), "format": "h264", "data": b"\0\0\0\1"}
    video = Message("/front/compressed", "sensor_msgs/msg/CompressedImage", START_NS, shown)
    recording = load(write_mcap(tmp_path / "a.mcap", [*joints(STATE, values(1)), video]))
    ((_, detail),) = found(recording, "metadata.unsupported")
    assert "/front/compressed: 1 images are left out: format 'h264' is neither jpeg nor png" in detail
    assert not recording.videos and len(found(recording, "integrity.camera_absent")) == 1


def info(stamp: int, focal: float) -> Message:
    roi = {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": False}
    k = [focal, 0.0, 8.0, 0.0, focal, 6.0, 0.0, 0.0, 1.0]
    rest = {"distortion_model": "plumb_bob", "d": [0.1, 0.2], "k": k, "r": [0.0] * 9, "p": [0.0] * 12}
    size = {"height": 12, "width": 16, "binning_x": 0, "binning_y": 0, "roi": roi}
    return Message("/front/camera_info", "sensor_msgs/msg/CameraInfo", stamp, {"header": header(stamp), **size, **rest})


def test_camera_info_instruction_metadata_and_video_beside(tmp_path: Path) -> None:
    said = [("pick up the cup", 0), ("pick up the cup", 5), ("put it down", 15)]
    spoken = [
        Message("/task_instruction", "std_msgs/msg/String", START_NS + STEP_NS * at, {"data": text}, 0)
        for text, at in said
    ]
    other = Message("/robot_description", "std_msgs/msg/String", START_NS, {"data": "<robot/>"})
    infos = [info(START_NS, 100.0), info(START_NS + 1, 101.0)]
    path = write_mcap(
        tmp_path / "a.mcap", [*joints(STATE, values(1)), *spoken, other, *infos], metadata={"rig": {"operator": "Ada"}}
    )
    write_video(tmp_path / "a/front.color.mp4", T, 50)
    recording = load(tmp_path)
    assert recording.uri == str(path)
    assert recording.utterances == (
        Utterance("pick up the cup", START_NS, START_NS + 15 * STEP_NS),
        Utterance("put it down", START_NS + 15 * STEP_NS, None),
    )
    model = recording.cameras["front"]
    assert (model.width, model.height, model.intrinsics[0], model.distortion) == (16, 12, 100.0, (0.1, 0.2))
    assert found(recording, "metadata.camera_info") == [(1.0, "front: 1 of 2 CameraInfo differ from the first")]
    assert found(recording, "metadata.topics_unused") == [
        (1.0, "no column, camera or instruction of topics /robot_description")
    ]
    assert json.loads(recording.attributes["metadata.rig.operator"]) == "Ada"
    video = recording.videos["front"]
    assert isinstance(video, VideoRef) and video.uri == str(tmp_path / "a/front.color.mp4")
    np.testing.assert_array_equal(times_ns(recording.streams["video.front"]), START_NS + STEP_NS * np.arange(T))
    ((moved, detail),) = found(recording, "metadata.clocks_apart")
    assert moved == pytest.approx(START_NS / 1e9) and "a clock of its own, from 0 to 0.58 s" in detail


def test_metadata_is_the_instruction_where_no_topic_is(tmp_path: Path) -> None:
    stated = {"task_info": {"task_description": '"stack the blocks"', "task_name": '"x"'}}
    recording = load(write_mcap(tmp_path / "a.mcap", joints(STATE, values(1)), metadata=stated))
    assert recording.utterances == (Utterance("stack the blocks"),)
    assert recording.attributes["metadata.task_info.task_description"] == '"stack the blocks"'


def test_a_type_of_its_own_is_read_where_the_mapping_names_it(tmp_path: Path) -> None:
    rows = values(4, T, 5)
    dims = [{"label": "joints", "size": 5, "stride": 5}]
    messages = [
        Message(
            "/cmd",
            "std_msgs/msg/Float64MultiArray",
            START_NS + STEP_NS * i,
            {"layout": {"dim": dims, "data_offset": 0}, "data": r},
            0,
        )
        for i, r in enumerate(rows.tolist())
    ]
    path = write_mcap(tmp_path / "a.mcap", [*joints(STATE, values(1)), *messages])
    wanted = Topics({"observation.state": (TopicField(STATE, "position"),), "action": (TopicField("/cmd", "data"),)})
    recording = load(path, topics=wanted)
    np.testing.assert_array_equal(column_matrix(recording.streams["action"], "action"), rows)
    np.testing.assert_array_equal(times_ns(recording.streams["action"]), START_NS + STEP_NS * np.arange(T))
    assert found(load(path), "metadata.topics_unused") == [(1.0, "no column, camera or instruction of topics /cmd")]


def test_static_transforms_are_attributes_and_no_stream(tmp_path: Path) -> None:
    place = {"translation": xyz([1, 2, 3]), "rotation": xyz([0, 0, 0, 1])}
    frames = [{"header": header(START_NS), "child_frame_id": "camera", "transform": place}]
    static = Message("/tf_static", "tf2_msgs/msg/TFMessage", START_NS, {"transforms": frames})
    recording = load(write_mcap(tmp_path / "a.mcap", [static, *joints(STATE, values(1))]))
    assert json.loads(recording.attributes["tf_static"]) == {"camera": [1, 2, 3, 0, 0, 0, 1]}
    assert list(recording.streams) == ["observation.state"]


def test_the_order_of_log_times_rules_and_the_headers_stay_as_they_are(tmp_path: Path) -> None:
    state = values(1)
    messages = joints(STATE, state)
    messages[7], messages[8] = replace(messages[7], late_ns=LATE_NS + 2 * STEP_NS), messages[8]
    recording = load(write_mcap(tmp_path / "a.mcap", messages[::-1], chunk_size=500))
    order = np.argsort([m.log_ns for m in messages], kind="stable")
    steps = recording.streams["observation.state"]
    assert sorted(steps.column("log_time_ns.observation.state").to_pylist()) == sorted(m.log_ns for m in messages)
    tied = {m.log_ns for m in messages if sum(n.log_ns == m.log_ns for n in messages) > 1}
    stamps = [m.stamp_ns for m in np.array(messages, object)[order] if m.log_ns not in tied]
    read = zip(
        steps.column("timestamp_ns").to_pylist(), steps.column("log_time_ns.observation.state").to_pylist(), strict=True
    )
    assert [stamp for stamp, logged in read if logged not in tied] == stamps
    aligned = align(recording, TemporalAlignmentParams())
    ((count, _),) = [(f.value, f.detail) for f in aligned.findings if f.check == "timestamps.backward"]
    assert count == 1


def test_headers_that_nobody_set_give_way_to_log_times(tmp_path: Path) -> None:
    messages = [replace(m, content={**m.content, "header": header(0)}) for m in joints(STATE, values(1))]
    recording = load(write_mcap(tmp_path / "a.mcap", messages))
    stamps = times_ns(recording.streams["observation.state"])
    np.testing.assert_array_equal(stamps, START_NS + LATE_NS + STEP_NS * np.arange(T))
    assert found(recording, "timestamps.header_unset") == [
        (30.0, f"{STATE}: no header stamp is set; the log times are used")
    ]
    some = joints(STATE, values(1))[:3] + messages[3:5] + joints(STATE, values(1))[5:]
    partly = load(write_mcap(tmp_path / "b.mcap", some))
    assert partly.streams["observation.state"].column("timestamp_ns").null_count == 2
    assert found(partly, "timestamps.header_unset") == [(2.0, f"{STATE}: 2 of 30 header stamps are not set")]


def test_a_folder_with_metadata_yaml_is_one_recording(tmp_path: Path) -> None:
    state = values(1)
    messages = joints(STATE, state)
    folder = tmp_path / "bag"
    write_mcap(folder / "bag_0.mcap", messages[:10])
    write_mcap(folder / "bag_1.mcap", messages[10:])
    (folder / "metadata.yaml").write_text(
        "rosbag2_bagfile_information:\n  message_count: 30\n  duration: {nanoseconds: 580000000}\n"
        "  relative_file_paths: [bag_0.mcap, bag_1.mcap, bag_2.mcap]\n"
    )
    recording = load(tmp_path)
    assert recording.recording_id == "b/bag"
    np.testing.assert_array_equal(column_matrix(recording.streams["observation.state"], "observation.state"), state)
    assert found(recording, "integrity.file_absent") == [(1.0, "metadata.yaml lists bag_2.mcap, which is not there")]


def test_videos_of_a_bag_are_no_recordings_of_their_own(tmp_path: Path) -> None:
    write_mcap(tmp_path / "a.mcap", joints(STATE, values(1)))
    write_mcap(tmp_path / "noise.bin", joints(STATE, values(2)))
    for name in ("a/front.mp4", "a.wrist.mp4", "other.mp4"):
        write_video(tmp_path / name, 5, 50)
    for pattern in ("", "**"):
        source = Source("b", str(tmp_path / pattern))
        assert sorted((r.recording_id, r.format) for r in plan(source)) == [
            ("b/a", "mcap"),
            ("b/noise", "mcap"),
            ("b/other", "video"),
        ], pattern
    assert set(load(tmp_path / "a.mcap").videos) == {"front", "wrist"}
