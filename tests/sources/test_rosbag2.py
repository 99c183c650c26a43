"""db3 bags written with sqlite3 alone: the same recordings as MCAP's, images, and what is broken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.bag_files import START_NS, STEP_NS, Message, header, joints, jpeg, write_db3, write_mcap
from tests.sources.test_mcap import LEAD, STATE, T, found, values
from transforms.arrays import column_matrix
from transforms.conventions import Embodiment, Source
from transforms.episode import ImageRef, Recording
from transforms.loader import FORMATS, plan, read_images
from transforms.stage import Unreadable


def load(path: Path) -> Recording:
    source = Source("b", str(path))
    (ref,) = plan(source, fail_fast=True)
    assert ref.problem is None, ref.problem
    recording: Recording = FORMATS[ref.format].read(ref, source, Embodiment())
    return recording


def messages() -> list[Message]:
    out = [m for pair in zip(joints(STATE, values(1), full=True), joints(LEAD, values(2)), strict=True) for m in pair]
    for i in range(5):
        stamp = START_NS + STEP_NS * i
        shown = {"header": header(stamp), "format": "jpeg", "data": jpeg(50 * i)}
        out.append(Message("/front/image/compressed", "sensor_msgs/msg/CompressedImage", stamp, shown))
    return out


@pytest.mark.parametrize("share", [0.3, 0.47, 0.6, 0.83])
def test_rows_of_a_page_that_is_cut_are_left_out(tmp_path: Path, share: float) -> None:
    state = values(1, 400)
    path = write_db3(tmp_path / "a.db3", joints(STATE, state))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share) // 512 * 512 + 100])
    recording = load(path)
    read = column_matrix(recording.streams["observation.state"], "observation.state")
    assert read is not None and len(read) > 400 * share - 100
    np.testing.assert_array_equal(read, state[: len(read)])


@pytest.mark.parametrize("definitions", [True, False])
def test_a_db3_is_the_recording_that_an_mcap_file_of_the_same_messages_is(tmp_path: Path, definitions: bool) -> None:
    theirs = load(write_mcap(tmp_path / "m/a.mcap", messages()))
    ours = load(write_db3(tmp_path / "d/a.db3", messages(), definitions))
    assert ours.format == "rosbag2" and ours.recording_id == theirs.recording_id
    assert ours.streams == theirs.streams
    assert [replace(f) for f in ours.findings] == list(theirs.findings)
    (left,), (right,) = ours.videos.values(), theirs.videos.values()
    assert isinstance(left, ImageRef) and left.content_hash == right.content_hash
    assert read_images(left, [4, 1]) == [jpeg(200), jpeg(50)]
    with pytest.raises(IndexError, match=r"a\.db3: image 5 is outside its 5"):
        read_images(left, [5])


def test_a_folder_of_two_files_and_messages_that_are_gone(tmp_path: Path) -> None:
    whole = messages()
    write_db3(tmp_path / "bag/bag_0.db3", whole[:40])
    write_db3(tmp_path / "bag/bag_1.db3", whole[40:])
    (tmp_path / "bag/metadata.yaml").write_text(
        f"rosbag2_bagfile_information:\n  message_count: {len(whole) + 7}\n  duration: {{nanoseconds: 600000000}}\n"
        "  relative_file_paths: [bag_0.db3, bag_1.db3]\n"
    )
    recording = load(tmp_path)
    assert recording.recording_id == "b/bag"
    np.testing.assert_array_equal(column_matrix(recording.streams["observation.state"], "observation.state"), values(1))
    ((count, detail),) = found(recording, "integrity.lost_messages")
    assert count == 7 and f"metadata.yaml says {len(whole) + 7} messages, {len(whole)} are whole" in detail
    assert found(recording, "integrity.lost_s") == [
        (pytest.approx(0.6 - (T - 1) * STEP_NS / 1e9), "metadata.yaml says 0.6 s, what is whole lasts 0.58 s")
    ]


def test_other_databases_and_broken_ones(tmp_path: Path) -> None:
    import sqlite3

    with sqlite3.connect(tmp_path / "notes.sqlite") as database:
        database.execute("create table notes(id integer)")
    (tmp_path / "none.db3").write_bytes(b"")
    (tmp_path / "text.db3").write_bytes(b"hello, this is text")
    cut = write_db3(tmp_path / "cut.db3", messages())
    cut.write_bytes(cut.read_bytes()[:90])
    renamed = (tmp_path / "notes.db3").write_bytes((tmp_path / "notes.sqlite").read_bytes())
    assert renamed
    problems = {}
    for path in sorted(tmp_path.iterdir()):
        (ref,) = plan(Source("b", str(path)))
        if ref.problem is None:
            with pytest.raises(Unreadable) as caught:
                FORMATS[ref.format].read(ref, Source("b", str(path)), Embodiment())
            problems[path.name] = (caught.value.problem.rule, caught.value.problem.detail)
        else:
            problems[path.name] = (ref.problem.rule, ref.problem.detail)
    assert {name: rule for name, (rule, _) in problems.items()} == {
        "none.db3": "empty",
        "text.db3": "wrong_format",
        "notes.db3": "wrong_format",
        "notes.sqlite": "unknown_format",
        "cut.db3": "corrupt",
    }
    assert "notes.db3 is no ROS 2 bag: it has no table messages or topics" in problems["notes.db3"][1]
    assert "cannot be read" in problems["cut.db3"][1]


def test_a_database_cut_in_its_rows_keeps_what_is_whole(tmp_path: Path) -> None:
    state = values(1, 400)
    path = write_db3(tmp_path / "a.db3", joints(STATE, state))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    recording = load(path)
    read = column_matrix(recording.streams["observation.state"], "observation.state")
    assert read is not None and 100 < len(read) < 300
    np.testing.assert_array_equal(read, state[: len(read)])
    ((_, detail),) = found(recording, "integrity.chunk")
    assert f"a.db3: {STATE} cannot be read on (database disk image is malformed)" in detail


def test_no_message(tmp_path: Path) -> None:
    path = write_db3(tmp_path / "a.db3", joints(STATE, values(1))[:1])
    import sqlite3

    with sqlite3.connect(path) as database:
        database.execute("delete from messages")
    source = Source("b", str(path))
    (ref,) = plan(source)
    with pytest.raises(Unreadable, match=r"a\.db3 holds no message"):
        FORMATS["rosbag2"].read(ref, source, Embodiment())
