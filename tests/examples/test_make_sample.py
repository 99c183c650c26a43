"""The sample is what its truth says, recomputed here from the files themselves."""

from __future__ import annotations

import hashlib
import io
import json
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import av
import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from apache_beam.io.tfrecordio import _TFRecordUtil
from numpy.typing import NDArray
from PIL import Image

from examples.make_sample import main, make_sample
from examples.sample.flaws import FlawSizes
from transforms.sources.tf_example import parse_example

SEEDS = {7: FlawSizes(), 4: FlawSizes(2.0, 6, 0.9, 3, 0.9), 11: FlawSizes(1.3, 2, 0.6, 1, 0.1)}
RATE_HZ = 20.0
Floats = NDArray[np.float64]


class Sample:
    """One generated folder with its truth."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed, self.sizes = folder, seed, SEEDS[seed]
        make_sample(folder, seed, episodes=8, sizes=self.sizes)
        self.truth: dict[str, Any] = json.loads((folder / "truth.json").read_text())
        self.rows: dict[str, dict[str, Any]] = {row["episode_id"]: row for row in self.truth["episodes"]}

    def flaw(self, kind: str) -> dict[str, Any]:
        (found,) = [flaw for flaw in self.truth["flaws"] if flaw["kind"] == kind]
        return dict(found)

    def arrays(self, episode_id: str) -> dict[str, Floats]:
        with np.load(self.folder / self.rows[episode_id]["arrays"]) as held:
            return {name: held[name] for name in held.files}

    @cached_property
    def payloads(self) -> dict[str, bytes]:
        """Episode id -> record, read with Beam's own TFRecord code; a cut record ends its file."""
        found: dict[str, bytes] = {}
        for path in sorted((self.folder / "rlds" / "1.0.0").glob("*.tfrecord-*")):
            with path.open("rb") as stream:
                while True:
                    try:
                        payload = _TFRecordUtil.read_record(stream)
                    except ValueError:
                        break
                    if payload is None:
                        break
                    found[f"sample_rlds/train/{len(found):06d}"] = payload
        return found

    @cached_property
    def records(self) -> dict[str, dict[str, Any]]:
        return {name: dict(parse_example(payload)) for name, payload in self.payloads.items()}

    @cached_property
    def demos(self) -> dict[str, dict[str, Floats]]:
        found = {}
        for path in sorted((self.folder / "isaac").glob("*.hdf5")):
            with h5py.File(path) as file:
                for name, demo in file["data"].items():
                    columns = {
                        key: demo[key][:].astype(np.float64) for key in ("actions", "obs/joint_pos", "obs/eef_quat")
                    }
                    columns["after"] = demo["states/articulation/robot/joint_position"][:].astype(np.float64)
                    found[f"sample_isaac/{path.stem}/{int(name.split('_')[1]):06d}"] = columns
        return found

    @cached_property
    def lerobot(self) -> dict[str, dict[str, Floats]]:
        found: dict[str, dict[str, Floats]] = {}
        for path in sorted((self.folder / "lerobot" / "data").rglob("*.parquet")):
            table = pq.read_table(path)
            episodes = table["episode_index"].to_numpy()
            for episode in np.unique(episodes):
                part = table.filter(episodes == episode)
                found[f"sample_lerobot/train/{episode:06d}"] = {
                    name: np.array(part[name].to_pylist(), np.float64) for name in part.column_names
                }
        return found

    @cached_property
    def states(self) -> dict[str, Floats]:
        """Episode id -> (T, 9) joint positions, from the three datasets' own files."""
        rlds = {k: np.asarray(v["steps/observation/state"], np.float64).reshape(-1, 9) for k, v in self.records.items()}
        isaac = {k: v["obs/joint_pos"] for k, v in self.demos.items()}
        return rlds | isaac | {k: v["observation.state"] for k, v in self.lerobot.items()}


@pytest.fixture(scope="module", params=list(SEEDS))
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return Sample(tmp_path_factory.mktemp("sample") / "made", request.param)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_same_seed_gives_the_same_bytes(sample: Sample, tmp_path: Path) -> None:
    made = digests(sample.folder)
    assert sum(p.stat().st_size for p in sample.folder.rglob("*") if p.is_file()) < 10_000_000
    if sample.seed == min(SEEDS):
        make_sample(tmp_path / "again", sample.seed, episodes=8, sizes=sample.sizes)
        assert digests(tmp_path / "again") == made


def test_files_hold_the_truths_episodes(sample: Sample) -> None:
    states = sample.states
    lost = sample.flaw("truncated_file")["episode_id"]
    assert sorted(states) == sorted(set(sample.rows) - {lost})
    for episode_id, held in states.items():
        np.testing.assert_allclose(held, sample.arrays(episode_id)["states"], atol=1e-6)
        assert len(held) == sample.rows[episode_id]["n_steps"]
    counts = [
        sum(row["source"] == f"sample_{name}" for row in sample.rows.values()) for name in ("rlds", "isaac", "lerobot")
    ]
    assert counts == [9, 8, 8]


def test_transitions_are_the_simulators(sample: Sample) -> None:
    for episode_id, features in sample.records.items():
        arrays = sample.arrays(episode_id)
        np.testing.assert_allclose(features["steps/action"].reshape(-1, 8), arrays["actions"], atol=1e-6)
        np.testing.assert_allclose(features["steps/reward"][:-1], arrays["rewards"])
        assert arrays["rewards"].tolist() == [0.0] * (len(arrays["rewards"]) - 1) + [1.0]
        assert features["steps/is_last"].tolist() == [0] * (len(arrays["states"]) - 1) + [1]
    for episode_id, columns in sample.demos.items():
        arrays = sample.arrays(episode_id)
        np.testing.assert_allclose(columns["after"][:-1], arrays["next_states"], atol=1e-6)
        np.testing.assert_allclose(columns["actions"][:, 7], 2 * arrays["actions"][:, 7] - 1, atol=1e-6)
        np.testing.assert_allclose(columns["obs/eef_quat"], arrays["tool_pose_xyzw"][:, [6, 3, 4, 5]], atol=1e-6)


def test_only_the_planted_frames_break_a_limit(sample: Sample) -> None:
    joints = [j for j in ElementTree.parse(sample.folder / "panda.urdf").iter("joint") if j.get("type") == "revolute"]
    found = [joint.find("limit") for joint in joints]
    limits = np.array(
        [[float(x.get(k, "nan")) for k in ("lower", "upper", "velocity")] for x in found if x is not None]
    )
    assert limits.shape == (7, 3)
    flaw = sample.flaw("speed_limit")
    for episode_id, held in sample.states.items():
        q = held[:, :7]
        assert (q > limits[:, 0] + 0.01).all() and (q < limits[:, 1] - 0.01).all()
        share = np.abs(np.diff(q, axis=0)) * RATE_HZ / limits[:, 2]
        if episode_id != flaw["episode_id"]:
            assert share.max() < 0.8
            continue
        over = {(int(t) + 1, f"panda_joint{j + 1}") for t, j in np.argwhere(share > 1.0)}
        assert over == {(t, flaw["joint"]) for t in flaw["over_limit"]}
        assert flaw["over_limit"] == flaw["over_110_percent"]
        assert [t + 1 for t in np.flatnonzero((share > 1.1).any(axis=1))] == flaw["over_110_percent"]
        assert len(flaw["over_limit"]) == 2 * sample.sizes.speed_frames
        assert share.max() == pytest.approx(sample.sizes.speed_factor, rel=1e-3)


def test_duplicates_are_equal_and_others_differ(sample: Sample) -> None:
    states = sample.states
    groups = sample.truth["duplicate_groups"]
    assert [len({name.split("/")[0] for name in group}) for group in groups] == [3, 2, 1]
    together = {frozenset(pair) for group in groups for pair in combinations(group, 2)}
    for a, b in combinations(sorted(states), 2):
        steps = min(len(states[a]), len(states[b]))
        apart = np.abs(states[a][:steps, :7] - states[b][:steps, :7]).max()
        assert (apart < 1e-6) == (frozenset((a, b)) in together), (a, b, apart)
        assert apart < 1e-6 or apart > 0.1
    first, second = (sample.payloads[name] for name in groups[2])
    assert first == second


def test_clock_goes_backward_once(sample: Sample) -> None:
    flaw = sample.flaw("clock")
    for episode_id, columns in sample.lerobot.items():
        backward = (np.flatnonzero(np.diff(columns["timestamp"]) < 0) + 1).tolist()
        assert backward == (flaw["backward"] if episode_id == flaw["episode_id"] else [])


def test_truncation_loses_one_record(sample: Sample) -> None:
    info = json.loads((sample.folder / "rlds" / "1.0.0" / "dataset_info.json").read_text())
    assert [int(n) for n in info["splits"][0]["shardLengths"]] == [3, 3, 3]
    assert len(sample.records) == 8
    flaw = sample.flaw("truncated_file")
    assert flaw["episode_id"] == "sample_rlds/train/000008"
    assert sample.rows[flaw["episode_id"]]["expected"] == ["quarantined"]


def test_one_instruction_is_missing_and_the_others_fit_the_gripper(sample: Sample) -> None:
    told = {k: bytes(v["steps/language_instruction"][0]).decode() for k, v in sample.records.items()}
    for path in (sample.folder / "isaac").glob("*.hdf5"):
        with h5py.File(path) as file:
            for name, demo in file["data"].items():
                told[f"sample_isaac/{path.stem}/{int(name[5:]):06d}"] = json.loads(demo.attrs["ep_meta"])["lang"]
    tasks = pq.read_table(sample.folder / "lerobot" / "meta" / "tasks.parquet").to_pydict()
    text = dict(zip(tasks["task_index"], tasks["__index_level_0__"], strict=True))
    told |= {k: text[int(v["task_index"][0])] for k, v in sample.lerobot.items()}
    assert [k for k, words in told.items() if not words] == [sample.flaw("missing_instruction")["episode_id"]]
    for episode_id, words in told.items():
        arrays = sample.arrays(episode_id)
        opening, height = arrays["states"][:, 7], arrays["cube_pose_xyzw"][:, 2]
        if words.startswith("pick"):
            assert opening[0] > 0.035 and opening[-1] < 0.02 and height[-1] > 0.1
        if words.startswith("place"):
            assert opening[-1] > 0.035 and height.max() > 0.08 and height[-1] < 0.03


def moving(frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(T,) whether a frame differs visibly from the one before."""
    change = np.abs(np.diff(frames.astype(np.int16), axis=0)).reshape(len(frames) - 1, -1).max(axis=1)
    return np.concatenate([[True], change > 40])


def test_one_camera_is_frozen(sample: Sample) -> None:
    pictures: dict[tuple[str, str], NDArray[np.uint8]] = {}
    for episode_id, features in sample.records.items():
        for camera in ("front", "wrist"):
            images = [Image.open(io.BytesIO(bytes(b))) for b in features[f"steps/observation/{camera}"]]
            pictures[episode_id, camera] = np.stack([np.asarray(image) for image in images])
    meta = pq.read_table(next((sample.folder / "lerobot" / "meta" / "episodes").rglob("*.parquet"))).to_pylist()
    for camera in ("front", "wrist"):
        files = sorted((sample.folder / "lerobot" / "videos" / f"observation.images.{camera}").rglob("*.mp4"))
        for number, path in enumerate(files):
            with av.open(str(path)) as container:
                shown = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
            mine = [row for row in meta if row[f"videos/observation.images.{camera}/file_index"] == number]
            assert sum(row["length"] for row in mine) == len(shown)
            for row in mine:
                first = round(row[f"videos/observation.images.{camera}/from_timestamp"] * RATE_HZ)
                pictures[f"sample_lerobot/train/{row['episode_index']:06d}", camera] = shown[
                    first : first + row["length"]
                ]
    flaw = sample.flaw("frozen_camera")
    for (episode_id, camera), frames in pictures.items():
        assert len(frames) == sample.rows[episode_id]["n_steps"]
        still = ~moving(frames)
        if (episode_id, camera) == (flaw["episode_id"], flaw["camera"]):
            assert still[flaw["first"] + 1 : flaw["last"] + 1].all()
            speed = np.abs(np.diff(sample.states[episode_id][:, :7], axis=0)).max(axis=1) * RATE_HZ
            shown = speed[flaw["first"] : flaw["last"]]  # the moves into the repeated frames
            assert (shown > 0.05).sum() >= sample.sizes.frozen_share * (speed > 0.05).sum()
            assert shown[0] > 0.05 and shown[-1] > 0.05
        else:
            assert still.mean() < 0.5, (episode_id, camera)


def test_every_episode_has_one_expectation(sample: Sample) -> None:
    expected = {k: tuple(row["expected"]) for k, row in sample.rows.items()}
    rejected = {sample.flaw(kind)["episode_id"] for kind in ("speed_limit", "frozen_camera", "clock")}
    assert {k for k, v in expected.items() if v == ("rejected",)} == rejected
    assert len(rejected) == 3
    shared = {member for group in sample.truth["duplicate_groups"] for member in group}
    assert {k for k, v in expected.items() if v == ("kept", "duplicate")} == shared
    assert expected[sample.flaw("missing_instruction")["episode_id"]] == ("kept",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--episodes", "3"], "episodes is 3; the flaws need at least 8 per format"),
        (["--speed-factor", "1.05"], "speed_factor is 1.05; need 1.2 <= speed_factor <= 2.0"),
    ],
)
def test_unusable_arguments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([str(tmp_path / "x"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_refuses_a_folder_that_holds_something(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    assert main([str(tmp_path)]) == 2
    assert "is not empty; name a new folder" in capsys.readouterr().err
