"""Samples against the raw files that were curated, read by other code; workers, caches, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'demosift[training]'")

from torch.utils.data import DataLoader  # noqa: E402

from beam_pipeline.__main__ import main  # noqa: E402
from beam_pipeline.training.episodes_dataset import EpisodesDataset  # noqa: E402
from beam_pipeline.training.errors import TrainingDataError  # noqa: E402
from beam_pipeline.training.sampler import RowGroupSampler  # noqa: E402
from tests.factories import (  # noqa: E402
    jpeg,
    motion,
    rlds_example,
    write_isaac,
    write_lerobot_v21,
    write_rlds,
)
from tests.job import run_job, write_config  # noqa: E402

SOURCES = """  - {name: arm, path: 'isaac/*.hdf5', format: isaac_hdf5, embodiment: panda}
  - {name: toy, path: 'rlds/1.0.0', format: rlds, embodiment: panda}
  - {name: filmed, path: lerobot, format: lerobot, embodiment: panda}"""
STATE, ACTION = "states.articulation.robot.joint_position", "action"
FRONT, IMAGE = "observation.images.front", "observation.images.image"
SMALL = "\nsink: {row_group_rows: 7, part_target_mb: 0.02}"
"""Several parts, and row groups that end within episodes."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    write_isaac(folder / "isaac/a.hdf5", {number: motion(number) for number in (0, 2, 10)})
    write_rlds(folder / "rlds/1.0.0", [[rlds_example(20 + seed, 12) for seed in range(3)]])
    write_lerobot_v21(folder / "lerobot", {i: motion(40 + i, 30) for i in range(2)})
    job = run_job(folder, SOURCES, SMALL)
    assert job.status == 0 and set(job.outcomes().values()) == {"kept"}
    return folder / "out"


def raw(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Joint positions (3, 40, 9) and actions (3, 40, 8) of the recorder's file; states are written after the step."""
    with h5py.File(folder.parent / "isaac/a.hdf5") as file:
        demos = [file[f"data/demo_{number}"] for number in (0, 2, 10)]
        joints = np.stack([demo["states/articulation/robot/joint_position"][:] for demo in demos])
        return joints, np.stack([demo["actions"][:] for demo in demos])


def test_a_sample_is_a_transition_of_the_raw_file(folder: Path) -> None:
    dataset = EpisodesDataset(folder, [STATE, ACTION, "next.done"], sources=["arm"])
    _, actions = raw(folder)
    assert len(dataset) == 3 * 39 and len(dataset.index.paths) > 1
    for sample in (0, 1, 38, 39, 80, 116, -1):
        item = dataset[sample]
        episode, step = divmod(sample % 117, 39)
        assert item["episode_id"] == f"arm/a/{(0, 2, 10)[episode]:06d}"
        assert (item["episode_index"], item["frame_index"], item["source"]) == (episode, step, "arm")
        assert item["timestamp"] == pytest.approx(step / 20)
        np.testing.assert_array_equal(item[ACTION].numpy(), actions[episode, step])
        assert item["next.done"].dtype == torch.bool and bool(item["next.done"]) == (step == 38)
    with pytest.raises(IndexError, match="sample 117 of 117"):
        dataset[117]


def test_windows_of_actions_are_chunks_with_a_mask(folder: Path) -> None:
    chunk = [i / 20 for i in range(6)]
    dataset = EpisodesDataset(folder, [STATE, ACTION], {ACTION: chunk, STATE: [-0.05, 0.0]}, sources=["arm"])
    _, actions = raw(folder)
    plain = EpisodesDataset(folder, [STATE], sources=["arm"])
    for sample in range(len(dataset)):
        item = dataset[sample]
        episode, step = divmod(sample, 39)
        wanted = np.arange(step, step + 6)
        np.testing.assert_array_equal(item[f"{ACTION}_is_pad"].numpy(), wanted > 38)
        np.testing.assert_array_equal(item[ACTION].numpy(), actions[episode, np.minimum(wanted, 38)])
        assert item[f"{STATE}_is_pad"].tolist() == [step == 0, False]
        np.testing.assert_array_equal(item[STATE][0].numpy(), plain[sample - (step > 0)][STATE].numpy())


def test_images_are_the_recorded_ones(folder: Path) -> None:
    dataset = EpisodesDataset(folder, [IMAGE], {IMAGE: [-0.05, 0.0]}, sources=["toy"], pictures="uint8")
    assert len(dataset) == 3 * 11
    for sample in (0, 5, 10, 11, 32):
        episode, step = divmod(sample, 11)
        item = dataset[sample]
        assert item[IMAGE].shape == (2, 3, 32, 32) and item[IMAGE].dtype == torch.uint8
        assert item[f"{IMAGE}_is_pad"].tolist() == [step == 0, False]
        for shown, at in zip(item[IMAGE], (max(step - 1, 0), step), strict=True):
            wanted = np.asarray(Image.open(io.BytesIO(jpeg(1000 * (20 + episode) + at))))
            np.testing.assert_array_equal(shown.numpy().transpose(1, 2, 0), wanted)
    as_float = EpisodesDataset(folder, [IMAGE], sources=["toy"])[3][IMAGE]
    assert as_float.dtype == torch.float32 and 0.1 < float(as_float.max()) <= 1.0
    assert EpisodesDataset(folder, [IMAGE], sources=["toy"])[3]["task"] == "pick up the cube"


def frames(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_frames_of_videos_are_those_of_a_decode_from_the_front_in_any_order(folder: Path) -> None:
    dataset = EpisodesDataset(folder, [FRONT], sources=["filmed"], pictures="uint8")
    film = [frames(folder.parent / f"lerobot/videos/chunk-000/{FRONT}/episode_{i:06d}.mp4") for i in range(2)]
    order = np.random.default_rng(0).permutation(len(dataset)).tolist()
    for sample in [*order, *range(len(dataset))]:
        episode, step = divmod(sample, 29)
        np.testing.assert_array_equal(dataset[sample][FRONT].numpy().transpose(1, 2, 0), film[episode][step])


def test_workers_and_small_caches_give_the_same_batches(folder: Path) -> None:
    deltas = {ACTION: [0.0, 0.05, 0.1]}
    here = EpisodesDataset(folder, [ACTION, FRONT], deltas, sources=["filmed"])
    wanted = [batch[ACTION] for batch in DataLoader(here, batch_size=8)]
    tight = EpisodesDataset(folder, [ACTION, FRONT], deltas, sources=["filmed"], cache_mb=0)
    for start in ("fork", "spawn"):
        loader = DataLoader(tight, batch_size=8, num_workers=2, multiprocessing_context=start)
        found = list(loader)
        assert all(torch.equal(a[ACTION], b) for a, b in zip(found, wanted, strict=True))
        assert found[0][FRONT].shape == (8, 3, 64, 64)
        assert torch.equal(found[1][FRONT][3], here[11][FRONT])
    assert len(tight.parts._held) <= 1, "the cache holds no more than one column of one row group"


def test_values_are_scaled_by_the_sources_own_statistics_and_back(folder: Path) -> None:
    _, actions = raw(folder)
    used = actions[:, :-1].reshape(-1, 8).astype(np.float64)
    chunk = {ACTION: [0.0, 0.05]}
    for mode, offset, scale in (
        ("mean_std", used.mean(0), used.std(0)),
        ("min_max", (used.max(0) + used.min(0)) / 2, (used.max(0) - used.min(0)) / 2),
        (
            "quantiles",
            np.quantile(used, [0.01, 0.99], axis=0).mean(0),
            np.ptp(np.quantile(used, [0.01, 0.99], axis=0), axis=0) / 2,
        ),
    ):
        dataset = EpisodesDataset(folder, [ACTION], chunk, sources=["arm"], normalize={ACTION: mode})
        found = dataset[50][ACTION].numpy()
        episode, step = divmod(50, 39)
        np.testing.assert_allclose(found, (actions[episode, step : step + 2] - offset) / scale, rtol=2e-4, atol=2e-5)
        back = dataset.normaliser(ACTION).invert(found)
        np.testing.assert_allclose(back, actions[episode, step : step + 2], rtol=1e-5, atol=1e-6)
    both = EpisodesDataset(folder, [ACTION], sources=["arm", "filmed"], normalize={ACTION: "mean_std"})
    assert both[0]["source"] == "arm" and both[-1]["source"] == "filmed"
    assert both.normaliser(ACTION, "arm").offset.shape == (8,)
    with pytest.raises(TrainingDataError, match="'action' is scaled in 2 ways here"):
        both.normaliser(ACTION)


def test_splits_divide_the_samples(folder: Path) -> None:
    assert main(["split", "--output", str(folder), "--val", "0.4", "--stratify"]) == 0
    whole = EpisodesDataset(folder, [ACTION], sources=["arm"])
    parts = [EpisodesDataset(folder, [ACTION], sources=["arm"], split=split) for split in ("train", "val")]
    assert [len(part) for part in parts] == [2 * 39, 39]
    seen = [part[i]["episode_id"] for part in parts for i in range(len(part))]
    assert sorted(seen) == sorted(whole[i]["episode_id"] for i in range(len(whole)))
    with pytest.raises(TrainingDataError, match="has no transition in split 'test' of sources arm; choose others, or"):
        EpisodesDataset(folder, [ACTION], sources=["arm"], split="test")


def test_by_default_the_columns_are_those_that_all_chosen_sources_hold(folder: Path) -> None:
    own = EpisodesDataset(folder, sources=["filmed"])
    assert {FRONT, ACTION, "observation.state"} <= set(own.columns) and IMAGE not in own.columns
    shared = EpisodesDataset(folder)
    assert ACTION in shared.columns and not {FRONT, IMAGE, STATE} & set(shared.columns)
    assert {"episode_id", "timestamp_ns", "frame_index"}.isdisjoint(shared.columns)


def test_the_sampler_gives_every_sample_once_and_stays_within_its_row_groups(folder: Path) -> None:
    dataset = EpisodesDataset(folder, [ACTION], sources=["arm"])
    sampler = RowGroupSampler(dataset, seed=3, groups_at_once=1)
    order = list(sampler)
    assert sorted(order) == list(range(len(dataset))) and order != sorted(order) and len(sampler) == len(order)
    assert list(sampler) == order, "the same epoch, the same order"
    sampler.set_epoch(1)
    assert list(sampler) != order
    groups = []
    for sample in order:
        episode = dataset.index.episode_of(sample)
        part = int(dataset.index.part[episode])
        row = int(dataset.index.first[episode]) + sample - int(dataset.index.sample[episode])
        groups.append((part, dataset.parts.group_of(part, row)[0]))
    changes = [a for a, b in zip(groups, [None, *groups], strict=False) if a != b]
    assert len(changes) == len(set(changes)), "each row group is read once"
    with pytest.raises(ValueError, match="groups_at_once is 0; need at least 1"):
        RowGroupSampler(dataset, groups_at_once=0)


def test_a_camera_that_saw_nothing_is_black_and_masked(folder: Path) -> None:
    part = folder / "transitions/source=toy/part-00000.parquet"
    before = part.read_bytes()
    table = pq.read_table(part)
    column = table[IMAGE].combine_chunks()
    blind = np.zeros(len(column), np.bool_)
    blind[[0, 3]] = True
    holes = pa.StructArray.from_arrays(column.flatten(), fields=list(column.type), mask=pa.array(blind))
    try:
        pq.write_table(table.set_column(table.schema.get_field_index(IMAGE), IMAGE, holes), part)
        dataset = EpisodesDataset(folder, [IMAGE], sources=["toy"])
        for sample in range(5):
            item = dataset[sample]
            assert bool(item[f"{IMAGE}_is_pad"]) == blind[sample] == (float(item[IMAGE].max()) == 0)
            assert item[IMAGE].shape == (3, 32, 32)
    finally:
        part.write_bytes(before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"columns": ["acton"]}, "there is no column 'acton'; did you mean 'action'"),
        ({"columns": ["zzz"]}, "there is no column 'zzz'; there are episode_id, "),
        ({"columns": ["episode_id"]}, "'episode_id' is string, neither numbers nor a camera"),
        ({"columns": [ACTION], "delta_timestamps": {STATE: [0]}}, "is not among the columns of the samples; add it"),
        ({"columns": [ACTION], "sources": ["arms"]}, "sources names 'arms'; .* has arm, filmed, toy"),
        ({"columns": [ACTION], "split": "eval"}, "split is 'eval'; there are train, val, test"),
        (
            {"columns": [IMAGE], "sources": ["toy"], "normalize": {IMAGE: "min_max"}},
            "has no statistics for source 'toy'",
        ),
    ],
)
def test_wrong_choices_are_named(folder: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingDataError, match=message):
        EpisodesDataset(folder, **settings)


def test_a_lost_video_a_damaged_image_and_a_null_flag_are_named(folder: Path) -> None:
    dataset = EpisodesDataset(folder, [FRONT], sources=["filmed"])
    videos = sorted((folder / "videos").iterdir())
    for video in videos:
        video.rename(video.with_suffix(".gone"))
    try:
        with pytest.raises(
            TrainingDataError, match=r"\.mp4 at 0\.000000 s cannot be decoded .* copy the output folder"
        ):
            dataset[0]
    finally:
        for video in videos:
            video.with_suffix(".gone").rename(video)
    from beam_pipeline.training.pictures import Pictures, decode_image
    from beam_pipeline.training.row_groups import numbers

    with pytest.raises(TrainingDataError, match="step 3: its 4 bytes are no image that Pillow reads"):
        decode_image(b"none", "step 3")
    with pytest.raises(TrainingDataError, match=r"has no frame at 99\.000000 s; copy the output folder again"):
        Pictures(folder).frame(f"videos/{videos[0].name}", 99_000_000_000)
    with pytest.raises(TrainingDataError, match="'flag' is null in 1 of 2 rows; leave it out of columns="):
        numbers(pa.array([True, None]), "flag")
    with pytest.raises(TrainingDataError, match="'q' has rows of 1, 2 numbers; choose sources= of one robot"):
        numbers(pa.array([[1.0], [1.0, 2.0]]), "q")
    assert np.isnan(numbers(pa.array([None, [1.0, 2.0]]), "q")[0]).all()


def test_depth_keeps_its_sixteen_bits() -> None:
    from beam_pipeline.training.pictures import decode_image

    depth = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    out = io.BytesIO()
    Image.fromarray(depth).save(out, "PNG")
    np.testing.assert_array_equal(decode_image(out.getvalue(), "depth"), depth)


def test_arrow_files_give_the_same_samples(folder: Path, tmp_path: Path) -> None:
    source = f"  - {{name: arm, path: '{folder.parent}/isaac/*.hdf5', format: isaac_hdf5, embodiment: panda}}"
    config = write_config(tmp_path, source, "\nsink: {format: arrow, row_group_rows: 7}")
    assert main(["--config", str(config), "--output", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/statistics.json").read_text().splitlines()[1:3] == [' "arm": {', '  "panda": {']
    chunk = {ACTION: [0.0, 0.05, 0.4]}
    wanted = EpisodesDataset(folder, [ACTION, "next.done"], chunk, sources=["arm"], normalize={ACTION: "mean_std"})
    found = EpisodesDataset(tmp_path / "out", [ACTION, "next.done"], chunk, normalize={ACTION: "mean_std"})
    assert len(found) == len(wanted)
    for sample in range(len(found)):
        assert torch.equal(found[sample][ACTION], wanted[sample][ACTION])
        assert found[sample]["episode_id"] == wanted[sample]["episode_id"]
