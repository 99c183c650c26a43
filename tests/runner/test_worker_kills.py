"""Workers are killed while they do anything at all: output, counters and distributions are those of a quiet run."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_pipeline.runner import PipelineLifecycleManager
from tests.runner.fault_jobs import Deaths, Killer, Place, expected, outcome, run_whole_model

COUNT = 1600


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    with PipelineLifecycleManager():
        yield


def test_a_quiet_run_is_what_the_others_are_compared_with(tmp_path: Path) -> None:
    deaths = Deaths(tmp_path)
    assert outcome(run_whole_model(deaths, COUNT), tmp_path) == expected(COUNT)


@pytest.mark.parametrize(
    "places",
    [
        pytest.param([("read", 5), ("read", 1001)], id="a splittable read"),
        pytest.param([("map", 0), ("map", 700), ("map", 701)], id="a map that writes to a shuffle"),
        pytest.param([("reduce", 2), ("reduce", 6)], id="a reduce, within a key"),
        pytest.param([("state", 0), ("timer", 3), ("timer", 4)], id="state and timers"),
    ],
)
def test_a_worker_dies_in_user_code(tmp_path: Path, places: list[Place]) -> None:
    deaths = Deaths(tmp_path, frozenset(places))
    found = outcome(run_whole_model(deaths, COUNT), tmp_path)
    assert deaths.not_struck() == []
    assert found == expected(COUNT)


@pytest.mark.parametrize(("doing", "weights"), [("merge", 1), ("index", 5000)])
def test_a_worker_is_killed_in_the_runners_own_work(tmp_path: Path, doing: str, weights: int) -> None:
    deaths = Deaths(tmp_path)
    with Killer(f".{doing}", limit=1, pauses=itertools.repeat(0.0)) as killer:
        found = outcome(run_whole_model(deaths, COUNT, weights), tmp_path)
    assert killer.killed == [f"ray::BundleWorker.{doing}"]
    assert found == expected(COUNT)


@pytest.mark.parametrize("seed", [1, 2])
def test_workers_are_killed_from_outside_at_random(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    deaths = Deaths(tmp_path)
    with Killer("", limit=6, pauses=iter(lambda: chance.choice([0.0, 0.2, 0.8]), -1.0)) as killer:
        found = outcome(run_whole_model(deaths, COUNT), tmp_path)
    assert len(killer.killed) >= 2, "hardly a worker was killed: the test tests nothing"
    assert found == expected(COUNT)
