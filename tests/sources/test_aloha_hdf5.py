from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from tests.aloha_files import arms, jpegs, scene, write_aloha
from tests.factories import motion, write_isaac
from transforms import formats, loader
from transforms.arrays import column_matrix
from transforms.conventions import Embodiment, Source
from transforms.episode import Finding, ImageRef, Recording, RecordingRef
from transforms.sources import aloha_hdf5
from transforms.stage import Unreadable

ROBOT = Embodiment(rate_hz=50.0)


def source_of(path: Path, **values: object) -> Source:
    return replace(Source("a", str(path), "aloha_hdf5"), **values)  # type: ignore[arg-type]


def plan(path: Path, **values: object) -> list[RecordingRef]:
    return list(aloha_hdf5.plan(source_of(path, **values), path))


def read(path: Path, **values: object) -> Recording:
    return aloha_hdf5.read(plan(path)[0], source_of(path, **values), ROBOT)


def found(recording: Recording) -> dict[str, Finding]:
    return {finding.check: finding for finding in recording.findings}


def rule_of(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(Unreadable) as caught:
        call()
    return caught.value.problem.rule, caught.value.problem.detail


def test_columns_and_raw_cameras(tmp_path: Path) -> None:
    path = tmp_path / "episode_3.hdf5"
    write_aloha(path, seed=3)
    with h5py.File(path, "r+") as file:
        file["base_action"] = np.arange(80.0).reshape(40, 2)
        file["instruction"] = "hand over the tape"
        file["observations/images_depth/cam_high"] = np.full((40, 24, 32), 700, "u2")
    assert aloha_hdf5.detect(path) and formats.detect(path) == "aloha_hdf5"
    recording = read(path)
    assert (recording.recording_id, recording.format, recording.explicit) == ("a/000003", "aloha_hdf5", True)
    steps = recording.streams["steps"]
    with h5py.File(path) as file:
        for name, place in (
            ("observation.state", "observations/qpos"),
            ("observation.velocity", "observations/qvel"),
            ("observation.effort", "observations/effort"),
            ("action", "action"),
            ("action.base", "base_action"),
        ):
            np.testing.assert_array_equal(column_matrix(steps, name), file[place][()])
    np.testing.assert_array_equal(column_matrix(steps, "observation.state"), arms(3, 40))
    assert steps.column("timestamp_ns").to_pylist()[:3] == [0, 20_000_000, 40_000_000]
    assert json.loads(recording.attributes["sim"]) is False
    assert [said.text for said in recording.utterances] == ["hand over the tape"]
    assert sorted(recording.videos) == ["cam_high", "cam_left_wrist", "images_depth.cam_high"]
    wrist, depth = recording.videos["cam_left_wrist"], recording.videos["images_depth.cam_high"]
    assert isinstance(wrist, ImageRef) and isinstance(depth, ImageRef)
    assert (wrist.count, wrist.depth, depth.depth) == (40, False, True)
    shown = loader.read_images(wrist, [7, 2])
    assert all(image.startswith(b"\x89PNG") for image in shown)
    pixels = [np.asarray(Image.open(io.BytesIO(image))) for image in shown]
    np.testing.assert_array_equal(pixels, scene(4, 40)[[7, 2]])
    assert found(recording) == {}


def test_padded_jpegs_keep_their_bytes_with_lengths_and_without(tmp_path: Path) -> None:
    hashes = []
    for lengths in (True, False):
        path = tmp_path / f"{lengths}/episode_0.hdf5"
        write_aloha(path, seed=1, compress=True, lengths=lengths)
        recording = read(path)
        for index, name in enumerate(("cam_high", "cam_left_wrist")):
            ref = recording.videos[name]
            assert isinstance(ref, ImageRef) and ref.count == 40
            stored = jpegs(scene(1 + index, 40))
            assert loader.read_images(ref, [0, 39, 5]) == [stored[0], stored[39], stored[5]]
            assert ref.n_bytes == sum(map(len, stored))
            hashes.append(ref.content_hash)
        assert set(found(recording)) == {"metadata.channel_order"}
        assert found(recording)["metadata.channel_order"].status == "not_run"
    assert hashes[:2] == hashes[2:] and hashes[0] != hashes[1]


def rewrite(path: Path, name: str, values: object, **options: object) -> None:
    with h5py.File(path, "r+") as file:
        if name in file:
            del file[name]
        file.create_dataset(name, data=values, **options)


@pytest.mark.parametrize("kind", ["fixed strings", "arrays of any length"])
def test_jpegs_in_other_containers(tmp_path: Path, kind: str) -> None:
    path, stored = tmp_path / "episode_0.hdf5", jpegs(scene(0, 40))
    write_aloha(path, compress=True, lengths=False)
    if kind == "fixed strings":
        rewrite(path, "observations/images/cam_high", np.array(stored, f"S{max(map(len, stored)) + 9}"))
    else:
        with h5py.File(path, "r+") as file:
            del file["observations/images/cam_high"]
            made = file.create_dataset("observations/images/cam_high", (40,), h5py.vlen_dtype(np.uint8))
            for step, jpeg in enumerate(stored):
                made[step] = np.frombuffer(jpeg, np.uint8)
    ref = read(path).videos["cam_high"]
    assert isinstance(ref, ImageRef)
    assert loader.read_images(ref, range(40)) == stored


def test_byte_arrays_and_texts_that_are_no_images_are_columns(tmp_path: Path) -> None:
    path = tmp_path / "episode_0.hdf5"
    write_aloha(path)
    rewrite(path, "observations/tactile", np.arange(40 * 128).reshape(40, 128).astype(np.uint8))
    rewrite(path, "observations/mode", np.array([b"reach"] * 40))
    steps = read(path).streams["steps"]
    assert str(steps.schema.field("observation.tactile").type) == "fixed_size_list<item: uint8>[128]"
    assert steps.column("observation.mode").to_pylist() == ["reach"] * 40


def test_attribute_and_lengths_that_disagree_with_the_images(tmp_path: Path) -> None:
    path = tmp_path / "episode_0.hdf5"
    write_aloha(path, compress=True)
    with h5py.File(path, "r+") as file:
        file.attrs["compress"] = False
        lengths = file["compress_len"][()]
        lengths[1, 3] += 1
        del file["compress_len"]
        file["compress_len"] = np.vstack([lengths, lengths[:1]])
    checks = found(read(path))
    assert checks["metadata.compress"].value == 2 and "read as stored" in checks["metadata.compress"].detail
    assert checks["metadata.compress_len"].value == 1
    assert "cam_left_wrist: its images' lengths fit no row" in checks["metadata.compress_len"].detail
    assert checks["integrity.camera_absent"].value == 1 and "rows for 3 cameras, 2 hold" in (
        checks["integrity.camera_absent"].detail
    )
    rewrite(path, "compress_len", np.zeros(7))
    shape = found(read(path))["metadata.compress_len"]
    assert shape.value is None and "compress_len has shape (7,)" in shape.detail
    write_aloha(path)
    with h5py.File(path, "r+") as file:
        file.attrs["compress"] = True
    assert "compress` is True and cam_high, cam_left_wrist hold raw pixels" in (
        found(read(path))["metadata.compress"].detail
    )


def test_images_that_are_absent_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "episode_0.hdf5"
    write_aloha(path, compress=True, lengths=False)
    with h5py.File(path, "r+") as file:
        file["observations/images/cam_high"][3:5] = 0
        file["observations/images/cam_left_wrist"][:] = 0
    recording = read(path)
    assert list(recording.videos) == ["cam_high"]
    checks = found(recording)
    assert checks["integrity.image_missing"].value == 2 and "the first of step 3" in (
        checks["integrity.image_missing"].detail
    )
    assert "none of the 40 rows holds an image" in checks["integrity.camera_absent"].detail
    index = recording.streams["steps"].column("observation.images.cam_high.index").to_pylist()
    assert index == [None if step in (3, 4) else step for step in range(40)]
    with h5py.File(path, "r+") as file:
        size = len(jpegs(scene(0, 40))[9])
        file["observations/images/cam_high"][9, size - 2 :] = 0
    rule, detail = rule_of(lambda: read(path))
    assert rule == "corrupt" and "images/cam_high: frame 9 of" in detail and "no whole JPEG or PNG" in detail


def test_episodes_sort_as_numbers_and_gaps_and_cameras_are_named(tmp_path: Path) -> None:
    for number in (10, 2, 0):
        write_aloha(tmp_path / f"episode_{number}.hdf5", number, 3, ("cam_high",) if number == 2 else ("cam_high", "b"))
    assert formats.detect(tmp_path) == "aloha_hdf5"
    refs = plan(tmp_path)
    assert [ref.recording_id for ref in refs] == ["a/000000", "a/000002", "a/000010"]
    assert [len(ref.findings) for ref in refs] == [1, 2, 1]
    gap, absent = refs[1].findings
    assert (gap.check, gap.value) == ("metadata.episode_numbers", 8.0)
    assert gap.detail == "episode numbers run to 10 and 8 are not in the folder (1, 3, 4, 5, 6, 7, 8, 9)"
    assert absent.check == "integrity.camera_absent" and absent.detail.startswith("b: other episodes beside")


def test_every_file_of_a_mixed_folder_is_planned_once(tmp_path: Path) -> None:
    write_aloha(tmp_path / "episode_0.hdf5", 0, 3)
    write_aloha(tmp_path / "episode_1.hdf5", 1, 3)
    write_isaac(tmp_path / "demos.hdf5", {4: motion(0, 3)})
    for cut in ("episode_1.hdf5", "demos.hdf5"):
        whole = (tmp_path / cut).read_bytes()
        (tmp_path / cut).write_bytes(whole[: len(whole) // 2] if cut == "episode_1.hdf5" else whole)
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["x"] = np.zeros(3)
    refs = list(loader.plan(Source("a", str(tmp_path))))
    assert [(ref.recording_id, ref.format, ref.problem and ref.problem.rule) for ref in refs] == [
        ("a/other", "aloha_hdf5", "wrong_format"),
        ("a/000000", "aloha_hdf5", None),
        ("a/000001", "aloha_hdf5", "truncated"),
        ("a/demos/000004", "isaac_hdf5", None),
    ]


def spoil(path: Path, how: str) -> None:
    with h5py.File(path, "r+") as file:
        if how == "rows":
            del file["observations/qpos"]
            file["observations/qpos"] = np.zeros((39, 14))
        elif how == "zero":
            for name in ("action", "observations"):
                del file[name]
            file["action"] = np.zeros((0, 14))
            file["observations/qpos"] = np.zeros((0, 14))
        elif how == "nothing":
            del file["observations/qpos"], file["observations/qvel"], file["observations/effort"]
            del file["observations/images/cam_high"], file["observations/images/cam_left_wrist"], file["action"]
        elif how == "absurd":
            file.create_dataset("observations/huge", (40, 1 << 30), "f4")
        elif how == "external":
            file["observations/other"] = h5py.ExternalLink("/etc/hostname", "/x")


@pytest.mark.parametrize(
    ("how", "rule", "words"),
    [
        ("rows", "shape_changed", "observations/qpos 39 rows, and 40 rows of the others"),
        ("zero", "empty", "episode_0.hdf5 holds 0 steps"),
        ("nothing", "empty", "holds neither `action` nor observations (it has no dataset)"),
        ("absurd", "absurd_size", "(40, 1073741824)"),
        ("external", "corrupt", "observations/other links to another file"),
    ],
)
def test_a_spoilt_file_says_why(tmp_path: Path, how: str, rule: str, words: str) -> None:
    path = tmp_path / "episode_0.hdf5"
    write_aloha(path)
    spoil(path, how)
    name, detail = rule_of(lambda: read(path))
    assert name == rule and words in detail and "episode_0.hdf5" in detail


def test_width_action_cameras_and_required(tmp_path: Path) -> None:
    path = tmp_path / "episode_0.hdf5"
    write_aloha(path, cameras=())
    rewrite(path, "action", np.zeros((40, 16)))
    rewrite(path, "calibration", np.eye(3))
    rewrite(path, "embedding", np.zeros((7, 4096)))
    recording = read(path)
    checks = found(recording)
    assert checks["metadata.action_width"].value == 2 and "(40, 16), qpos (40, 14)" in (
        checks["metadata.action_width"].detail
    )
    assert checks["integrity.camera_absent"].detail.endswith("observations/images holds no camera")
    assert "embedding holds (7, 4096) of float64" in checks["metadata.unsupported"].detail
    assert json.loads(recording.attributes["calibration"]) == np.eye(3).tolist()
    rule, detail = rule_of(lambda: read(path, required=("observation.images.cam_high",)))
    assert rule == "required_missing" and "observation.images.cam_high" in detail and "observation.state" in detail
    with h5py.File(path, "r+") as file:
        del file["action"]
    checks = found(read(path))
    assert checks["metadata.actions"].status == "not_run" and "no dataset `action`" in checks["metadata.actions"].detail


def test_numbers_that_are_not_finite_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "episode_0.hdf5"
    write_aloha(path)
    with h5py.File(path, "r+") as file:
        file["observations/qpos"][5, 2] = np.nan
        file["action"][6, 1] = np.inf
    steps = read(path).streams["steps"]
    state, action = column_matrix(steps, "observation.state"), column_matrix(steps, "action")
    assert state is not None and action is not None
    assert np.argwhere(~np.isfinite(state)).tolist() == [[5, 2]]
    assert np.argwhere(~np.isfinite(action)).tolist() == [[6, 1]]


def test_no_rate_no_time_no_split_and_no_file(tmp_path: Path) -> None:
    path = tmp_path / "episode_0.hdf5"
    write_aloha(path)
    recording = aloha_hdf5.read(plan(path)[0], source_of(path), Embodiment())
    assert recording.streams["steps"].column("timestamp_ns").null_count == 40
    rule, detail = rule_of(lambda: plan(path, splits=("train",)))
    assert rule == "absent" and "ALOHA files have no splits" in detail
    (tmp_path / "none").mkdir()
    rule, detail = rule_of(lambda: plan(tmp_path / "none"))
    assert rule == "empty" and "holds no .hdf5 or .h5 file" in detail
    assert not aloha_hdf5.detect(tmp_path / "none")
    write_isaac(tmp_path / "isaac.hdf5", {0: motion(0, 3)})
    (ref,) = plan(tmp_path / "isaac.hdf5")
    assert ref.problem is not None and ref.problem.rule == "wrong_format" and "(it has data)" in ref.problem.detail


def test_a_flipped_group_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "episode_0.hdf5"
    write_aloha(path)
    with h5py.File(path) as file:
        address = h5py.h5o.get_info(file["observations/images"].id).addr
    data = bytearray(path.read_bytes())
    data[address] ^= 0xFF
    path.write_bytes(data)
    assert formats.detect(path) == "aloha_hdf5"
    (ref,) = plan(path)
    assert ref.problem is not None and ref.problem.rule == "corrupt" and "cannot be read" in ref.problem.detail
