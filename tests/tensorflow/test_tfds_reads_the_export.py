"""Curate and export, then let tfds read the result: its values against what it reads of the source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beam_pipeline.__main__ import main
from tests.factories import motion, rlds_example, write_lerobot_v21, write_rlds

EMBODIMENT = "embodiments:\n  arm: {rate_hz: 20}\n"


def episodes(folder: Path, split: str = "train") -> Iterator[tuple[Mapping[str, Any], list[Mapping[str, Any]]]]:
    """(metadata, steps) of each episode as tfds decodes them."""
    import tensorflow_datasets as tfds

    for found in tfds.builder_from_directory(str(folder)).as_dataset(split=split):
        yield found.get("episode_metadata", {}), list(found["steps"].as_numpy_iterator())


def curated_and_exported(folder: Path, sources: str, *flags: str) -> Path:
    config = folder / "job.yaml"
    config.write_text(f"sources:\n{sources}\n{EMBODIMENT}")
    assert main(["--config", str(config), "--output", str(folder / "out")]) == 0
    assert main(["export", "--format", "rlds", "--output", str(folder / "set"), *flags, str(folder / "out")]) == 0
    return folder / "set"


def assert_same_steps(before: Path, after: Path, count: int) -> None:
    pairs = list(zip(episodes(before), episodes(after), strict=True))
    assert len(pairs) == count
    for (_, old), (_, new) in pairs:
        assert len(old) == len(new)
        for step, again in zip(old, new, strict=True):
            assert step["action"].tobytes() == again["action"].tobytes()
            assert step["language_instruction"] == again["language_instruction"]
            assert step["reward"] == again["reward"]
            assert set(step["observation"]) == set(again["observation"])
            for name, value in step["observation"].items():
                assert value.dtype == again["observation"][name].dtype
                np.testing.assert_array_equal(value, again["observation"][name], err_msg=name)
        assert [step["is_first"] for step in new] == [True] + [False] * (len(new) - 1)
        assert [step["is_last"] for step in new] == [False] * (len(new) - 1) + [True]


def test_bridge(robot_data: Path, tmp_path: Path) -> None:
    folder = robot_data / "rlds/bridge_dataset/1.0.0"
    found = curated_and_exported(
        tmp_path, f"  - {{name: bridge, path: {folder}, format: rlds, splits: [train], embodiment: arm}}"
    )
    assert_same_steps(folder, found / "bridge/1.0.0", 25)


def test_generated(tmp_path: Path) -> None:
    write_rlds(tmp_path / "toy/1.0.0", [[rlds_example(seed) for seed in range(3)], [rlds_example(3)]])
    found = curated_and_exported(tmp_path, "  - {name: toy, path: toy/1.0.0, embodiment: arm}")
    assert_same_steps(tmp_path / "toy/1.0.0", found / "toy/1.0.0", 4)


def test_every_kind_of_column_and_a_video(tmp_path: Path) -> None:
    from tests.tensorflow.test_same_recordings import DEPTH, RANGE_M, SOUND, write_media
    from transforms.sources.media_tensorflow import decode_audio, decode_exr

    write_media(tmp_path / "media")
    write_lerobot_v21(tmp_path / "arm", {0: motion(0, steps=20)})
    sources = "  - {name: media, path: media, embodiment: arm}\n  - {name: arm, path: arm, embodiment: arm}"
    found = curated_and_exported(tmp_path, sources, "--videos", "reencode")
    metadata, steps = next(iter(episodes(found / "media/1.0.0")))
    assert metadata["operator"].numpy() == "Zoë".encode() and bool(metadata["success"])
    for index, step in enumerate(steps):
        np.testing.assert_array_equal(step["observation"]["depth"][:, :, 0], DEPTH[index])
        np.testing.assert_array_equal(decode_exr(step["observation"]["range"])["Z"], RANGE_M[index])
        np.testing.assert_array_equal(decode_audio(step["sound"]), SOUND[index])
        assert step["pose"].dtype == np.float64 and step["pose"].tolist() == [2 * index / 3, (2 * index + 1) / 3]
    assert [step["touch"].tolist() for step in steps] == [[1.0], [], [2.0, 3.0], []]
    _, shown = next(iter(episodes(found / "arm/1.0.0")))
    assert [step["observation"]["front"].shape for step in shown] == [(64, 64, 3)] * 20
    rows = [step["observation"]["front"][28].astype(int) for step in shown[:10]]
    reds = [int(np.argmax(row[:, 0] - row[:, 1])) for row in rows]
    assert all(3 * k - 2 <= red <= 3 * k + 17 for k, red in enumerate(reds))  # the red square moves 3 px a frame


@pytest.mark.parametrize("name", ["gr00t", "isaac"])
def test_published_sets_of_other_formats(robot_data: Path, tmp_path: Path, name: str) -> None:
    paths = {"gr00t": "gr00t/robot_sim.PickNPlace", "isaac": "isaaclab_hdf5/dataset.hdf5"}
    found = curated_and_exported(tmp_path, f"  - {{name: {name}, path: {robot_data / paths[name]}, embodiment: arm}}")
    kept = list(episodes(found / name / "1.0.0"))
    assert len(kept) == {"gr00t": 3, "isaac": 10}[name]
    if name == "isaac":
        import h5py

        with h5py.File(robot_data / paths[name]) as file:
            for metadata, steps in kept:
                number = int(metadata["curation"]["episode_id"].numpy().decode().rpartition("/")[2])
                actions = file[f"data/demo_{number}/actions"][:]
                assert np.stack([step["action"] for step in steps]).tobytes() == actions.tobytes()
    else:
        import pyarrow.parquet as pq

        for metadata, steps in kept:
            index = int(metadata["episode_index"])
            table = pq.read_table(robot_data / paths[name] / f"data/chunk-000/episode_{index:06d}.parquet")
            held = {
                "action": [step["action"] for step in steps],
                "observation.state": [step["observation"]["state"] for step in steps],
            }
            for key, values in held.items():
                assert np.stack(values).tobytes() == np.stack(table[key].to_numpy()).tobytes()
