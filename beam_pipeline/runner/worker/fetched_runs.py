"""Runs of the shuffle that a worker reads, kept open between the bundles of one stage where they are small.

Every bundle of a stage reads a part of every run; to open a run costs as much as to read a hundred kilobytes of it.
"""

from __future__ import annotations

import threading
from typing import Any

import ray

from beam_pipeline.runner.packing import PackedArray
from beam_pipeline.runner.shuffle.runs import Run

_MOST_BYTES = 32 << 20
"""What lies open cannot leave the object store."""


class FetchedRuns:
    """Gets what lies in Ray's object store; runs of the stage that fetched last stay open up to 32 MB.

    Bundles of a worker with several threads share it: what two of them get at once is kept and counted once, and what
    arrives when another stage has begun is not kept.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stage: tuple[str, str] | None = None
        self._runs: dict[Any, Run] = {}
        self._nbytes = 0

    def begin(self, stage: tuple[str, str]) -> None:
        """A bundle of a stage begins, given as (job, name)."""
        with self._lock:
            if stage != self._stage:
                self._begin(stage)

    def close(self) -> None:
        """Let go of all runs."""
        with self._lock:
            self._begin(None)

    def _begin(self, stage: tuple[str, str] | None) -> None:
        self._stage, self._runs, self._nbytes = stage, {}, 0

    def fetch(self, item: Any) -> Any:
        """What a ref stands for; anything else is itself."""
        if not isinstance(item, ray.ObjectRef):
            return item
        with self._lock:
            runs = self._runs
            run = runs.get(item)
        if run is not None:
            return run
        value = ray.get(item)  # may wait for another node, so without the lock
        if not isinstance(value, Run):
            return value
        nbytes = _stored_bytes(value)
        with self._lock:
            kept = runs.get(item)
            if kept is None and runs is self._runs and self._nbytes + nbytes <= _MOST_BYTES:
                runs[item] = value
                self._nbytes += nbytes
        return value if kept is None else kept


def _stored_bytes(run: Run) -> int:
    columns = (run.keys, run.key_ends, run.counts, run.value_ends)
    values = (a.data if isinstance(a, PackedArray) else a for a in run.values)
    return sum(array.nbytes for array in columns) + sum(array.nbytes for array in values)
