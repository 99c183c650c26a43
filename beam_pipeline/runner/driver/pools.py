"""Pools of workers: one per distinct set of resource hints, kept warm between the pipelines of a session."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray

from beam_pipeline.runner.driver.capacity import Capacity
from beam_pipeline.runner.hints import ResourceRequest
from beam_pipeline.runner.worker.bundle_worker import BundleWorker

_LOGGER = logging.getLogger(__name__)
_CLOSE_S = 30.0
_GIVE_WAY_IDLE_S = 1.0
_SLOW_START_S = 15.0


@dataclass(eq=False)
class Worker:
    """A worker's actor and what the driver gave it to do."""

    actor: Any
    request: ResourceRequest
    opened: set[tuple[str, str]] = field(default_factory=set)
    running: dict[Any, Any] = field(default_factory=dict)
    starting: Any = None
    started: float = field(default_factory=time.monotonic)
    idle_since: float = field(default_factory=time.monotonic)
    alive: bool = True
    told: bool = False

    def up(self) -> bool:
        """Whether the worker's process answers; True too once it is found dead, so that its first call tells."""
        if self.starting is not None and ray.wait([self.starting], timeout=0)[0]:
            self.starting = None
        return self.starting is None


class WorkerPools:
    """All workers of a session."""

    def __init__(
        self,
        least: int,
        most: int,
        runtime_env: Mapping[str, Any],
        main_session: bytes | None = None,
        fixed: bool = True,
        cpus: int | None = None,
    ) -> None:
        self._least = least
        self._most = most
        self._runtime_env = dict(runtime_env)
        self._main_session = main_session
        self._capacity = Capacity(fixed, cpus)
        self._pools: dict[ResourceRequest, list[Worker]] = {}

    @property
    def most(self) -> int:
        """The most workers that one pool has."""
        return self._most

    def pool(self, request: ResourceRequest) -> list[Worker]:
        """The living workers of a pool."""
        return self._pools.setdefault(request, [])

    def all(self) -> list[Worker]:
        return [worker for pool in self._pools.values() for worker in pool]

    def limit(self, request: ResourceRequest) -> int:
        """How many workers a pool may have within the bounds and, on a fixed cluster, its resources."""
        held = self._capacity.holds(request)
        return self._most if held is None else min(self._most, held)

    def cpus_free(self, request: ResourceRequest) -> bool:
        """Whether one more worker may have work at the same time."""
        cpus = self._capacity.cpus
        return cpus is None or sum(w.request.cpus for w in self.all() if w.running) + request.cpus <= cpus

    def starting(self) -> bool:
        """Whether a worker is being started, and not for so long that it may never come."""
        now = time.monotonic()
        return any(not w.up() and now - w.started <= _SLOW_START_S for w in self.all())

    def grow(self, request: ResourceRequest, needed: Collection[ResourceRequest] = ()) -> Worker | None:
        """Start one more worker; None where the pool has as many as it may, or no other pool gives way.

        `needed`: the requests of stages that are not done, whose pools keep a worker at least.
        """
        pool = self.pool(request)
        if len(pool) >= self.limit(request) or not self._room(request, needed):
            return None
        needs = self._capacity.taken_by(request)
        actor = (
            ray.remote(BundleWorker)
            .options(
                num_cpus=needs.get("CPU", 0),
                num_gpus=needs.get("GPU", 0),
                memory=request.min_ram_bytes or None,
                accelerator_type=request.accelerator or None,
                runtime_env=self._runtime_env or None,
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=request.max_active_bundles,
            )
            .remote(self._main_session, request.cpus)
        )
        worker = Worker(actor, request, starting=actor.pid.remote())
        pool.append(worker)
        return worker

    def warm(self, request: ResourceRequest = ResourceRequest()) -> None:  # noqa: B008  (frozen)
        """Start the pool's least number of workers."""
        while len(self.pool(request)) < min(self._least, self.limit(request)):
            if self.grow(request) is None:
                return

    def tell_of_waiting(self) -> None:
        """Log, once each, which workers have been waiting for their resources for long."""
        now = time.monotonic()
        for worker in self.all():
            if worker.starting is not None and now - worker.started > _SLOW_START_S and not worker.told:
                worker.told = True
                _LOGGER.warning(
                    "a worker of pool %s has been starting for %.0f s; the cluster has %s in all: add nodes, end what "
                    "else runs there, or lower the resource hints",
                    worker.request.name,
                    now - worker.started,
                    {name: value for name, value in self._capacity.total().items() if name in ("CPU", "GPU", "memory")},
                )

    def drop(self, worker: Worker) -> None:
        """Forget a worker that died."""
        worker.alive = False
        pool = self.pool(worker.request)
        if worker in pool:
            pool.remove(worker)

    def drain(self, worker: Worker) -> None:
        """End an idle worker in order: teardown first, then its process."""
        self.drop(worker)
        jobs = {job for job, _ in worker.opened}
        try:
            ray.get([worker.actor.close_job.remote(job) for job in jobs], timeout=_CLOSE_S)
        except (ray.exceptions.RayError, TimeoutError) as error:
            _LOGGER.warning("a worker of pool %s did not close in order: %s", worker.request.name, error)
        ray.kill(worker.actor)

    def shrink(self, idle_seconds: float) -> None:
        """Drain the workers that were idle for longer, beyond each pool's least number."""
        now = time.monotonic()
        for pool in self._pools.values():
            for worker in [w for w in pool if not w.running and now - w.idle_since > idle_seconds]:
                if len(pool) > self._least:
                    self.drain(worker)

    def close(self) -> None:
        """Drain every worker."""
        for worker in self.all():
            self.drain(worker)

    def _room(self, request: ResourceRequest, needed: Collection[ResourceRequest]) -> bool:
        """Whether there is room for one more; idle workers of other pools give way where that makes room.

        A cluster that may grow is asked for one worker more than it has room for, which is what makes it grow.
        """
        giving_way: list[Worker] = []
        taken_by = self._capacity.taken_by
        for name, need in taken_by(request).items():
            room = self._capacity.total().get(name, 0)
            used = sum(taken_by(w.request).get(name, 0) for w in self.all() if w not in giving_way)
            for worker in self._giving_way(request, needed):
                if used + need <= room:
                    break
                if worker not in giving_way:
                    giving_way.append(worker)
                    used -= taken_by(worker.request).get(name, 0)
            if used + need > room:
                return not self._capacity.fixed and not any(w.starting is not None for w in self.pool(request))
        for worker in giving_way:
            self.drain(worker)
        return True

    def _giving_way(self, request: ResourceRequest, needed: Collection[ResourceRequest]) -> list[Worker]:
        """Idle workers that may end for a worker of `request`: those that nobody needs first.

        A pool that is still needed gives its last worker only to one that has none, or two pools would take turns at
        starting workers; and any other only after a while without work.
        """
        starved = not self.pool(request)
        others = [w for w in self.all() if w.request != request and not w.running and w.up()]
        unneeded = [w for w in others if w.request not in needed]
        now = time.monotonic()
        spare = [
            w
            for w in others
            if w.request in needed
            and (starved or (len(self.pool(w.request)) > 1 and now - w.idle_since > _GIVE_WAY_IDLE_S))
        ]
        return unneeded + spare
