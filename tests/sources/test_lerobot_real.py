"""Real data sets against values read from their raw files by other means than the reader's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sources.lerobot_files import named, plan, read
from transforms.episode import Recording, VideoRef


def steps(recording: Recording) -> dict[str, list]:  # type: ignore[type-arg]
    return recording.streams["steps"].to_pydict()


@pytest.fixture()
def gr00t(robot_data: Path) -> Path:
    return robot_data / "gr00t/robot_sim.PickNPlace"


def test_gr00t(gr00t: Path) -> None:
    refs = plan(gr00t)
    assert [ref.problem.rule if ref.problem else None for ref in refs] == [None] * 3 + ["declared_absent"] * 2
    about = {found.check: found.value for found in refs[0].findings}
    assert about == {"metadata.splits": 100, "metadata.total_videos": 2, "metadata.total_chunks": 0}
    recordings = [read(ref, gr00t) for ref in refs[:3]]
    assert [recording.streams["steps"].num_rows for recording in recordings] == [416, 470, 470]
    words = ["pear", "sweet potato", "meat"]
    for recording, word in zip(recordings, words, strict=True):
        assert [utterance.text for utterance in recording.utterances] == [
            f"pick the {word} from the counter and place it in the plate"
        ]
        (absent,) = named(recording.findings, "integrity.camera_absent")
        assert absent.detail.startswith("egoview: ")
        assert named(recording.findings, "timestamps.start_offset")[0].value == 0.049999952
        ref = recording.videos["ego_view"]
        assert isinstance(ref, VideoRef) and ref.origin_ns == 49_999_952
        assert recording.streams["video.ego_view"].num_rows == recording.streams["steps"].num_rows
        values = steps(recording)
        assert sum(values["reward"]) == 1.0 and values["reward"][-1] == 1.0
        assert (
            values["next.done"] == values["is_terminal"]
            and values["next.done"].index(True) == len(values["reward"]) - 1
        )
    assert steps(recordings[0])["timestamp_ns"][-1] == 20_799_980_164
    assert len(steps(recordings[0])["action"][0]) == 44


def test_g1(robot_data: Path) -> None:
    root = robot_data / "lerobot_v21_g1"
    refs = plan(root)
    assert len(refs) == 100
    assert [ref.recording_id for ref in refs if ref.problem is None] == ["s/train/000001", "s/train/000002"]
    assert {ref.problem.rule for ref in refs if ref.problem} == {"declared_absent"}
    one, two = (read(refs[i], root) for i in (1, 2))
    assert [recording.streams["steps"].num_rows for recording in (one, two)] == [393, 343]
    assert one.findings == two.findings == ()
    assert steps(one)["timestamp_ns"][-1] == 13_066_666_603  # float32 of 392 / 30
    assert one.utterances[0].text == "Pick up the yellow bottle on the table."
    ref = two.videos["cam_high"]
    assert isinstance(ref, VideoRef) and (ref.start_ns, ref.end_ns) == (0, 11_400_000_000)


def test_so101(robot_data: Path) -> None:
    root = robot_data / "lerobot_v30_so101"
    refs = plan(root)
    assert [ref.recording_id for ref in refs] == [f"s/train/{i:06d}" for i in range(4)]
    recordings = [read(ref, root) for ref in refs]
    assert [recording.streams["steps"].num_rows for recording in recordings] == [373, 374, 372, 373]
    for recording in recordings:
        assert recording.streams["steps"].num_rows == steps(recording)["frame_index"][-1] + 1
        assert [found.check for found in recording.findings] == ["integrity.camera_absent"] * 2
        assert recording.videos == {}
        assert recording.utterances[0].text == "Pick the orange cube and place it in the box"
    # meta/episodes states each episode's smallest action of the first joint: the rows must be that episode's
    assert min(row[0] for row in steps(recordings[2])["action"]) == pytest.approx(-34.53292465209961)
    assert min(row[0] for row in steps(recordings[3])["action"]) == pytest.approx(-34.839202880859375)
