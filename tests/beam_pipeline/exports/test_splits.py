"""What `split` wrote is what exports name: episodes of each split, held against splits.parquet and the raw files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from beam_pipeline.__main__ import main
from tests.beam_pipeline.exports.rlds_records import records
from tests.exported import export, vectors
from tests.factories import motion, write_lerobot_v21
from tests.job import run_job

RAW = {("a", 0): 1, ("a", 1): 2, ("a", 2): 3, ("b", 0): 4, ("b", 1): 5, ("b", 2): 6}
"""Source and number of each episode -> the seed of its motion."""


@pytest.fixture
def curated(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        own = {number: motion(seed) for (source, number), seed in RAW.items() if source == name}
        write_lerobot_v21(tmp_path / name, own, video=False)
    job = run_job(tmp_path, "".join(f"  - {{name: {n}, path: {n}, embodiment: panda}}\n" for n in "ab"))
    assert set(job.outcomes().values()) == {"kept"}
    return job.output


def split(folder: Path, *flags: str) -> Mapping[str, str]:
    assert main(["split", "--output", str(folder), *flags]) == 0
    rows = pq.read_table(folder / "splits.parquet").to_pylist()
    return {row["episode_id"]: row["split"] for row in rows}


def test_lerobot_has_a_range_of_episodes_for_each_split(
    curated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = split(curated, "--val", "0.3", "--test", "0.3", "--stratify")
    assert sorted(named.values()) == ["test", "test", "train", "train", "val", "val"]
    run = export(capsys, curated, tmp_path / "set")
    assert run.json("meta/info.json")["splits"] == {"train": "0:2", "val": "2:4", "test": "4:6"}
    (listed,) = run.json("export.json")["data_sets"]
    ids = [one["episode_id"] for one in listed["episodes"]]
    assert [named[name] for name in ids] == ["train", "train", "val", "val", "test", "test"]
    rows = run.rows()
    for number, name in enumerate(ids):
        own = rows.filter(np.asarray(rows["episode_index"]) == number)
        source, _, raw = name.split("/")
        np.testing.assert_array_equal(vectors(own, "action"), motion(RAW[source, int(raw)]))


def test_sources_that_agree_stay_one_set_where_one_has_no_episode_of_a_split(
    curated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(100):
        named = split(curated, "--val", "0.2", "--seed", str(seed))
        if {name[0] for name, one in named.items() if one == "val"} == {"b"}:
            break
    else:
        pytest.fail("no seed of 100 gives episodes of source b alone to val")
    run = export(capsys, curated, tmp_path / "set")
    held = list(named.values()).count("train")
    assert run.json("meta/info.json")["splits"] == {"train": f"0:{held}", "val": f"{held}:6"}


def test_rlds_has_the_splits_too(curated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = split(curated, "--val", "0.3", "--stratify")
    assert export(capsys, curated, tmp_path / "set", kind="rlds").status == 0
    for source in ("a", "b"):
        folder = tmp_path / "set" / source / "1.0.0"
        info = json.loads((folder / "dataset_info.json").read_text())
        held = {}
        for one in info["splits"]:
            (count,) = one["shardLengths"]
            found = records(folder / f"{source}-{one['name']}.tfrecord-00000-of-00001")
            assert len(found) == int(count)
            held |= {record["episode_metadata/curation/episode_id"][0].decode(): one["name"] for record in found}
        assert held == {name: one for name, one in named.items() if name[0] == source}
        assert set(held.values()) == {"train", "val"}


def test_splits_that_lack_an_episode_are_refused(
    curated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split(curated)
    path = curated / "splits.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    for kind in ("lerobot-v3", "rlds"):
        run = export(capsys, curated, tmp_path / kind, kind=kind)
        assert run.status == 1 and not run.folder.exists()
        assert "lacks 1 of 6 episodes of run 1, such as 'a/train/000000'; run: python -m beam_pipeline split" in run.err
