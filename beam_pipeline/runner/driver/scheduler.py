"""The driver's loop: it forms bundles, gives them to workers, commits what comes back until all stages are done."""

from __future__ import annotations

import logging
import pickle
import threading
import time
from typing import Any

import ray

from beam_pipeline.runner.driver.commit import Committer
from beam_pipeline.runner.driver.dispatch import Dispatcher
from beam_pipeline.runner.driver.graph import BlockSpan, ShufflePart, StageState, Work
from beam_pipeline.runner.driver.job import Job
from beam_pipeline.runner.driver.pools import Worker, WorkerPools
from beam_pipeline.runner.driver.recovery import Recovery
from beam_pipeline.runner.live_metrics import LiveMetrics
from beam_pipeline.runner.worker.relay import retell

_LOGGER = logging.getLogger(__name__)
_WAIT_S = 0.2
_SHRINK_EVERY_S = 1.0


class Scheduler:
    """Runs one job on a session's workers; `live` is told once a second how far it is."""

    def __init__(self, job: Job, pools: WorkerPools, live: LiveMetrics | None = None) -> None:
        self._job = job
        self._live = live
        self._pools = pools
        self._dispatch = Dispatcher(job, pools)
        self._recovery = Recovery(job, pools)
        self._commit = Committer(job, self._recovery)
        self._retry: list[Work] = self._recovery.retry
        self._shrunk = time.monotonic()

    def run(self, cancelled: threading.Event) -> None:
        """Run to the end; returns early, with nothing torn down yet, once `cancelled` is set.

        Raises PipelineFailed where a bundle failed more often than it may.
        """
        self._job.begin()
        while not self._job.advance():
            if cancelled.is_set():
                return
            given = self._give()
            if not self._collect(0.0 if given and self._free() else _WAIT_S) and not given:
                self._check_stuck()
            if time.monotonic() - self._shrunk > _SHRINK_EVERY_S:
                self._shrunk = time.monotonic()
                self._tell()
                self._pools.tell_of_waiting()
                self._pools.shrink(self._job.config.worker_idle_seconds)

    def _tell(self) -> None:
        self._job.progress.workers_alive(len(self._pools.all()))
        if self._live is not None:
            self._live.tell(self._job.stages.values(), self._job.progress.snapshot())

    def close(self) -> None:
        """Tear down the job's stages on every worker; what still runs is waited for or, after a failure, ended."""
        self._tell()
        for worker in self._pools.all():
            if worker.running:
                worker.running.clear()
                self._pools.drop(worker)
                ray.kill(worker.actor)
        closing = [w for w in self._pools.all() if any(place[0] == self._job.id for place in w.opened)]
        calls = [w.actor.close_job.remote(self._job.id) for w in closing]
        for worker, call in zip(closing, calls, strict=True):
            worker.opened = {place for place in worker.opened if place[0] != self._job.id}
            try:
                failed = ray.get(call)
            except ray.exceptions.RayError:
                self._pools.drop(worker)
                continue
            if failed:
                _LOGGER.warning("a teardown raised %s", failed)

    def _free(self) -> bool:
        return any(not w.running for w in self._pools.all())

    def _give(self) -> bool:
        """Give work to every worker that can take some; whether any was given."""
        given = False
        while True:
            work = self._next_work()
            if work is None:
                return given
            worker = self._dispatch.worker_for(work)
            if worker is None:
                self._put_back(work)
                return given
            self._dispatch.give(work, worker)
            given = True

    def _next_work(self) -> Work | None:
        """Retries first, then what frees or unblocks others, then the stage furthest downstream that may run."""
        for index, work in enumerate(self._retry):
            if self._dispatch.worker_for(work):
                return self._retry.pop(index)
        internal = self._job.internal
        for index, work in enumerate(internal):
            if self._dispatch.worker_for(work):
                return internal.pop(index)
        now = time.monotonic()
        throttled: StageState | None = None
        for stage in self._job.by_depth:
            if stage.done or not stage.ready or not stage.has_input(now) or not self._dispatch.has_place(stage):
                continue
            if self._job.throttled(stage):
                throttled = throttled or stage
                continue
            return self._bundle(stage, now)
        # beyond its bytes only where nothing else moves: a worker that starts just now may be the reader's
        if throttled and not self._job.running and not self._retry and not self._pools.starting():
            return self._bundle(throttled, now)
        return None

    def _bundle(self, stage: StageState, now: float) -> Work:
        # more bundles than places, so that a place that is done early is not idle; for one place it gains nothing
        places = max(1, self._pools.limit(stage.plan.request)) * stage.plan.request.max_active_bundles
        parallel = 1 if places == 1 else places * (4 if stage.plan.splittable else 2)
        inputs = stage.next_inputs(now, parallel, self._job.config.bundle_bytes)
        stage.bundles += 1
        stage.uncommitted += 1
        return Work("bundle", stage, f"{stage.plan.name}/{stage.bundles}", inputs)

    def _put_back(self, work: Work) -> None:
        if work.kind == "bundle" and not work.attempts:
            work.stage.bundles -= 1
            work.stage.uncommitted -= 1
            for item in reversed(work.inputs):
                if isinstance(item, BlockSpan):
                    work.stage.push(item, front=True)
                elif isinstance(item, ShufflePart):
                    item.shuffle.parts.appendleft(item)
                else:
                    work.stage.defer(0.0, item.transform_id, item.elements[0])
        else:
            self._retry.append(work)

    def _collect(self, timeout: float) -> bool:
        """Commit what is finished; whether anything was."""
        calls = {call: worker for worker in self._pools.all() for call in worker.running}
        starting = [w.starting for w in self._pools.all() if w.starting is not None]
        waiting = [*calls, *starting]
        if not waiting:
            if timeout and self._job.waits_for_time():
                time.sleep(min(timeout, 0.05))
            return False
        finished, _ = ray.wait(waiting, num_returns=1, timeout=timeout)
        if finished and len(waiting) > 1:
            finished, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        for call in finished:
            if call in calls:
                self._finish(calls[call], call)
        for worker in self._pools.all():
            worker.up()
        return bool(finished)

    def _finish(self, worker: Worker, call: Any) -> None:
        if not worker.alive:
            return
        work, outputs = worker.running[call]
        broken: ray.exceptions.RayError | None = None
        result: Any = None
        try:
            result = ray.get(call)
            if work.kind == "bundle":
                result = pickle.loads(result)
            if work.kind == "merge":
                *outputs, infos = outputs
                result = ray.get(infos)
        except (ray.exceptions.ObjectLostError, ray.exceptions.RayTaskError) as error:
            broken = error
        except ray.exceptions.RayError as error:
            self._recovery.worker_died(worker, error)
            return
        del worker.running[call]
        worker.idle_since = time.monotonic()
        self._job.running -= 1
        work.stage.running -= 1
        if work.outdated:
            self._recovery.again(work)
            return
        if broken:
            self._recovery.task_broke(work, broken)
            return
        if work.kind == "bundle":
            retell(result.told)
        if work.kind == "bundle" and result.failure:
            self._recovery.bundle_failed(work, result)
        elif work.kind == "bundle":
            self._commit.bundle(work, result, outputs)
            if result.finalize:
                worker.actor.finalize.remote(self._job.id, work.stage.plan.name, result.bundle)
            self._recovery.committed(work)
        else:
            self._commit.internal(work, result, outputs)
            self._recovery.committed(work)

    def _check_stuck(self) -> None:
        """Fail where nothing runs, nothing can be given and no time is waited for: a fault of the runner itself."""
        if self._job.running or self._pools_starting() or self._job.waits_for_time():
            return
        if any(self._dispatch.unmet(stage) for stage in self._job.by_depth if not stage.done):
            raise self._dispatch.unmet_error()
        self._job.idle_rounds += 1
        if self._job.idle_rounds > 50:
            raise RuntimeError(f"the scheduler has nothing to do but the job is not done: {self._job.describe()}")
        time.sleep(0.01)

    def _pools_starting(self) -> bool:
        return any(w.starting is not None for w in self._pools.all())
