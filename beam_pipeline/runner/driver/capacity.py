"""What the cluster offers to workers, and whether it may grow."""

from __future__ import annotations

import time
from collections.abc import Mapping

import ray

from beam_pipeline.runner.hints import ResourceRequest

_KEEP_S = 1.0


class Capacity:
    """Resources of the cluster by Ray's names (memory in bytes), asked for at most once a second: nodes come and go.

    `fixed`: nothing will ever be added, as on a Ray that was started on this machine. `cpus`: of a Ray of our own;
    its workers take CPUs only while they have work, so that those of one pool need not end for those of another.
    """

    def __init__(self, fixed: bool, cpus: int | None = None) -> None:
        self.fixed = fixed
        self.cpus = cpus
        self._total: Mapping[str, float] = {}
        self._asked = -_KEEP_S

    def total(self) -> Mapping[str, float]:
        """All resources, used or not."""
        if time.monotonic() - self._asked >= _KEEP_S:
            self._total, self._asked = ray.cluster_resources(), time.monotonic()
        return self._total

    def holds(self, request: ResourceRequest) -> int | None:
        """How many workers of a request fit at most; None where the cluster may grow."""
        if not self.fixed:
            return None
        total = self.total()
        counts = [int(total.get(name, 0) // need) for name, need in self.taken_by(request).items()]
        if self.cpus is not None:
            counts.append(self.cpus // request.cpus)
        return min(counts)

    def taken_by(self, request: ResourceRequest) -> dict[str, float]:
        """What one worker takes for as long as it lives, by Ray's names."""
        needs: dict[str, float] = {} if self.cpus is not None else {"CPU": float(request.cpus)}
        if request.gpus:
            needs["GPU"] = request.gpus
        if request.min_ram_bytes:
            needs["memory"] = float(request.min_ram_bytes)
        return needs
