"""RLDS in, curated, RLDS out: the records against those of the source, read with protobuf itself."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from beam_pipeline.__main__ import main
from beam_pipeline.curated import CuratedSet
from beam_pipeline.exports.export import ExportError, ExportOptions
from beam_pipeline.exports.rlds import write, write_rlds
from tests.beam_pipeline.exports.rlds_records import all_records, records
from tests.factories import motion, rlds_example, write_lerobot_v21
from tests.factories import write_rlds as write_source
from tests.job import run_job
from tests.sources.rlds_files import (
    STEPS,
    episode,
    shard_path,
    tensor,
    write_dataset,
    write_info,
    write_shard,
)

RLDS = "  - {name: toy, path: toy/1.0.0, embodiment: panda}"
ODD = "  - {name: odd, path: odd, embodiment: panda}"


def tree_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def features_of(folder: Path) -> dict[str, dict[str, Any]]:
    """features.json flat: key -> node."""
    found = {}

    def walk(node: dict[str, Any], key: str) -> None:
        inner = node["sequence"]["feature"] if key == "steps" else node
        if "featuresDict" in inner:
            for name, child in inner["featuresDict"]["features"].items():
                walk(child, f"{key}/{name}" if key else name)
        else:
            found[key] = node

    walk(json.loads((folder / "features.json").read_text()), "")
    return found


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five distinct episodes in two shards, curated into out."""
    folder = tmp_path_factory.mktemp("toy")
    examples = [rlds_example(seed, instruction=f"pick up cube {seed}") for seed in range(5)]
    write_source(folder / "toy/1.0.0", [examples[:3], examples[3:]])
    assert run_job(folder, RLDS).status == 0
    return folder


def test_records_hold_what_the_source_held(toy: Path, tmp_path: Path) -> None:
    done = write(CuratedSet(toy / "out"), ExportOptions(tmp_path / "set"))
    assert done.folders == (Path("toy/1.0.0"),)
    folder = tmp_path / "set/toy/1.0.0"
    assert (done.n_episodes, done.n_steps, done.notes) == (5, 200, ())
    before, after = all_records(toy / "toy/1.0.0"), all_records(folder)
    assert len(before) == len(after) == 5
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        for key in ("action", "observation/state", "reward"):
            np.testing.assert_array_equal(old[f"steps/{key}"].view("u4"), new[f"steps/{key}"].view("u4"), err_msg=key)
        for key in ("observation/image", "language_instruction"):
            assert old[f"steps/{key}"] == new[f"steps/{key}"]
        for key in ("is_first", "is_last", "is_terminal"):
            np.testing.assert_array_equal(old[f"steps/{key}"], new[f"steps/{key}"], err_msg=key)
        assert new["steps/discount"].tolist() == [1.0] * 38 + [0.0, 0.0]  # what leads into a terminal state, and it
        assert new["steps/timestamp_ns"].tolist() == [50_000_000 * step for step in range(40)]
        assert new["episode_metadata/curation/episode_id"] == [f"toy/train/{index:06d}".encode()]
        assert set(new) - set(old) == {"steps/timestamp_ns", *(k for k in new if k.startswith("episode_metadata/"))}
        assert set(old) <= set(new)
    info = json.loads((folder / "dataset_info.json").read_text())
    (split,) = info["splits"]
    assert (info["name"], info["version"], split["name"], split["shardLengths"]) == ("toy", "1.0.0", "train", ["5"])
    (shard,) = folder.glob("*.tfrecord-*")
    assert shard.name == "toy-train.tfrecord-00000-of-00001"
    assert int(split["numBytes"]) == shard.stat().st_size - 5 * 16  # payloads: a record has 16 bytes around its own


def test_what_was_written_is_curated_to_the_same_steps_again(toy: Path, tmp_path: Path) -> None:
    write(CuratedSet(toy / "out"), ExportOptions(tmp_path / "toy"))
    (tmp_path / "toy/toy/1.0.0").rename(tmp_path / "toy/1.0.0")
    assert run_job(tmp_path, RLDS).status == 0
    first, second = CuratedSet(toy / "out"), CuratedSet(tmp_path / "out")
    pairs = list(zip(first.episodes(), second.episodes(), strict=True))
    assert len(pairs) == 5
    for old, new in pairs:
        assert (old.episode_id, old.instruction, old.n_steps) == (new.episode_id, new.instruction, new.n_steps)
        assert first.steps(old).equals(second.steps(new))
    write(second, ExportOptions(tmp_path / "again"))
    assert [record["steps/action"].tobytes() for record in all_records(tmp_path / "again/toy/1.0.0")] == [
        record["steps/action"].tobytes() for record in all_records(toy / "toy/1.0.0")
    ]


def test_the_same_folder_gives_the_same_bytes_in_shards_by_size(toy: Path, tmp_path: Path) -> None:
    curated = CuratedSet(toy / "out")
    for name in ("a", "b"):
        write_rlds(curated, ExportOptions(tmp_path / name), shard_bytes=100_000)
    assert tree_digest(tmp_path / "a") == tree_digest(tmp_path / "b")
    shards = sorted((tmp_path / "a/toy/1.0.0").glob("*.tfrecord-*"))
    sizes = [shard.stat().st_size for shard in shards]
    assert len(shards) > 1 and max(sizes) <= 100_000
    assert [shard.name for shard in shards] == [
        f"toy-train.tfrecord-{i:05d}-of-{len(shards):05d}" for i in range(len(shards))
    ]
    info = json.loads((tmp_path / "a/toy/1.0.0/dataset_info.json").read_text())
    assert [int(n) for n in info["splits"][0]["shardLengths"]] == [len(records(shard)) for shard in shards]
    write_rlds(curated, ExportOptions(tmp_path / "each"), shard_bytes=1)  # an episode larger than a shard has its own
    assert len(list((tmp_path / "each/toy/1.0.0").glob("*.tfrecord-*"))) == 5


def test_bridge_keeps_every_bit(robot_data: Path, curated_recordings: Path, tmp_path: Path) -> None:
    arguments = ["export", "--format", "rlds", "--source", "bridge", "--output", str(tmp_path / "set")]
    assert main([*arguments, str(curated_recordings)]) == 0
    before = all_records(robot_data / "rlds/bridge_dataset/1.0.0")
    after = all_records(tmp_path / "set/bridge/1.0.0")
    assert len(before) == len(after) == 25
    for old, new in zip(before, after, strict=True):
        for key, values in old.items():
            if isinstance(values, list):
                assert new[key] == values, key
            elif key == "steps/is_last":
                assert not values.any() and new[key].tolist() == [0] * 9 + [1]  # the source marks no last step
            else:
                assert new[key].tobytes() == values.tobytes(), key
        assert set(new) - set(old) == {
            "steps/timestamp_ns",
            *(k for k in new if k.startswith("episode_metadata/curation/")),
        }


def odd_source(folder: Path) -> None:
    """Two splits; float64 that float32 cannot hold, lists that differ in length, numbers, texts, names that nest."""
    exact = np.arange(8, dtype="f8") / 3
    more = {
        "steps/pose": [row.tobytes() for row in exact.reshape(4, 2)],
        "steps/count": np.array([1, -2, 2**40, 4]),
        "steps/note": [b"a", "zwölf".encode(), b"", b"d"],
        "steps/touch/ragged_flat_values": np.array([1, 2, 3], "f4"),
        "steps/touch/ragged_row_lengths_0": np.array([1, 0, 2, 0]),
        "steps/is_terminal": np.zeros(4, bool),
        "episode_metadata/operator": [b"Ada"],
        "episode_metadata/take": np.array([7]),
    }
    steps = {
        **STEPS,
        "pose": tensor("float64", 2, encoding="bytes"),
        "count": tensor("int64"),
        "note": {"text": {}},
        "touch": {"sequence": {"feature": tensor("float32"), "length": "-1"}},
    }
    metadata = {"operator": {"text": {}}, "take": tensor("int64")}
    episodes = [episode(start=1000.0 * i, **more) for i in range(3)]
    write_dataset(folder, episodes[:2], steps, metadata)
    write_shard(shard_path(folder, "val"), episodes[2:])
    write_info(folder, {"train": [2], "val": [1]})


def test_numbers_lists_texts_and_splits_stay_what_they_were(tmp_path: Path) -> None:
    odd_source(tmp_path / "odd")
    assert run_job(tmp_path, ODD).status == 0
    done = write(CuratedSet(tmp_path / "out"), ExportOptions(tmp_path / "set"))
    folder = tmp_path / "set/odd/1.0.0"
    splits = {s["name"]: s["shardLengths"] for s in json.loads((folder / "dataset_info.json").read_text())["splits"]}
    kept = [e.episode_id for e in CuratedSet(tmp_path / "out").episodes()]
    assert set(splits) == {name.split("/")[1] for name in kept}
    before = {f"odd/train/{i:06d}": r for i, r in enumerate(records(shard_path(tmp_path / "odd")))}
    before["odd/val/000000"] = records(shard_path(tmp_path / "odd", "val"))[0]
    after = {r["episode_metadata/curation/episode_id"][0].decode(): r for r in all_records(folder)}
    assert sorted(after) == kept and done.n_episodes == len(kept)
    for name, new in after.items():
        old = before[name]
        for key in old:
            same = new[key] == old[key] if isinstance(old[key], list) else new[key].tolist() == old[key].tolist()
            assert same, (key, old[key], new[key])
        assert new["steps/discount"].tolist() == [1.0] * 4  # cut off, never terminal
    declared = features_of(folder)
    assert declared["steps/pose"]["tensor"] == {"dtype": "float64", "encoding": "bytes", "shape": {"dimensions": ["2"]}}
    assert declared["steps/touch"]["sequence"]["length"] == "-1"
    assert declared["episode_metadata/take"]["tensor"]["dtype"] == "int64"


def test_videos_are_left_out_or_become_pictures(tmp_path: Path) -> None:
    write_lerobot_v21(tmp_path / "arm", {i: motion(i, steps=30) for i in range(2)})
    assert run_job(tmp_path, "  - {name: arm, path: arm, embodiment: panda}").status == 0
    curated = CuratedSet(tmp_path / "out")
    plain = write(curated, ExportOptions(tmp_path / "plain"))
    assert any(
        note == "arm: camera front is left out: its frames are in a video; --videos reencode makes pictures of it"
        for note in plain.notes
    )
    assert "steps/observation/front" not in all_records(tmp_path / "plain/arm/1.0.0")[0]
    seen = write(curated, ExportOptions(tmp_path / "seen", videos="reencode"))
    assert not any("front" in note for note in seen.notes)
    for index, record in enumerate(all_records(tmp_path / "seen/arm/1.0.0")):
        images = record["steps/observation/front"]
        with av.open(str(tmp_path / f"arm/videos/chunk-000/observation.images.front/episode_{index:06d}.mp4")) as video:
            frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
        assert len(images) == len(frames) == 30
        for step, image in enumerate(images):
            shown = np.asarray(Image.open(io.BytesIO(image)), int)
            apart = [np.abs(shown - frame).mean() for frame in frames]
            assert np.argmin(apart) == step and apart[step] < 6  # JPEG halves the colours once more
    node = features_of(tmp_path / "seen/arm/1.0.0")["steps/observation/front"]["image"]
    assert node == {"dtype": "uint8", "encodingFormat": "jpeg", "shape": {"dimensions": ["64", "64", "3"]}}


def test_columns_of_curation_come_only_when_asked(toy: Path, tmp_path: Path) -> None:
    embodiments = """
  panda:
    rate_hz: 20
    gripper: {position: {column: observation.state, start: 7, end: 8}, closed: 0.0, open: 1.0, unit: fraction}
    action: {gripper: {position: {column: action, start: 6, end: 7}, closed: 0.0, open: 1.0}}"""
    source = f"  - {{name: toy, path: {toy}/toy/1.0.0, embodiment: panda}}"
    assert run_job(tmp_path, source, embodiments=embodiments).status == 0
    curated = CuratedSet(tmp_path / "out")
    write(curated, ExportOptions(tmp_path / "plain"))
    plain = all_records(tmp_path / "plain/toy/1.0.0")[0]
    assert not [key for key in plain if "gripper" in key]
    write(curated, ExportOptions(tmp_path / "full", canonical=True))
    full = all_records(tmp_path / "full/toy/1.0.0")[0]
    np.testing.assert_allclose(full["steps/observation/gripper"], np.linspace(1, 0, 40), atol=1e-6)
    # `action` holds the vector, so what is called action.gripper cannot lie inside it
    np.testing.assert_array_equal(full["steps/action_gripper"], full["steps/action"].reshape(40, 7)[:, 6])


def test_columns_and_cameras_are_left_out_when_asked(toy: Path, tmp_path: Path) -> None:
    curated = CuratedSet(toy / "out")
    write(curated, ExportOptions(tmp_path / "set", without=("reward", "observation.images.image")))
    record = all_records(tmp_path / "set/toy/1.0.0")[0]
    assert not {"steps/reward", "steps/observation/image"} & set(record) and "steps/action" in record
    with pytest.raises(ExportError, match="--without rewrad: there is no such column; there are episode_id, "):
        write(curated, ExportOptions(tmp_path / "set", without=("rewrad",)))


def test_videos_are_nothing_that_rlds_holds(toy: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="RLDS holds pictures, no videos: leave --image-cameras out"):
        write(CuratedSet(toy / "out"), ExportOptions(tmp_path / "a", image_cameras="video"))


def test_names_that_tfds_would_not_tell_apart_are_an_error(tmp_path: Path) -> None:
    for index, name in enumerate(("one", "two")):
        write_source(tmp_path / name, [[rlds_example(20 + index)]])
    sources = "  - {name: My-Set, path: one, embodiment: panda}\n  - {name: my set, path: two, embodiment: panda}"
    assert run_job(tmp_path, sources).status == 0
    with pytest.raises(ExportError, match="sources 'My-Set' and 'my set' would both be the data set 'my_set'"):
        write(CuratedSet(tmp_path / "out"), ExportOptions(tmp_path / "set"))
    alone = write(CuratedSet(tmp_path / "out"), ExportOptions(tmp_path / "set", sources=("my set",)))
    assert alone.folders == (Path("my_set/1.0.0"),)
