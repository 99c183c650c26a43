from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.factories import motion, write_isaac
from transforms.arrays import column_matrix
from transforms.conventions import Embodiment, Source
from transforms.episode import ImageRef, RecordingRef
from transforms.loader import MultimodalLoader
from transforms.media import MediaDecoder
from transforms.sources import isaac_hdf5
from transforms.sources.isaac_cameras import depth_mm
from transforms.stage import Unreadable

ROBOT = Embodiment(rate_hz=20.0)


def source_of(path: Path, **values: Any) -> Source:
    return replace(Source("i", str(path), "isaac_hdf5"), **values)


def plan(path: Path, **values: object) -> list[RecordingRef]:
    return list(isaac_hdf5.plan(source_of(path, **values), path))


def rule_of(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(Unreadable) as caught:
        call()
    return caught.value.problem.rule, caught.value.problem.detail


@pytest.fixture()
def path(tmp_path: Path) -> Path:
    write_isaac(tmp_path / "a.hdf5", {10: motion(0), 2: motion(1), 0: motion(2)})
    return tmp_path / "a.hdf5"


def test_demos_sort_as_numbers_and_gaps_are_named(path: Path) -> None:
    assert isaac_hdf5.detect(path)
    refs = plan(path)
    assert [ref.recording_id for ref in refs] == ["i/a/000000", "i/a/000002", "i/a/000010"]
    assert all(ref.problem is None and str(path.parent) not in ref.recording_id for ref in refs)
    for ref in refs:
        (gap,) = ref.findings
        assert (gap.check, gap.value, gap.unit) == ("metadata.demo_numbers", 8.0, "demos")
        assert gap.detail == "demo numbers run to 10 and 8 are not in the file (1, 3, 4, 5, 6, 7, 8, 9)"


def test_columns_names_types_and_time(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        demo = file["data/demo_2"]
        demo["rewards"] = np.linspace(0, 1, 40)
        demo["dones"] = np.arange(40) == 39
        demo["next_obs/eef_pos"] = np.ones((40, 3), "f8")
        demo["obs/pose"] = np.arange(40 * 6).reshape(40, 2, 3)
        demo["obs/mode"] = ["idle"] * 40
        demo["initial_state/articulation/robot/root_pose"] = np.array([[0, 0, 0, 1, 0, 0, 0]], "f4")
    recording = isaac_hdf5.read(plan(path)[1], source_of(path), ROBOT)
    steps = recording.streams["steps"]
    assert steps.num_rows == 40
    kinds = {field.name: str(field.type) for field in steps.schema}
    assert kinds["action"] == "fixed_size_list<item: float>[8]"
    assert kinds["states.articulation.robot.joint_position"] == "fixed_size_list<item: float>[9]"
    assert kinds["observation.pose"] == "fixed_size_list<item: int64>[6]"
    assert kinds["next_observation.eef_pos"] == "fixed_size_list<item: double>[3]"
    assert (kinds["reward"], kinds["dones"], kinds["observation.mode"]) == ("double", "bool", "string")
    assert steps.column("timestamp_ns").to_pylist()[:3] == [0, 50_000_000, 100_000_000]
    assert steps.column("frame_index").to_pylist() == list(range(40))
    with h5py.File(path) as file:
        raw = file["data/demo_2/obs/eef_pos"][()]
    np.testing.assert_array_equal(column_matrix(steps, "observation.eef_pos"), raw)
    assert json.loads(recording.attributes["initial_state.articulation.robot.root_pose"]) == [0, 0, 0, 1, 0, 0, 0]
    assert json.loads(recording.attributes["env_args"]) == {"env_name": "Toy-Franka-v0", "type": 2}
    assert recording.success is True and recording.explicit


def test_without_a_rate_time_is_null(path: Path) -> None:
    recording = isaac_hdf5.read(plan(path)[0], source_of(path), Embodiment())
    assert recording.streams["steps"].column("timestamp_ns").null_count == 40


def test_metadata_that_disagrees_is_reported(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["data"].attrs["total"] = 500
        file["data/demo_2"].attrs["num_samples"] = 45
    refs = plan(path)
    total, _ = refs[0].findings
    assert (total.check, total.value, total.unit) == ("metadata.total", 375.0, "steps") and "500" in total.detail
    found = {f.check: f for f in isaac_hdf5.read(refs[1], source_of(path), ROBOT).findings}
    assert found["metadata.num_samples"].value == 5.0 and "45" in found["metadata.num_samples"].detail
    assert "metadata.total" in found


def test_robomimic_masks_dones_and_instruction(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["mask/train"] = np.array([b"demo_0", b"demo_2", b"demo_7"])
        file["mask/valid"] = np.array([b"demo_10", b"demo_2"])
        for number, reward in ((0, 1.0), (2, 0.0)):
            demo = file[f"data/demo_{number}"]
            del demo.attrs["success"]
            demo["dones"] = (np.arange(40) == 39).astype(int)
            demo["rewards"] = np.full(40, reward)
            demo.attrs["ep_meta"] = json.dumps({"lang": "stack the cubes"})
    refs = plan(path)
    assert [(r.recording_id[-6:], r.split) for r in refs] == [
        ("000000", "train"),
        ("000002", "train"),
        ("000010", "valid"),
        ("000007", "train"),
    ]
    assert refs[3].problem is not None and refs[3].problem.rule == "declared_absent"
    assert "demo_7" in refs[3].problem.detail
    assert [f.check for f in refs[0].findings] == ["metadata.demo_numbers", "metadata.mask_overlap"]
    assert [r.recording_id[-6:] for r in plan(path, splits=("valid",))] == ["000002", "000010"]
    first, second = (isaac_hdf5.read(ref, source_of(path), ROBOT) for ref in refs[:2])
    assert (first.success, second.success) == (True, False)
    assert first.utterances[0].text == "stack the cubes"


def test_a_split_that_does_not_exist(path: Path) -> None:
    (ref,) = plan(path, splits=("test",))
    assert ref.problem is not None and ref.problem.rule == "absent" and "'test'" in ref.problem.detail


def test_images_are_lossless_and_counted(path: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 16, 24, 3), dtype=np.uint8)
    depth = np.random.default_rng(1).uniform(0.2, 3.0, (40, 16, 24, 1)).astype("f4")
    depth[3, 0, 0] = np.inf
    with h5py.File(path, "r+") as file:
        demo = file["data/demo_0"]
        demo["obs/table_cam"] = pixels
        demo.create_dataset("obs/packed", data=pixels, chunks=(1, 16, 24, 3), compression="gzip")
        demo["obs/wrist_depth"] = depth
        demo["obs/sensor_depth"] = np.full((40, 16, 24), 7, "u2")
    metres = replace(ROBOT, depth_unit="m")
    recording = isaac_hdf5.read(plan(path)[0], source_of(path), metres)
    assert sorted(recording.videos) == ["packed", "sensor_depth", "table_cam", "wrist_depth"]
    plain, packed, wrist = (recording.videos[name] for name in ("table_cam", "packed", "wrist_depth"))
    assert isinstance(plain, ImageRef) and isinstance(packed, ImageRef) and isinstance(wrist, ImageRef)
    assert plain.count == 40 and not plain.depth and wrist.depth
    assert plain.content_hash == packed.content_hash != wrist.content_hash
    with MediaDecoder() as media:
        (chunk,) = media.decode_images(isaac_hdf5.read_images(plain, [5, 2, 5]))
        np.testing.assert_array_equal(chunk.frames, pixels[[5, 2, 5]])
        (chunk,) = media.decode_images(isaac_hdf5.read_images(wrist, [3]), depth=True)
    expected = np.round(depth[3, :, :, 0].astype(float) * 1000)
    expected[0, 0] = 0
    np.testing.assert_array_equal(chunk.frames[0], expected)
    with pytest.raises(IndexError, match="frame 40 is outside its 40 frames"):
        isaac_hdf5.read_images(plain, [40])


def test_depth_without_a_unit_is_not_read(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["data/demo_0/obs/depth"] = np.ones((40, 16, 16), "f4")
    recording = isaac_hdf5.read(plan(path)[0], source_of(path), ROBOT)
    (finding,) = (f for f in recording.findings if f.check == "metadata.depth_unit")
    assert finding.status == "not_run" and "depth_unit: m | mm" in finding.detail
    assert recording.videos == {}


def test_depth_in_millimetres() -> None:
    values = np.array([0.5, 1.2344, np.nan, -1.0, 65.535, 65.536])
    assert depth_mm(values, 1000.0).tolist() == [500, 1234, 0, 0, 65535, 0]


def test_nan_is_kept(tmp_path: Path) -> None:
    q = motion(0)
    q[3, 1] = np.nan
    write_isaac(tmp_path / "a.hdf5", {0: q})
    steps = isaac_hdf5.read(plan(tmp_path / "a.hdf5")[0], source_of(tmp_path), ROBOT).streams["steps"]
    values = column_matrix(steps, "states.articulation.robot.joint_position")
    assert values is not None and np.isnan(values[3, 1]) and np.isfinite(values[4]).all()


def spoil(path: Path, how: str) -> None:
    with h5py.File(path, "r+") as file:
        demo = file["data/demo_2"]
        if how == "shape_changed":
            del demo["obs/eef_pos"]
            demo["obs/eef_pos"] = np.zeros((11, 3))
        elif how == "empty":
            for name in list(demo):
                del demo[name]
            demo["actions"] = np.zeros((0, 7))
        elif how == "no_dataset":
            for name in list(demo):
                del demo[name]
        elif how == "absurd":
            demo.create_dataset("obs/huge", shape=(40, 1 << 30), dtype="f4")
        elif how == "absurd_packed":
            demo.create_dataset("obs/huge", shape=(40, 1 << 34), dtype="f4", chunks=(1, 1 << 20), compression="gzip")
        elif how == "external":
            demo["obs/other"] = h5py.ExternalLink("/etc/hostname", "/x")
        elif how == "external_data":
            demo.create_dataset("obs/other", (40,), "u1", external=[("/etc/hostname", 0, 40)])
        elif how == "loop":
            demo["obs/again"] = demo["obs"]


@pytest.mark.parametrize(
    ("how", "rule", "words"),
    [
        ("shape_changed", "shape_changed", "obs/eef_pos 11 rows, and 40 rows"),
        ("empty", "empty", "0 steps"),
        ("no_dataset", "empty", "holds no step"),
        ("absurd", "absurd_size", "(40, 1073741824)"),
        ("absurd_packed", "absurd_size", "obs/huge declares"),
        ("external", "corrupt", "obs/other links to another file"),
        ("external_data", "corrupt", "keeps its data in another file"),
        ("loop", "corrupt", "nest more than 16 deep"),
    ],
)
def test_a_spoilt_demo_harms_no_neighbour(path: Path, how: str, rule: str, words: str) -> None:
    spoil(path, how)
    refs = plan(path)
    found, detail = rule_of(lambda: isaac_hdf5.read(refs[1], source_of(path), ROBOT))
    assert found == rule and words in detail and "a.hdf5 data/demo_2" in detail
    for ref in (refs[0], refs[2]):
        assert isaac_hdf5.read(ref, source_of(path), ROBOT).streams["steps"].num_rows == 40


def test_a_flipped_group_harms_no_neighbour(path: Path) -> None:
    with h5py.File(path) as file:
        address = h5py.h5o.get_info(file["data/demo_2/obs"].id).addr
    data = bytearray(path.read_bytes())
    data[address] ^= 0xFF
    path.write_bytes(data)
    refs = plan(path)
    rule, detail = rule_of(lambda: isaac_hdf5.read(refs[1], source_of(path), ROBOT))
    assert rule == "corrupt" and "data/demo_2" in detail
    assert isaac_hdf5.read(refs[0], source_of(path), ROBOT).streams["steps"].num_rows == 40


def test_a_flipped_header_is_a_problem_of_its_demo(path: Path) -> None:
    with h5py.File(path) as file:
        address = h5py.h5o.get_info(file["data/demo_2"].id).addr
    data = bytearray(path.read_bytes())
    data[address] ^= 0xFF
    path.write_bytes(data)
    refs = plan(path)
    assert [ref.problem is None for ref in refs] == [True, False, True]
    assert refs[1].problem is not None and refs[1].problem.rule == "corrupt"
    assert "data/demo_2: its header cannot be read" in refs[1].problem.detail


@pytest.mark.parametrize(
    ("content", "rule", "words"),
    [
        (None, "truncated", "is cut off at"),
        (b"", "empty", "0 bytes"),
        (b"plain text", "wrong_format", "does not begin as HDF5"),
        (b"\x89HDF\r\n\x1a\n" + b"\xff" * 200, "corrupt", "cannot be opened"),
    ],
)
def test_a_broken_file_is_one_input_with_its_problem(path: Path, content: bytes | None, rule: str, words: str) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content is None else content)
    (ref,) = plan(path)
    assert ref.problem is not None and ref.problem.rule == rule
    assert words in ref.problem.detail and str(path) in ref.problem.detail


def test_hdf5_of_another_kind(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "aloha.hdf5", "w") as file:
        file["action"] = np.zeros((5, 14))
    assert not isaac_hdf5.detect(tmp_path / "aloha.hdf5")
    (ref,) = plan(tmp_path / "aloha.hdf5")
    assert ref.problem is not None and ref.problem.rule == "wrong_format" and "it has action" in ref.problem.detail


def test_data_without_a_demo_and_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    assert rule_of(lambda: plan(tmp_path / "none"))[0] == "empty"
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_group("data")
    (ref,) = plan(tmp_path / "a.hdf5")
    assert ref.problem is not None and ref.problem.rule == "empty" and "no demo_N" in ref.problem.detail


def test_a_file_that_vanished_and_a_required_column(path: Path) -> None:
    ref = plan(path)[0]
    rule, detail = rule_of(lambda: isaac_hdf5.read(ref, source_of(path, required=("observation.force",)), ROBOT))
    assert rule == "required_missing" and "observation.force" in detail and "observation.eef_pos" in detail
    path.unlink()
    assert rule_of(lambda: isaac_hdf5.read(ref, source_of(path), ROBOT))[0] == "absent"


@settings(max_examples=15, deadline=None)
@given(st.sets(st.integers(0, 2000), min_size=1, max_size=5), st.integers(1, 6))
def test_every_demo_on_disk_is_planned_once_in_order(
    tmp_path_factory: pytest.TempPathFactory, numbers: set[int], steps: int
) -> None:
    path = tmp_path_factory.mktemp("h5") / "a.hdf5"
    write_isaac(path, {n: motion(n, steps) for n in sorted(numbers, reverse=True)})
    refs = plan(path)
    assert [ref.recording_id for ref in refs] == [f"i/a/{n:06d}" for n in sorted(numbers)]
    for ref, number in zip(refs, sorted(numbers), strict=True):
        values = column_matrix(
            isaac_hdf5.read(ref, source_of(path), ROBOT).streams["steps"], "states.articulation.robot.joint_position"
        )
        assert values is not None
        np.testing.assert_array_equal(values[:, :7].astype("f4"), motion(number, steps).astype("f4"))


def test_a_file_that_is_being_written(path: Path) -> None:
    script = "import h5py, sys, time; f = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == b"open\n"
        (ref,) = plan(path)
        writer.kill()
    assert ref.problem is not None and ref.problem.rule == "unreadable" and "open for writing" in ref.problem.detail


def test_in_a_pipeline(path: Path) -> None:
    def check(recordings: list[object]) -> None:
        assert sorted(r.recording_id for r in recordings) == ["i/a/000000", "i/a/000002", "i/a/000010"]  # type: ignore[attr-defined]

    with TestPipeline(runner=FnApiRunner()) as pipeline:
        assert_that(pipeline | MultimodalLoader([source_of(path, embodiment="toy")], {"toy": ROBOT}), check)


@pytest.mark.parametrize(
    ("name", "numbers", "steps", "total"),
    [
        ("dataset", [0, 1, 2, 6, 8, 9, 12, 13, 14, 16], 2163, 3901),
        ("generated_dataset_small", list(range(10)), 2328, None),
    ],
)
def test_real_files(robot_data: Path, name: str, numbers: list[int], steps: int, total: int | None) -> None:
    path = robot_data / f"isaaclab_hdf5/{name}.hdf5"
    refs = plan(path)
    assert [int(ref.recording_id[-6:]) for ref in refs] == numbers
    found = [finding.check for ref in refs for finding in ref.findings]
    assert found == ["metadata.total", "metadata.demo_numbers"] * (10 if total else 0)
    recordings = [isaac_hdf5.read(ref, source_of(path), ROBOT) for ref in refs]
    assert sum(r.streams["steps"].num_rows for r in recordings) == steps
    last = recordings[-1].streams["steps"]
    with h5py.File(path) as file:
        demo = file[f"data/demo_{numbers[-1]}"]
        for column, place in (("action", "actions"), ("observation.joint_pos", "obs/joint_pos")):
            np.testing.assert_array_equal(column_matrix(last, column), demo[place][()])
    assert all(r.success for r in recordings)
