from __future__ import annotations

import bz2
import io
import struct
from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rosbags.rosbag1 import Reader

from tests.factories import jpeg
from tests.rosbag_files import (
    DELAY_NS,
    JOINTS,
    PERIOD_NS,
    START_NS,
    TYPES,
    by_rosbags,
    chunks_of,
    header,
    joint_state,
    new_bag,
    record,
    write_joints,
)
from transforms import formats, loader
from transforms.arrays import column_matrix
from transforms.conventions import Embodiment, Source, TopicField, Topics
from transforms.episode import Finding, ImageRef, Recording
from transforms.sources import rosbag1
from transforms.sources.rosbag1_messages import messages_in
from transforms.sources.rosbag1_records import Record, chunk_records
from transforms.stage import Unreadable

COUNT = 300


def source_of(path: Path, **values: object) -> Source:
    return replace(Source("b", str(path)), **values)  # type: ignore[arg-type]


def read(path: Path, **values: object) -> Recording:
    source = source_of(path, **values)
    (ref,) = loader.plan(source)
    if ref.problem is not None:
        raise Unreadable(ref.problem.rule, ref.problem.detail)
    return rosbag1.read(ref, source, Embodiment())


def found(recording: Recording) -> dict[str, Finding]:
    return {finding.check: finding for finding in recording.findings}


def rule_of(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(Unreadable) as caught:
        call()
    return caught.value.problem.rule, caught.value.problem.detail


def positions(recording: Recording) -> np.ndarray:
    values = column_matrix(recording.streams["observation.state"], "observation.state")
    assert values is not None
    return values


@pytest.mark.parametrize("compression", ["none", "bz2", "lz4"])
def test_every_value_is_that_of_rosbags(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "a.bag"
    write_joints(path, COUNT, compression)
    assert formats.detect(path) == "rosbag1" and len(chunks_of(path)) > 3
    recording = read(path)
    assert (recording.recording_id, recording.format, recording.explicit) == ("b/a", "rosbag1", False)
    batch, messages = recording.streams["observation.state"], by_rosbags(path)
    assert batch.num_rows == len(messages) == COUNT
    np.testing.assert_array_equal(positions(recording), [m.position for _, m in messages])
    np.testing.assert_array_equal(column_matrix(batch, "observation.velocity"), [m.velocity for _, m in messages])
    np.testing.assert_array_equal(column_matrix(batch, "observation.effort"), [m.effort for _, m in messages])
    stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for _, m in messages]
    assert batch.column("timestamp_ns").to_pylist() == stamps
    assert batch.column("log_time_ns.observation.state").to_pylist() == [ns for ns, _ in messages]
    assert set(found(recording)) == {"timestamps.log_delay_ms"}
    assert found(recording)["timestamps.log_delay_ms"].value == DELAY_NS / 1e6


@pytest.mark.parametrize("compression", ["none", "bz2", "lz4"])
@pytest.mark.parametrize("share", [0.3, 0.55, 0.8])
def test_a_cut_bag_gives_what_is_whole_and_says_what_is_lost(tmp_path: Path, compression: str, share: float) -> None:
    path = tmp_path / "a.bag"
    write_joints(path, COUNT, compression)
    truth = np.array([m.position for _, m in by_rosbags(path)])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    recording = read(path)
    values = positions(recording)
    chunks = [end for _, end in chunks_of(path) if end <= path.stat().st_size]
    assert len(chunks) * 20_000 / 500 < len(values) < COUNT, "all whole chunks and no more than there was"
    np.testing.assert_array_equal(values, truth[: len(values)])
    checks, lost = found(recording), COUNT - len(values)
    assert checks["integrity.no_summary"].value == 1 and "a.bag: " in checks["integrity.no_summary"].detail
    assert "without an index at the end (it would begin at byte" in checks["integrity.no_summary"].detail
    messages, seconds = checks["integrity.lost_messages"], checks["integrity.lost_s"]
    assert (messages.unit, seconds.unit) == ("messages", "s")
    assert messages.value == pytest.approx(lost, rel=0.25, abs=12), "by the bytes that are missing before the index"
    assert seconds.value == pytest.approx(lost * PERIOD_NS / 1e9, rel=0.25, abs=0.12)
    assert f"by the size of what is missing, {len(values)} are whole" in messages.detail


def test_of_an_uncompressed_chunk_every_whole_message_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.bag"
    write_joints(path, COUNT)
    begin, end = chunks_of(path)[1]
    whole = path.read_bytes()
    middle = (begin + end) // 2
    path.write_bytes(whole[:middle])
    log_times = [ns for ns, _ in by_rosbags_of(whole, tmp_path)]
    recording = read(path)
    read_ns = recording.streams["observation.state"].column("log_time_ns.observation.state").to_pylist()
    stored = [struct.pack("<II", *divmod(ns, 10**9)) for ns in log_times]
    starts = [whole.index(b"time=" + stamp) for stamp in stored]
    assert read_ns == log_times[: sum(start < middle for start in starts) - 1], "all but the one that is cut"
    detail = found(recording)["integrity.no_summary"].detail
    assert f"cut in the chunk at byte {begin}: {middle - end + chunk_size(whole, begin)} of its" in detail


def by_rosbags_of(data: bytes, folder: Path) -> list[tuple[int, object]]:
    (folder / "whole.bag").write_bytes(data)
    return by_rosbags(folder / "whole.bag")


def chunk_size(data: bytes, begin: int) -> int:
    (head,) = struct.unpack_from("<I", data, begin)
    return int(struct.unpack_from("<I", data, begin + 4 + head)[0])


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 1), st.sampled_from(["none", "bz2", "lz4"]))
def test_wherever_it_is_cut_the_beginning_is_read(
    tmp_path_factory: pytest.TempPathFactory, share: float, compression: str
) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.bag"
    write_joints(path, 60, compression, 5_000)
    truth = np.array([m.position for _, m in by_rosbags(path)])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * (len(whole) - 1))])
    try:
        values = positions(read(path))
    except Unreadable as error:
        assert error.problem.rule in ("empty", "truncated")
        assert path.stat().st_size < chunks_of_bytes(whole)[0][1], "the first chunk is not whole"
        return
    np.testing.assert_array_equal(values, truth[: len(values)])


def chunks_of_bytes(data: bytes) -> list[tuple[int, int]]:
    (head,) = struct.unpack_from("<I", data, 13)
    begin = 13 + 4 + head + 4 + struct.unpack_from("<I", data, 17 + head)[0]
    (head,) = struct.unpack_from("<I", data, begin)
    return [(begin, begin + 8 + head + struct.unpack_from("<I", data, begin + 4 + head)[0])]


def test_a_chunk_that_is_damaged_is_counted_by_the_index(tmp_path: Path) -> None:
    path = tmp_path / "a.bag"
    write_joints(path, COUNT, "bz2")
    truth = by_rosbags(path)
    with Reader(path) as reader:
        info = reader.chunk_infos[1]
        lost = sum(info.connection_counts.values())
    begin, end = chunks_of(path)[1]
    data = bytearray(path.read_bytes())
    data[end - 60 : end - 20] = bytes(40)
    path.write_bytes(bytes(data))
    recording = read(path)
    stamps = recording.streams["observation.state"].column("log_time_ns.observation.state").to_pylist()
    assert stamps == [ns for ns, _ in truth if not info.start_time <= ns < info.end_time]
    checks = found(recording)
    assert checks["integrity.lost_messages"].value == lost == COUNT - len(stamps)
    assert checks["integrity.lost_s"].value == pytest.approx((info.end_time - info.start_time) / 1e9, abs=2e-9)
    assert f"the chunk at byte {begin}, of which 0 messages are whole: bz2 cannot" in checks["integrity.chunk"].detail
    assert "integrity.no_summary" not in checks


def test_reading_goes_on_at_the_next_chunk_after_bytes_that_are_no_record(tmp_path: Path) -> None:
    path = tmp_path / "a.bag"
    write_joints(path, COUNT)
    begin, _ = chunks_of(path)[1]
    following, _ = chunks_of(path)[2]
    with Reader(path) as reader:
        lost = sum(reader.chunk_infos[1].connection_counts.values())
    data = bytearray(path.read_bytes())
    data[begin : begin + 4] = b"\xff" * 4
    path.write_bytes(bytes(data))
    checks = found(read(path))
    assert f"the bytes from {begin} to {following} are no record" in checks["integrity.chunk"].detail
    assert checks["integrity.lost_messages"].value == lost


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data, at: data.replace(b"compression=none", b"compression=zstd"), "compressed by 'zstd', not bz2, lz4"),
        (lambda data, at: data[: at + 60] + b"\xff\xff\xff\x7f" + data[at + 64 :], "at its end are no whole record"),
    ],
)
def test_chunks_that_cannot_be_walked(tmp_path: Path, spoil: Callable[[bytes, int], bytes], words: str) -> None:
    path = tmp_path / "a.bag"
    write_joints(path, COUNT)
    (head,) = struct.unpack_from("<I", path.read_bytes(), chunks_of(path)[1][0])
    path.write_bytes(spoil(path.read_bytes(), chunks_of(path)[1][0] + 8 + head - 60))
    try:
        details = [f.detail for f in read(path).findings if f.check == "integrity.chunk"]
    except Unreadable as error:
        details = [error.problem.detail]
    assert any(words in detail for detail in details) or "holds nothing to read" in details[0]


@pytest.mark.parametrize("compression", ["bz2", "lz4"])
def test_a_chunk_that_unpacks_to_far_more_than_it_declares(compression: str) -> None:
    zeros = bytes(64 << 20)
    packed = bz2.compress(zeros) if compression == "bz2" else lz4.frame.compress(zeros)
    fields = {"compression": compression.encode(), "size": struct.pack("<I", 1000)}
    unpacked, why = chunk_records(Record(0, 5, fields, 0, len(packed)), packed)
    assert 1000 < len(unpacked) <= 4 << 20 and "it holds at least" in why and "where 1000 are declared" in why
    huge = Record(0, 5, {**fields, "size": b"\xff" * 4}, 0, len(packed))
    assert chunk_records(huge, packed) == (b"", "it claims 4294967295 bytes, more than the limit of 1073741824")


def test_a_bag_that_was_never_closed(tmp_path: Path) -> None:
    """rosbag record writes a chunk's sizes when it ends the chunk: until then both are 0, and no index follows."""
    write_joints(tmp_path / "whole.bag", COUNT)
    data = bytearray((tmp_path / "whole.bag").read_bytes())
    begin, end = chunks_of(tmp_path / "whole.bag")[2]
    (head,) = struct.unpack_from("<I", data, begin)
    data[begin + 4 + head : begin + 8 + head] = bytes(4)
    for name, width in ((b"index_pos=", 8), (b"size=", 4)):
        at = data.index(name, 0 if width == 8 else begin) + len(name)
        data[at : at + width] = bytes(width)
    path = tmp_path / "b.bag.active"
    path.write_bytes(data[: end - 100])
    recording = read(path)
    assert recording.recording_id == "b/b"
    truth, values = by_rosbags(tmp_path / "whole.bag"), positions(recording)
    np.testing.assert_array_equal(values, [m.position for _, m in truth[: len(values)]])
    whole_chunks = [one for one in truth if one[0] <= truth[len(values) - 1][0]]
    assert len(values) == len(whole_chunks) and len(values) > 100
    checks = found(recording)
    assert "the bag was never closed" in checks["integrity.no_summary"].detail
    assert checks["integrity.lost_messages"].status == checks["integrity.lost_s"].status == "not_run"
    assert f"what followed its {len(values)} whole messages is not known" in checks["integrity.lost_s"].detail


def test_header_fields_in_any_order_and_fields_more_are_read() -> None:
    def stamp(i: int) -> bytes:
        return struct.pack("<II", 100 + i, 7)

    orders = [("op", "conn", "time"), ("time", "conn", "op"), ("conn", "op", "time")]
    records, expected = [], []
    for i in range(30):
        fields = {"op": b"\x02", "conn": struct.pack("<I", i % 2), "time": stamp(i)}
        named = {name: fields[name] for name in orders[i % 3]}
        records.append(record(named if i % 5 else {**named, "note": b"x" * i}, bytes([i]) * i))
        expected.append((i % 2, (100 + i) * 10**9 + 7, bytes([i]) * i))
    records.insert(3, record({"op": b"\x07", "conn": bytes(4), "topic": b"/t"}, b""))
    records.insert(9, record({"none": b""}, b"?"))
    data = b"".join(records)
    messages = messages_in(data + data[:20])
    held = [data[s : s + n] for s, n in zip(messages.starts.tolist(), messages.sizes.tolist(), strict=True)]
    assert list(zip(messages.connection.tolist(), messages.log_ns.tolist(), held, strict=True)) == expected
    assert [one.fields["topic"] for one in messages.others] == [b"/t"]
    assert (messages.unknown, messages.spare) == (1, 20)


def test_names_that_change_and_a_message_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.bag"
    with new_bag(path) as bag:
        for i in range(20):
            ns = START_NS + i * PERIOD_NS
            names = JOINTS if i < 15 else tuple(reversed(JOINTS))
            bag.write("/joint_states", ns, joint_state(ns, np.arange(7.0) if i < 15 else np.arange(6.0, -1, -1), names))
        connection = bag.writer.connections[0]
        bag.writer.write(connection, START_NS + 10**9, b"\1\0\0\0")
    recording = read(path)
    assert (positions(recording) == np.arange(7.0)).all(), "values are put in the order of the first message's names"
    checks = found(recording)
    assert checks["metadata.joint_names"].value == 5 and "in 5 of 20 messages" in checks["metadata.joint_names"].detail
    assert checks["integrity.malformed"].value == 1 and "1 of 21 messages are no sensor_msgs/JointState" in (
        checks["integrity.malformed"].detail
    )


def test_a_topic_that_the_file_does_not_define_and_one_nobody_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.bag"
    write_joints(path, 20)
    with new_bag(tmp_path / "b.bag") as bag:
        odd = bag.writer.add_connection("/odd", "my_msgs/msg/Odd", msgdef="float64 x\n", md5sum="0" * 32)
        bare = bag.writer.add_connection("/bare", "sensor_msgs/msg/Imu", msgdef="  ", md5sum="1" * 32)
        for i in range(5):
            ns = START_NS + i * PERIOD_NS
            bag.write("/joint_states", ns, joint_state(ns, np.arange(7.0)))
            bag.writer.write(odd, ns, struct.pack("<d", i))
            bag.writer.write(bare, ns, b"")
    recording = read(tmp_path / "b.bag")
    checks = found(recording)
    assert "/odd" in checks["metadata.topics_unused"].detail
    skipped = checks["metadata.message_encoding"]
    assert skipped.value == 5 and "/bare: 5 messages are left out: its connection holds no definition" in skipped.detail
    topics = Topics({"observation.odd": (TopicField("/odd", "x"),)})
    wanted = read(tmp_path / "b.bag", topics=topics)
    np.testing.assert_array_equal(
        column_matrix(wanted.streams["observation.odd"], "observation.odd"), np.arange(5.0)[:, None]
    )


@pytest.mark.parametrize(
    ("content", "rule", "words"),
    [
        (b"", "empty", "a.bag is empty (0 bytes)"),
        (b"#ROSBAG", "truncated", "cut off in its magic"),
        (b"#ROSBAG V1.2\n" + b"x" * 50, "wrong_format", "a ROS bag of format V1.2"),
        (b"plain text, not a bag", "wrong_format", "no ROS 1 bag: it begins with b'plain text, n'"),
        (b"#ROSBAG V2.0\n", "truncated", "holds nothing to read"),
        (b"#ROSBAG V2.0\n" + b"\xff" * 90, "truncated", "bytes are left for a header of"),
    ],
)
def test_files_that_are_no_bag(tmp_path: Path, content: bytes, rule: str, words: str) -> None:
    path = tmp_path / "a.bag"
    path.write_bytes(content)
    found_rule, detail = rule_of(lambda: read(path, format="rosbag1"))
    assert found_rule == rule and words in detail


def test_an_empty_bag_a_folder_splits_and_a_file_that_is_gone(tmp_path: Path) -> None:
    with new_bag(tmp_path / "set/a.bag"):
        pass
    rule, detail = rule_of(lambda: read(tmp_path / "set/a.bag"))
    assert rule == "empty" and "no message of a topic that is read" in detail
    write_joints(tmp_path / "set/deep/b.bag", 5)
    ids = [ref.recording_id for ref in loader.plan(Source("b", str(tmp_path / "set")))]
    assert ids == ["b/a", "b/deep/b"]
    explicit = list(loader.plan(Source("b", str(tmp_path / "set"), "rosbag1")))
    assert [ref.recording_id for ref in explicit] == ids
    (tmp_path / "none").mkdir()
    assert rule_of(lambda: list(rosbag1.plan(source_of(tmp_path), tmp_path / "none")))[0] == "empty"
    path = tmp_path / "set/deep/b.bag"
    assert "bags have no splits" in rule_of(lambda: list(rosbag1.plan(source_of(path, splits=("train",)), path)))[1]
    (ref,) = loader.plan(source_of(path))
    path.unlink()
    assert rule_of(lambda: rosbag1.read(ref, source_of(path), Embodiment()))[0] == "absent"


def write_every_type(path: Path, count: int, compression: str) -> dict[str, list[bytes]]:
    """Every type that is read unasked, the images logged in another order than written; payloads by topic."""

    def kind(name: str) -> Any:
        package, _, short = name.partition("/")
        return TYPES[f"{package}/msg/{short}"]

    rng = np.random.default_rng(0)
    stored: dict[str, list[bytes]] = {"/cam/image_raw/compressed": [], "/wrist/image_raw": [], "/depth/image_raw": []}
    vector, quaternion = kind("geometry_msgs/Vector3"), kind("geometry_msgs/Quaternion")
    with new_bag(path, compression, 30_000) as bag:
        for i in range(count):
            ns = START_NS + i * PERIOD_NS
            head, x = header(ns, i), rng.standard_normal(16)
            turn = quaternion(*x[6:10])
            pose = kind("geometry_msgs/Pose")(kind("geometry_msgs/Point")(*x[:3]), turn)
            twist = kind("geometry_msgs/Twist")(vector(*x[:3]), vector(*x[3:6]))
            wrench = kind("geometry_msgs/Wrench")(vector(*x[:3]), vector(*x[3:6]))
            nine = np.zeros(9)
            moved = kind("geometry_msgs/Transform")(vector(*x[:3]), turn)
            placed = kind("geometry_msgs/TransformStamped")(head, "tool", moved)
            bag.write("/ee_pose", ns, kind("geometry_msgs/PoseStamped")(head, pose))
            bag.write("/ee_twist", ns, kind("geometry_msgs/TwistStamped")(head, twist))
            bag.write("/ft", ns, kind("geometry_msgs/WrenchStamped")(head, wrench))
            bag.write(
                "/imu", ns, kind("sensor_msgs/Imu")(head, turn, nine, vector(*x[:3]), nine, vector(*x[3:6]), nine)
            )
            bag.write("/tf", ns, kind("tf2_msgs/TFMessage" if compression == "none" else "tf/tfMessage")([placed]))
            roi = kind("sensor_msgs/RegionOfInterest")(0, 0, 0, 0, False)
            info = (head, 16, 16, "plumb_bob", np.arange(5.0), np.arange(9.0), nine, np.zeros(12), 0, 0, roi)
            bag.write("/cam/camera_info", ns, kind("sensor_msgs/CameraInfo")(*info))
            bag.write("/joint_states", ns, joint_state(ns, x[:7]))
            late = ns + (40_000_000 if i % 4 == 0 else 0)
            payload = {
                "/cam/image_raw/compressed": jpeg(i, 16),
                "/wrist/image_raw": rng.integers(0, 255, (12, 16, 3), np.uint8).tobytes(),
                "/depth/image_raw": rng.integers(0, 5000, (12, 16), np.uint16).tobytes(),
            }
            for topic, data in payload.items():
                stored[topic].append(data)
                values = np.frombuffer(data, np.uint8)
                if topic.endswith("compressed"):
                    message = kind("sensor_msgs/CompressedImage")(head, "jpeg", values)
                else:
                    bgr = topic.startswith("/wrist")
                    size = (12, 16, "bgr8" if bgr else "16UC1", 0, 48 if bgr else 32)
                    message = kind("sensor_msgs/Image")(head, *size, values)
                bag.write(topic, late, message)
        bag.write("/instruction", START_NS, kind("std_msgs/String")("fold the towel"))
    return stored


@pytest.mark.parametrize("compression", ["none", "lz4"])
def test_every_type_and_every_image(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "a.bag"
    stored = write_every_type(path, 20, compression)
    recording = read(path)
    columns = {n: b.column(n) for b in recording.streams.values() for n in b.schema.names}

    def flat(topic: str, *paths: str) -> list[list[float]]:
        return [[attrgetter(one)(m) for one in paths] for _, m in by_rosbags(path, topic)]

    for column, topic, before, parts in (
        ("observation.pose.ee_pose", "/ee_pose", "pose.", ("position.xyz", "orientation.xyzw")),
        ("observation.twist.ee_twist", "/ee_twist", "twist.", ("linear.xyz", "angular.xyz")),
        ("observation.wrench.ft", "/ft", "wrench.", ("force.xyz", "torque.xyz")),
        ("observation.imu_orientation.imu", "/imu", "", ("orientation.xyzw",)),
        ("observation.imu_angular_velocity.imu", "/imu", "", ("angular_velocity.xyz",)),
        ("observation.imu_linear_acceleration.imu", "/imu", "", ("linear_acceleration.xyz",)),
    ):
        paths = [f"{before}{part.partition('.')[0]}.{axis}" for part in parts for axis in part.partition(".")[2]]
        assert columns[column].to_pylist() == flat(topic, *paths), column
    transforms = [m.transforms[0].transform for _, m in by_rosbags(path, "/tf")]
    wanted = [
        [*(getattr(t.translation, a) for a in "xyz"), *(getattr(t.rotation, a) for a in "xyzw")] for t in transforms
    ]
    assert columns["observation.tf.tool"].to_pylist() == wanted
    assert [said.text for said in recording.utterances] == ["fold the towel"]
    assert recording.cameras["cam"].intrinsics == tuple(range(9)) and recording.cameras["cam"].width == 16
    logged = [i for _, i in sorted((i * PERIOD_NS + (40_000_000 if i % 4 == 0 else 0), i) for i in range(20))]
    for camera, topic in (
        ("cam", "/cam/image_raw/compressed"),
        ("wrist", "/wrist/image_raw"),
        ("depth", "/depth/image_raw"),
    ):
        ref = recording.videos[camera]
        assert isinstance(ref, ImageRef) and ref.count == 20 and ref.depth == (camera == "depth")
        shown = loader.read_images(ref, range(20))
        frames = recording.streams[f"video.{camera}"]
        at = frames.column("index").to_pylist()
        assert [frames.column("timestamp_ns")[k].as_py() for k in range(20)] == [
            START_NS + i * PERIOD_NS for i in logged
        ]
        for place, i in zip(at, logged, strict=True):
            if camera == "cam":
                assert shown[place] == stored[topic][i]
                continue
            pixels = np.asarray(Image.open(io.BytesIO(shown[place])))
            raw = np.frombuffer(stored[topic][i], np.uint8 if camera == "wrist" else np.uint16)
            expected = raw.reshape(12, 16, 3)[:, :, ::-1] if camera == "wrist" else raw.reshape(12, 16)
            np.testing.assert_array_equal(pixels, expected)
    with pytest.raises(IndexError, match="image 20 of /cam/image_raw/compressed, which has 20"):
        loader.read_images(recording.videos["cam"], [20])  # type: ignore[arg-type]
    data = bytearray(path.read_bytes())
    path.write_bytes(data[: len(data) // 3])
    with pytest.raises(Unreadable, match=r"image 1. of /cam/image_raw/compressed: .*copy or record the file again"):
        loader.read_images(recording.videos["cam"], [12])  # type: ignore[arg-type]


def test_a_mapping_is_guessed_from_the_first_chunks(tmp_path: Path) -> None:
    path = tmp_path / "a.bag"
    write_joints(path, COUNT)
    assert rosbag1.guess(path).topics.columns["observation.state"] == (TopicField("/joint_states", "position"),)


def test_the_kuka_bag_is_as_rosbags_reads_it(robot_data: Path) -> None:
    path = robot_data / "ros1/kuka_honeypot_test.bag"
    recording, messages = read(path), by_rosbags(path)
    batch = recording.streams["observation.state"]
    assert batch.num_rows == len(messages) == 4101
    np.testing.assert_array_equal(positions(recording), [m.position for _, m in messages])
    np.testing.assert_array_equal(column_matrix(batch, "observation.effort"), [m.effort for _, m in messages])
    stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for _, m in messages]
    assert batch.column("timestamp_ns").to_pylist() == stamps
    assert batch.column("log_time_ns.observation.state").to_pylist() == [ns for ns, _ in messages]
