"""Runs of the shuffle that a worker reads, kept open between the bundles of one stage where they are small.

Every bundle of a stage reads a part of every run; to open a run costs as much as to read a hundred kilobytes of it.
"""

from __future__ import annotations

from typing import Any

import ray

from beam_pipeline.runner.packing import PackedArray
from beam_pipeline.runner.shuffle.runs import Run

_MOST_BYTES = 32 << 20
"""What lies open cannot leave the object store."""


class FetchedRuns:
    """Gets what lies in Ray's object store; runs of the stage that fetched last stay open up to 32 MB."""

    def __init__(self) -> None:
        self._stage: tuple[str, str] | None = None
        self._runs: dict[Any, Run] = {}
        self._nbytes = 0

    def begin(self, stage: tuple[str, str]) -> None:
        """A bundle of a stage begins, given as (job, name)."""
        if stage != self._stage:
            self.close()
            self._stage = stage

    def close(self) -> None:
        """Let go of all runs."""
        self._stage, self._runs, self._nbytes = None, {}, 0

    def fetch(self, item: Any) -> Any:
        """What a ref stands for; anything else is itself."""
        if not isinstance(item, ray.ObjectRef):
            return item
        run = self._runs.get(item)
        if run is not None:
            return run
        value = ray.get(item)
        if isinstance(value, Run):
            nbytes = _stored_bytes(value)
            if self._nbytes + nbytes <= _MOST_BYTES:
                self._runs[item] = value
                self._nbytes += nbytes
        return value


def _stored_bytes(run: Run) -> int:
    columns = (run.keys, run.key_ends, run.counts, run.value_ends)
    values = (a.data if isinstance(a, PackedArray) else a for a in run.values)
    return sum(array.nbytes for array in columns) + sum(array.nbytes for array in values)
