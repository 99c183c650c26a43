"""Bundles are finalized once, after their commit; an attempt that died, or a bundle made again, is not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipeline.runner import PipelineFailed, PipelineLifecycleManager, RayRunner

OPTIONS = ["--ray_workers_max=2", "--ray_bundle_mb=0.00005", "--ray_object_store_mb=100"]


class _Finalized(beam.DoFn):  # type: ignore[misc]
    """Notes every element's finalization; fails at one element, by an exception or by the end of its worker."""

    def __init__(self, folder: Path, fault: str, times: int) -> None:
        self._folder = folder
        self._fault = fault
        self._times = times

    def process(self, number: int, finalizer: Any = beam.DoFn.BundleFinalizerParam) -> Iterator[int]:
        finalizer.register(lambda: self._note("final", number))
        self._note("seen", number)
        if number == 11 and len(list(self._folder.glob("seen-11-*"))) <= self._times:
            if self._fault == "death":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("the fault")
        yield number

    def _note(self, what: str, number: int) -> None:
        notes = len(list(self._folder.glob(f"{what}-{number}-*")))
        (self._folder / f"{what}-{number}-{notes}-{os.getpid()}").touch()


def _noted(folder: Path, what: str) -> list[tuple[int, int]]:
    """Numbers and the process that noted them."""
    notes = (path.name.split("-") for path in folder.glob(f"{what}-*"))
    return sorted((int(number), int(pid)) for _, number, _, pid in notes)


def _finalized(folder: Path) -> list[int]:
    return [number for number, _ in _noted(folder, "final")]


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    with PipelineLifecycleManager():
        yield


def _run(folder: Path, fault: str, times: int) -> None:
    with beam.Pipeline(runner=RayRunner(), options=PipelineOptions(OPTIONS)) as pipeline:
        pipeline | beam.Create(range(20)) | beam.Reshuffle() | "Final" >> beam.ParDo(_Finalized(folder, fault, times))


def test_every_element_is_finalized_once_though_an_attempt_raised(tmp_path: Path) -> None:
    _run(tmp_path, "exception", times=1)
    assert len(list(tmp_path.glob("seen-11-*"))) == 2
    assert _finalized(tmp_path) == list(range(20))


def test_what_a_dead_worker_did_not_commit_is_finalized_by_another(tmp_path: Path) -> None:
    _run(tmp_path, "death", times=1)
    (dead,) = {pid for number, pid in _noted(tmp_path, "seen") if number == 11} - {
        pid for number, pid in _noted(tmp_path, "final") if number == 11
    }
    # a callback that the dead worker had not come to is lost with it, as Beam allows
    by_others = {number for number, pid in _noted(tmp_path, "seen") if pid != dead}
    assert by_others <= set(_finalized(tmp_path))
    assert len(_finalized(tmp_path)) == len(set(_finalized(tmp_path)))


def test_a_bundle_that_fails_for_good_is_not_finalized(tmp_path: Path) -> None:
    with pytest.raises(PipelineFailed, match="the fault"):
        _run(tmp_path, "exception", times=100)
    assert 11 not in _finalized(tmp_path)
    assert len(_finalized(tmp_path)) == len(set(_finalized(tmp_path)))
