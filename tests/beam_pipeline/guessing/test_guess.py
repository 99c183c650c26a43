"""What is guessed of data sets: names and rates that are stored, never a unit, a limit or a gripper's ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from beam_pipeline.config import PipelineConfig
from beam_pipeline.guessing.guess import GuessedConfig, NothingToCurate, guess_config, render, summary
from beam_pipeline.guessing.yaml_text import flow, scalar
from tests.factories import motion, rlds_example, write_isaac, write_lerobot_v21, write_rlds, write_video
from transforms.conventions import ActionColumns, ColumnSlice, Embodiment, JointColumns

SO101 = [f"{name}.pos" for name in ("shoulder_pan", "wrist_roll", "a", "b", "c", "d", "gripper")]


def named(root: Path, state: object, action: object = None) -> Path:
    """A LeRobot set whose state and action, 7 wide, have these element names."""
    write_lerobot_v21(root, {0: motion(0)}, video=False)
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["observation.state"]["names"] = state
    info["features"]["action"]["names"] = action
    (root / "meta/info.json").write_text(json.dumps(info))
    return root


def loaded(guessed: GuessedConfig, folder: Path) -> PipelineConfig:
    (folder / "config.yaml").write_text(render(guessed))
    return PipelineConfig.load(folder / "config.yaml")


def robot(root: Path) -> Embodiment:
    (one,) = guess_config([str(root)]).sources
    return one.robot.embodiment


def test_joints_by_their_names_and_goal_positions(tmp_path: Path) -> None:
    guessed = guess_config([str(named(tmp_path / "set", SO101, SO101))])
    names = ("shoulder_pan", "wrist_roll", "a", "b", "c", "d")
    expected = Embodiment(
        rate_hz=20,
        joints=JointColumns(names, ColumnSlice("observation.state", 0, 6)),
        action=ActionColumns("absolute_joint"),
    )
    assert loaded(guessed, tmp_path).embodiments == {"toy": expected}
    told = list(summary(guessed))
    assert told[0] == f"source set: lerobot, 1 recordings, {tmp_path}/set"
    assert "  guessed     joints: 6 names of the elements of observation.state" in told
    assert "  undeclared  gripper: element 6 ('gripper.pos') by its name, but not its values closed and open" in told
    assert "  undeclared  joints.unit and urdf: neither is stored; limits and velocities say not run" in told


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (None, "no names"),
        (["x", "y", "z", "roll", "pitch", "yaw", "gripper"], "elements such as 'x' look like a pose"),
        (["a", "b", "gripper", "c", "d", "e", "f"], "do not follow on one another"),
        (["a", "a", "b", "c", "d", "e", "f"], "names of the state's elements repeat"),
        (["a", "b"], "no names"),
    ],
)
def test_what_is_no_joint(tmp_path: Path, names: list[str] | None, why: str) -> None:
    guessed = guess_config([str(named(tmp_path / "set", names))])
    assert guessed.sources[0].robot.embodiment.joints is None
    assert any("joints: " in line and why in line for line in summary(guessed))


def test_same_names_alone_do_not_tell_the_kind_of_action(tmp_path: Path) -> None:
    names = [f"joint_{i}" for i in range(7)]
    assert robot(named(tmp_path / "set", [names], [names])).action.kind == "unknown"
    assert robot(named(tmp_path / "other", {"motors": names})).joints == JointColumns(
        tuple(names), ColumnSlice("observation.state", 0, 7)
    )


def test_hdf5_states_no_rate_and_its_joint_positions_are_the_state(tmp_path: Path) -> None:
    write_isaac(tmp_path / "a.hdf5", {0: motion(0)})
    guessed = guess_config([str(tmp_path / "a.hdf5")])
    assert guessed.sources[0].robot.embodiment == Embodiment(
        state=(ColumnSlice("states.articulation.robot.joint_position"),)
    )
    assert any("undeclared  rate_hz: neither a rate nor times are stored" in line for line in summary(guessed))


def test_each_format_of_a_folder_is_a_source(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_rlds(data / "r/1.0.0", [[rlds_example(0)]])
    write_lerobot_v21(data / "l", {0: motion(0)}, video=False)
    for name in "ab":
        write_isaac(data / f"mixed/{name}.hdf5", {0: motion(0)})
        write_video(data / f"mixed/day/{name}.mp4", 5)
    write_video(data / "mixed/c.mp4", 5)
    (data / "notes.txt").write_text("nothing")
    guessed = guess_config([str(data)])
    config = loaded(guessed, tmp_path)
    assert [(s.name, s.format, s.path.removeprefix(str(data) + "/")) for s in config.sources] == [
        ("l", "lerobot", "l"),
        ("mixed", "isaac_hdf5", "mixed"),
        ("mixed_2", "video", "mixed/**/*.mp4"),
        ("r", "rlds", "r"),
    ]
    assert guessed.left_out == (data / "notes.txt",)
    assert f"left out, as no reader knows them: {data}/notes.txt" in list(summary(guessed))
    assert f"# Left out, as no reader knows them: {data}/notes.txt" in render(guessed)


def test_one_robot_is_declared_once_and_two_of_one_name_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        named(tmp_path / f"data/{name}", SO101)
    named(tmp_path / "data/c", None)
    guessed = guess_config([str(tmp_path / "data")])
    assert [one.source.embodiment for one in guessed.sources] == ["toy", "toy", "toy_of_c"]
    assert sorted(loaded(guessed, tmp_path).embodiments) == ["toy", "toy_of_c"]


def test_a_time_column_whose_name_states_its_unit(tmp_path: Path) -> None:
    write_video(tmp_path / "v/a.mp4", 5)
    (tmp_path / "v/a.csv").write_text("time_ms,q\n0,1\n50,2\n")
    (source,) = loaded(guess_config([str(tmp_path / "v")]), tmp_path).sources
    assert (source.path, source.time_column, source.time_unit) == (str(tmp_path / "v/a.mp4"), "time_ms", "ms")


def test_the_same_guess_gives_the_same_bytes_and_its_words_stay_in_comments(tmp_path: Path) -> None:
    root = named(tmp_path / "a set", SO101)
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps({**info, "robot_type": "evil\nsources: []"}))
    text = render(guess_config([str(root)]))
    assert text == render(guess_config([str(root)]))
    assert len(yaml.safe_load(text)["sources"]) == 1


def test_what_cannot_be_guessed(tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(NothingToCurate) as caught:
            guess_config([str(path)])
        return str(caught.value)

    assert refused(tmp_path / "gone") == f"there is nothing at {tmp_path}/gone; correct PATH"
    (tmp_path / "empty").mkdir()
    assert "it holds no file; `python -m beam_pipeline inspect`" in refused(tmp_path / "empty")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/notes.txt").write_text("nothing")
    assert f"no reader knows its content, such as {tmp_path}/odd/notes.txt" in refused(tmp_path / "odd")
    (tmp_path / "${HOME}").mkdir()
    assert "would be read as a variable" in refused(tmp_path / "${HOME}")


@pytest.mark.parametrize(
    "text", ["a", "yes", "null", "1.0", "1e3", "", "a: b", "a # b", 'quo"te', "ü", "- x", "2026-01-01"]
)
def test_text_comes_back_from_yaml(text: str) -> None:
    assert yaml.safe_load(f"k: {scalar(text)}") == {"k": text}
    assert yaml.safe_load(flow((text, {text: text}))) == [text, {text: text}]


@pytest.mark.parametrize(
    ("place", "format_", "joints", "kind"),
    [
        ("lerobot_v30_so101", "lerobot", 5, "absolute_joint"),
        ("lerobot_v21_g1", "lerobot", 26, "unknown"),
        ("gr00t/robot_sim.PickNPlace", "lerobot", 44, "unknown"),
        ("rlds", "rlds", 0, "unknown"),
        ("isaaclab_hdf5", "isaac_hdf5", 0, "unknown"),
        ("mcap_prismax/100/robot.left_camera.color.image_raw.mp4", "video", 0, "unknown"),
        ("mcap_prismax", "mcap", 0, "unknown"),
        ("ros1", "rosbag1", 0, "unknown"),
    ],
)
def test_published_recordings(
    robot_data: Path, tmp_path: Path, place: str, format_: str, joints: int, kind: str
) -> None:
    config = loaded(guess_config([str(robot_data / place)]), tmp_path)
    (source,), (embodiment,) = config.sources, config.embodiments.values()
    assert source.format == format_
    assert len(embodiment.joints.names if embodiment.joints else ()) == joints
    assert embodiment.action.kind == kind
    assert (source.topics is not None) == (format_ in ("mcap", "rosbag1"))
    assert embodiment.gripper is None and embodiment.urdf is None
    assert embodiment.joints is None or embodiment.joints.unit == "unknown"
