"""MCAP files that are no MCAP, cut, damaged or of another encoding: what is whole is read, and what is lost is said."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap.writer import CompressionType
from mcap.writer import Writer as PlainWriter

from tests.bag_files import DEFINITIONS, START_NS, STEP_NS, Serializer, joints, write_mcap
from tests.sources.test_mcap import STATE, found, load, values
from transforms.arrays import column_matrix
from transforms.conventions import Embodiment, Source, TopicField, Topics
from transforms.episode import Finding, Recording
from transforms.loader import plan
from transforms.sources import mcap
from transforms.stage import Unreadable

COUNT = 200


@pytest.fixture()
def bag(tmp_path: Path) -> Path:
    """200 messages in chunks of about 20."""
    return write_mcap(tmp_path / "a.mcap", joints(STATE, values(1, COUNT)), chunk_size=4000)


def chunks(path: Path) -> list[tuple[int, int, int, int]]:
    """Place, size, first and last ns of each chunk, as mcap reads them from the summary."""
    with path.open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    return [
        (c.chunk_start_offset, c.chunk_length, c.message_start_time, c.message_end_time) for c in summary.chunk_indexes
    ]


def lost(recording: Recording) -> dict[str, Finding]:
    return {f.check: f for f in recording.findings if f.check.startswith(("integrity.", "metadata.message"))}


def state_of(recording: Recording) -> np.ndarray:
    read = column_matrix(recording.streams["observation.state"], "observation.state")
    assert read is not None
    return read


def problem(path: Path) -> tuple[str, str]:
    """Rule and words of a file that cannot be read, at planning or at reading."""
    source = Source("b", str(path))
    (ref,) = plan(source)
    if ref.problem is not None:
        return ref.problem.rule, ref.problem.detail
    with pytest.raises(Unreadable) as caught:
        mcap.read(ref, source, Embodiment())
    return caught.value.problem.rule, caught.value.problem.detail


def test_no_mcap_empty_or_cut_in_the_magic(tmp_path: Path, bag: Path) -> None:
    for name, data, rule, words in (
        ("text", b"not a bag at all", "wrong_format", "text.mcap is not MCAP: it begins with b'not a ba'"),
        ("none", b"", "empty", "none.mcap is empty (0 bytes)"),
        ("magic", bag.read_bytes()[:5], "truncated", "magic.mcap is cut off after 5 bytes, in its magic"),
        (
            "header",
            bag.read_bytes()[:20],
            "truncated",
            "header.mcap: 20 bytes without a summary at the end; it is cut in",
        ),
    ):
        path = tmp_path / f"{name}.mcap"
        path.write_bytes(data)
        found_rule, detail = problem(path)
        assert found_rule == rule and words in detail, detail


def test_a_whole_bag_without_messages(tmp_path: Path) -> None:
    with (tmp_path / "a.mcap").open("wb") as file:
        writer = PlainWriter(file)
        writer.start("ros2", "test")
        writer.finish()
    assert problem(tmp_path / "a.mcap") == (
        "empty",
        "no message can be read: a.mcap is whole and without one; record it again or leave it out",
    )


def test_topics_of_which_nothing_is_made(tmp_path: Path) -> None:
    from tests.bag_files import Message

    text = Message("/log", "std_msgs/msg/String", START_NS, {"data": "hello"})
    rule, detail = problem(write_mcap(tmp_path / "a.mcap", [text]))
    assert rule == "empty" and "topics: /log (std_msgs/String, 1 messages)" in detail and "topics:`" in detail


@pytest.mark.parametrize("compression", [CompressionType.NONE, CompressionType.LZ4, CompressionType.ZSTD])
def test_cut_in_a_chunk(tmp_path: Path, compression: CompressionType) -> None:
    count = 9000
    state = values(1, count)
    path = write_mcap(tmp_path / "a.mcap", joints(STATE, state), compression, 2_000_000)
    ((at, size, _, end_ns),) = chunks(path)
    path.write_bytes(path.read_bytes()[: at + 9 + size // 2])
    recording = load(path)
    read = state_of(recording)
    assert 3000 < len(read) < 6000, "half of the chunk's bytes are about half of its messages"
    np.testing.assert_array_equal(read, state[: len(read)])
    said = lost(recording)
    assert f"cut in the chunk at byte {at}" in said["integrity.no_summary"].detail
    assert said["integrity.lost_messages"].value == pytest.approx(count - len(read), rel=0.01)
    assert "by its size; what followed it is not known" in said["integrity.lost_messages"].detail
    last = START_NS + (len(read) - 1) * STEP_NS + 5_000_000
    assert said["integrity.lost_s"].value == pytest.approx((end_ns - last) / 1e9)


def test_a_cut_chunk_of_which_nothing_can_be_decompressed_is_counted_by_its_size(bag: Path) -> None:
    places = chunks(bag)
    at, size, start_ns, end_ns = places[3]
    bag.write_bytes(bag.read_bytes()[: at + 9 + size // 3])
    recording = load(bag)
    said = lost(recording)
    whole = len(state_of(recording))
    assert whole == round((places[2][3] - places[0][2]) / STEP_NS) + 1
    lost_here = round((end_ns - start_ns) / STEP_NS) + 1
    assert said["integrity.lost_messages"].value == pytest.approx(lost_here, abs=1.5)
    assert said["integrity.lost_s"].value == pytest.approx((end_ns - start_ns) / 1e9)


def test_cut_between_chunks_what_is_lost_is_not_known(bag: Path) -> None:
    at, size, _, _ = chunks(bag)[3]
    bag.write_bytes(bag.read_bytes()[: at + size])
    recording = load(bag)
    whole = len(state_of(recording))
    assert 0 < whole < COUNT
    said = lost(recording)
    assert (said["integrity.lost_messages"].value, said["integrity.lost_messages"].status) == (None, "not_run")
    assert f"how many messages are lost is not known; {whole} are whole" in said["integrity.lost_messages"].detail
    assert said["integrity.lost_s"].status == "not_run"


def test_no_summary_of_a_recorder_that_was_killed(bag: Path) -> None:
    with bag.open("rb") as file:
        summary = make_reader(file).get_summary()
        assert summary is not None
        end = max(c.message_index_length + c.chunk_start_offset + c.chunk_length for c in summary.chunk_indexes)
    bag.write_bytes(bag.read_bytes()[:end])
    recording = load(bag)
    assert len(state_of(recording)) == COUNT
    assert "without a summary at the end" in lost(recording)["integrity.no_summary"].detail


def test_metadata_yaml_says_what_a_cut_bag_has_lost(tmp_path: Path) -> None:
    folder = tmp_path / "bag"
    path = write_mcap(folder / "bag_0.mcap", joints(STATE, values(1, COUNT)), chunk_size=4000)
    span = (COUNT - 1) * STEP_NS
    (folder / "metadata.yaml").write_text(
        f"rosbag2_bagfile_information:\n  message_count: {COUNT}\n  duration: {{nanoseconds: {span}}}\n"
        "  relative_file_paths: [bag_0.mcap]\n"
    )
    at, size, _, _ = chunks(path)[3]
    path.write_bytes(path.read_bytes()[: at + size])
    recording = load(folder)
    whole = len(state_of(recording))
    counted = [f for f in recording.findings if f.check == "integrity.lost_messages" and f.status == "measured"]
    assert [f.value for f in counted] == [COUNT - whole]
    assert f"metadata.yaml says {COUNT} messages, {whole} are whole" in counted[0].detail
    seconds = [f.value for f in recording.findings if f.check == "integrity.lost_s" and f.status == "measured"]
    assert seconds == [pytest.approx((COUNT - whole) * STEP_NS / 1e9)]


def test_a_wrong_crc_names_the_chunk(bag: Path) -> None:
    at, _, start_ns, end_ns = chunks(bag)[2]
    data = bytearray(bag.read_bytes())
    crc = at + 9 + 24
    data[crc : crc + 4] = struct.pack("<I", struct.unpack_from("<I", data, crc)[0] ^ 1)
    bag.write_bytes(bytes(data))
    recording = load(bag)
    said = lost(recording)
    detail = said["integrity.chunk"].detail
    assert f"the chunk at byte {at} ({start_ns} to {end_ns} ns" in detail and "its CRC is" in detail
    gone = round((end_ns - start_ns) / STEP_NS) + 1
    assert (said["integrity.lost_messages"].value, len(state_of(recording))) == (gone, COUNT - gone)
    assert said["integrity.lost_s"].value == pytest.approx((end_ns - start_ns) / 1e9)
    assert f"{COUNT} messages declared, {COUNT - gone} are whole" in said["integrity.lost_messages"].detail


def test_a_chunk_that_does_not_decompress_and_no_summary(bag: Path) -> None:
    places = chunks(bag)
    at, _, start_ns, end_ns = places[1]
    data = bytearray(bag.read_bytes())
    data[at + 60 : at + 90] = bytes(30)
    bag.write_bytes(bytes(data[: places[4][0]]))
    said = lost(load(bag))
    assert f"the chunk at byte {at}" in said["integrity.chunk"].detail
    assert "cannot be decompressed" in said["integrity.chunk"].detail or "CRC" in said["integrity.chunk"].detail
    assert said["integrity.lost_messages"].value == round((end_ns - start_ns) / STEP_NS) + 1
    assert "by the index of chunks that are damaged" in said["integrity.lost_messages"].detail


def test_an_absurd_chunk_is_not_allocated(bag: Path) -> None:
    at = chunks(bag)[0][0]
    data = bytearray(bag.read_bytes())
    data[at + 9 + 16 : at + 9 + 24] = struct.pack("<Q", 1 << 50)
    bag.write_bytes(bytes(data))
    assert f"it claims {1 << 50} bytes, more than the limit" in lost(load(bag))["integrity.chunk"].detail


def write_plain(path: Path, topics: list[tuple[str, str, str, str, bytes]], repeat: int = 3) -> Path:
    """Topic, message encoding, schema name, schema encoding and data; the JointState topic beside them."""
    serialize = Serializer()
    with path.open("wb") as file:
        writer = PlainWriter(file, compression=CompressionType.NONE)
        writer.start("ros2", "test")
        name = "sensor_msgs/msg/JointState"
        schema = writer.register_schema(name, "ros2msg", DEFINITIONS[name].encode())
        channel = writer.register_channel(STATE, "cdr", schema)
        for m in joints(STATE, values(1, 10)):
            writer.add_message(channel, m.log_ns, serialize(m), m.stamp_ns)
        for topic, encoding, name, schema_encoding, data in topics:
            text = DEFINITIONS.get(name, "syntax").encode()
            number = writer.register_channel(topic, encoding, writer.register_schema(name, schema_encoding, text))
            for i in range(repeat):
                writer.add_message(number, START_NS + i, data, START_NS + i)
        writer.finish()
    return path


def test_other_encodings_are_named_and_skipped(tmp_path: Path) -> None:
    others = [
        ("/json", "json", "thing", "jsonschema", b"{}"),
        ("/proto", "protobuf", "foxglove.Pose", "protobuf", b"\x08\x01"),
        ("/idl", "cdr", "pkg/msg/Thing", "ros2idl", b"\0\1\0\0"),
        (STATE, "cdr", "sensor_msgs/msg/Imu", "ros2msg", b"\0\1\0\0"),
    ]
    recording = load(write_plain(tmp_path / "a.mcap", others))
    assert len(state_of(recording)) == 10
    odd = "3 messages are left out: messages of encoding"
    assert sorted(found(recording, "metadata.message_encoding")) == [
        (3.0, f"{STATE}: 3 messages are left out: it is published as sensor_msgs/JointState and as sensor_msgs/Imu"),
        (3.0, f"/idl: {odd} 'cdr' with a schema of 'ros2idl'; cdr with ros2msg is read"),
        (3.0, f"/json: {odd} 'json' with a schema of 'jsonschema'; cdr with ros2msg is read"),
        (3.0, f"/proto: {odd} 'protobuf' with a schema of 'protobuf'; cdr with ros2msg is read"),
    ]


def test_a_topic_on_two_channels_is_one_stream(tmp_path: Path) -> None:
    more = joints(STATE, values(2, 1), start_ns=START_NS + 10 * STEP_NS)[0]
    name = "sensor_msgs/msg/JointState"
    path = write_plain(tmp_path / "a.mcap", [(STATE, "cdr", name, "ros2msg", Serializer()(more))], repeat=1)
    recording = load(path)
    assert len(state_of(recording)) == 11
    assert found(recording, "metadata.topic_repeated") == [
        (2.0, f"a.mcap: {STATE} is published on 2 channels, read as one")
    ]


def test_messages_that_are_none_of_their_type_are_counted(tmp_path: Path) -> None:
    name = "sensor_msgs/msg/JointState"
    path = write_plain(tmp_path / "a.mcap", [("/b/joint_states", "cdr", name, "ros2msg", b"\0\1\0\0" + b"\xff" * 40)])
    recording = load(path)
    ((count, detail),) = found(recording, "integrity.malformed")
    assert count == 3 and "/b/joint_states: 3 of 3 messages are no sensor_msgs/JointState" in detail
    assert len(state_of(recording)) == 10


def test_bytes_after_a_message_are_tolerated_and_named(tmp_path: Path) -> None:
    name = "sensor_msgs/msg/JointState"
    data = Serializer()(joints("/b", values(2, 1))[0]) + b"\xe4\x7f\0\0\xa0\0\0\x74"
    recording = load(write_plain(tmp_path / "a.mcap", [("/b/joint_states", "cdr", name, "ros2msg", data)]))
    assert found(recording, "metadata.trailing_bytes") == [
        (3.0, "/b/joint_states: 3 of 3 messages go on for 8 bytes after their end")
    ]


def test_a_mapping_of_what_is_not_there(bag: Path) -> None:
    columns = {
        "observation.state": (TopicField(STATE, "position"),),
        "action": (TopicField("/leader", "position"),),
        "observation.torque": (TopicField(STATE, "torque"),),
    }
    recording = load(bag, topics=Topics(columns))
    held = "header.stamp.nanosec, header.stamp.sec, position"
    assert sorted(detail for _, detail in found(recording, "metadata.topic_absent")) == [
        f"action: topic /leader is not in the file; topics with messages: {STATE}",
        f"observation.torque: no message of {STATE} holds 'torque'; they hold {held}",
    ]
    source = Source("b", str(bag), topics=Topics(columns), required=("action",))
    (ref,) = plan(source)
    with pytest.raises(Unreadable, match=r"a\.mcap lacks required \['action'\]") as caught:
        mcap.read(ref, source, Embodiment())
    assert caught.value.problem.rule == "required_missing"


def test_splits_and_folders_without_a_bag(tmp_path: Path, bag: Path) -> None:
    source = Source("b", str(tmp_path), "mcap", splits=("train",))
    (ref,) = plan(source)
    assert ref.problem is not None and ref.problem.rule == "absent" and "bags have no splits" in ref.problem.detail
    (tmp_path / "none").mkdir()
    (ref,) = plan(Source("b", str(tmp_path / "none"), "mcap"))
    assert ref.problem is not None and ref.problem.rule == "empty" and "holds no *.mcap file" in ref.problem.detail
    (ref,) = plan(replace(source, splits=()))
    bag.unlink()
    with pytest.raises(Unreadable, match=r"a\.mcap does not exist any more"):
        mcap.read(ref, source, Embodiment())


@pytest.mark.parametrize("wrong", ["columns", "clock"])
def test_a_mapping_that_says_nothing_is_refused(wrong: str) -> None:
    if wrong == "columns":
        with pytest.raises(ValueError, match="column 'action' of `topics` names no field"):
            Topics({"action": ()})
    else:
        with pytest.raises(
            ValueError, match=r"clock 'x' of `topics` is no column or video\.CAMERA of it; known: video\.front"
        ):
            Topics(cameras={"front": "/front"}, clock="x")
