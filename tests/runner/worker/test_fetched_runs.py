"""Runs that stay open between bundles: which, how many, how long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from beam_pipeline.runner.session.local_ray import LocalRay
from beam_pipeline.runner.shuffle.runs import Run, RunBuffer
from beam_pipeline.runner.worker import fetched_runs
from beam_pipeline.runner.worker.fetched_runs import FetchedRuns


@pytest.fixture(scope="module", autouse=True)
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    local = LocalRay(num_cpus=1, object_store_bytes=100_000_000, spill_dir=tmp_path_factory.mktemp("spill"))
    try:
        yield
    finally:
        local.close()


def run_of(nbytes: int) -> Run:
    buffer = RunBuffer(4)
    buffer.add(b"key", np.random.default_rng(7).bytes(nbytes))
    return buffer.finish()


def test_a_small_run_stays_open_for_the_bundles_of_its_stage_alone() -> None:
    ref, fetched = ray.put(run_of(1000)), FetchedRuns()
    fetched.begin(("job", "s1"))
    opened = fetched.fetch(ref)
    assert opened.values[0].nbytes == 1000
    fetched.begin(("job", "s1"))
    assert fetched.fetch(ref) is opened
    fetched.begin(("job", "s2"))
    again = fetched.fetch(ref)
    assert again is not opened and fetched.fetch(ref) is again
    fetched.close()
    assert fetched.fetch(ref) is not again


def test_no_more_stays_open_than_the_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fetched_runs, "_MOST_BYTES", 2500)
    refs, fetched = [ray.put(run_of(1000)) for _ in range(3)], FetchedRuns()
    fetched.begin(("job", "s1"))
    opened = [fetched.fetch(ref) for ref in refs]
    assert [fetched.fetch(ref) is run for ref, run in zip(refs, opened, strict=True)] == [True, True, False]


def test_what_is_no_run_is_fetched_anew_and_what_is_no_ref_is_itself() -> None:
    fetched = FetchedRuns()
    ref = ray.put([1, 2])
    first = fetched.fetch(ref)
    assert first == [1, 2] and fetched.fetch(ref) is not first
    run = run_of(10)
    assert fetched.fetch(run) is run


def after_each_get(monkeypatch: pytest.MonkeyPatch, then: Callable[[], object]) -> None:
    """Do something between Ray's answer and what the code makes of it: where another thread may come in."""
    get = ray.get

    def got(ref: Any) -> Any:
        value = get(ref)
        then()
        return value

    monkeypatch.setattr(fetched_runs.ray, "get", got)


def test_what_two_threads_get_at_once_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetched_runs, "_MOST_BYTES", 2500)
    refs, fetched = [ray.put(run_of(1000)) for _ in range(2)], FetchedRuns()
    fetched.begin(("job", "s1"))
    with monkeypatch.context() as patched, ThreadPoolExecutor(2) as threads:
        after_each_get(patched, threading.Barrier(2, timeout=60).wait)
        first, second = threads.map(fetched.fetch, [refs[0]] * 2)
    assert first is second, "both bundles read the one that stays open"
    other = fetched.fetch(refs[1])
    assert fetched.fetch(refs[1]) is other, "there was room for it"


def test_a_run_that_arrives_after_its_stage_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    ref, fetched = ray.put(run_of(1000)), FetchedRuns()
    fetched.begin(("job", "s1"))
    with monkeypatch.context() as patched:
        after_each_get(patched, lambda: fetched.begin(("job", "s2")))
        late = fetched.fetch(ref)
    assert fetched.fetch(ref) is not late
