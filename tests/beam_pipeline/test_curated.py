"""A published folder as its readers see it, against the raw file."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

from beam_pipeline.curated import CuratedSet
from beam_pipeline.output_folder import OutputError
from tests.factories import motion, write_isaac
from tests.job import run_job

ISAAC = "  - {name: i j, path: 'isaac/*.hdf5', format: isaac_hdf5, embodiment: panda}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three demonstrations, kept, in parts of one episode each."""
    folder = tmp_path_factory.mktemp("curated")
    write_isaac(folder / "isaac/a.hdf5", {number: motion(number) for number in (0, 2, 10)})
    assert run_job(folder, ISAAC, "\nsink: {part_target_mb: 0.002}").status == 0
    return folder


def test_every_step_is_there_with_its_action_the_last_one_too(folder: Path) -> None:
    curated = CuratedSet(folder / "out")
    episodes = list(curated.episodes())
    assert [e.episode_id for e in episodes] == [f"i j/a/{number:06d}" for number in (0, 2, 10)]
    assert curated.sources() == ("i j",) and len({e.part for e in episodes}) > 1
    with h5py.File(folder / "isaac/a.hdf5") as file:
        for episode, number in zip(episodes, (0, 2, 10), strict=True):
            steps = curated.steps(episode)
            actions = file[f"data/demo_{number}/actions"][:]
            np.testing.assert_array_equal(np.stack(steps["action"].to_pylist()).astype("f4"), actions)
            assert steps["frame_index"].to_pylist() == list(range(len(actions))) and episode.n_steps == len(actions)
            assert steps["next.done"].null_count == 1 and steps["next.done"][-1].as_py() is None
            transitions = curated.transitions(episode, ["action"])
            assert transitions.column_names == ["frame_index", "action"]
            assert transitions.num_rows == episode.n_transitions == len(actions) - 1


def test_tables_are_read_whole_with_their_source(folder: Path) -> None:
    curated = CuratedSet(folder / "out")
    ledger = curated.rows("ledger", columns=["source", "episode_id", "outcome"])
    assert ledger.column_names == ["source", "episode_id", "outcome"]
    assert set(ledger["source"].to_pylist()) == {"i j"} and ledger.num_rows == 3
    episode = next(curated.episodes())
    row = pq.read_table(curated.files("episodes")[0]).to_pylist()[0]
    assert episode.scores["integrity.transitions"] == row["score.integrity.transitions"]


def test_a_folder_without_a_run_and_a_lost_part_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="holds no published run"):
        CuratedSet(tmp_path)
    curated = CuratedSet(folder / "out")
    lost = curated.files("transitions")[0]
    hidden = lost.rename(lost.with_suffix(".hidden"))
    try:
        with pytest.raises(OutputError, match=r"part-00000\.parquet is gone, and the manifest names it"):
            list(curated.steps(next(curated.episodes())))
    finally:
        hidden.rename(lost)
