"""What happens when work fails: retries within bounds, and replays of what made a lost object."""

from __future__ import annotations

import logging
import pickle
from typing import Any

import ray

from beam_pipeline.runner.errors import PipelineFailed
from beam_pipeline.runner.driver.graph import Block, Work
from beam_pipeline.runner.driver.job import Job
from beam_pipeline.runner.driver.pools import Worker, WorkerPools
from beam_pipeline.runner.tasks import BundleResult

_LOGGER = logging.getLogger(__name__)


class Recovery:
    """Decides about failed work. `retry` is what is to be given out again."""

    def __init__(self, job: Job, pools: WorkerPools) -> None:
        self._job = job
        self._pools = pools
        self.retry: list[Work] = []
        self._waiting: dict[Work, set[Work]] = {}

    def worker_died(self, worker: Worker, work: Work, error: Exception) -> None:
        """Retry everything that the dead worker had; only what ran when it died counts a system failure."""
        self._pools.drop(worker)
        _LOGGER.warning("a worker of pool %s died in stage %s: %s", worker.request.name, work.stage.plan.label, error)
        others = [other for other, _ in worker.running.values()]
        worker.running.clear()
        for other in others:
            self._job.running -= 1
            other.stage.running -= 1
            self.retry.append(other)
        self._system_failure(work, "worker died", error)
        self._recover_lost(work)

    def task_broke(self, worker: Worker, work: Work, error: Exception) -> None:
        """A call failed outside user code: an input was lost, or the runner itself is at fault."""
        if not _lost(error) and not isinstance(error, ray.exceptions.ObjectLostError):
            raise error
        self._system_failure(work, "object lost", error)
        self._recover_lost(work)

    def bundle_failed(self, work: Work, result: BundleResult) -> None:
        """User code raised: retry within the bound, then fail with its traceback."""
        failure = result.failure
        assert failure is not None
        if failure.lost:
            self._system_failure(work, "object lost", RuntimeError(failure.error))
            self._recover_lost(work)
            return
        work.user_failures += 1
        if work.user_failures < self._job.config.max_user_failures:
            _LOGGER.warning(
                "bundle %s of stage %s failed, attempt %d of %d: %s",
                work.name,
                failure.stage,
                work.user_failures,
                self._job.config.max_user_failures,
                failure.error,
            )
            self.retry.append(work)
            return
        cause: BaseException | None = pickle.loads(failure.pickled) if failure.pickled else None
        raise PipelineFailed(
            stage=failure.stage,
            bundle=work.name,
            error=failure.error,
            preview=failure.preview,
            traceback_text=failure.traceback,
            user_failures=work.user_failures,
            system_failures=work.system_failures,
        ) from cause

    def committed(self, work: Work) -> None:
        """Let go on what waited for the work's replay."""
        for waiter, missing in list(self._waiting.items()):
            missing.discard(work)
            if not missing:
                del self._waiting[waiter]
                self.retry.append(waiter)

    def _system_failure(self, work: Work, kind: str, error: Exception) -> None:
        work.system_failures += 1
        if work.system_failures > self._job.config.max_system_failures:
            raise PipelineFailed(
                stage=work.stage.plan.label,
                bundle=work.name,
                error=f"{kind}: {error}",
                preview="",
                traceback_text="",
                user_failures=work.user_failures,
                system_failures=work.system_failures,
            )

    def _recover_lost(self, work: Work) -> None:
        """Retry the work, after a replay of whatever made the inputs that are lost."""
        needed = {block.origin for block in [*work.input_blocks(), *work.stage.sides.values()] if _is_gone(block)}
        if not needed:
            self.retry.append(work)
            return
        self._waiting[work] = needed
        for origin in needed:
            if origin in self._waiting or origin in self.retry or self._runs(origin):
                continue
            if not origin.replayable:
                raise PipelineFailed(
                    stage=origin.stage.plan.label,
                    bundle=origin.name,
                    error="its output was lost with a node, and it cannot be repeated since its input split itself",
                    preview="",
                    traceback_text="",
                    user_failures=origin.user_failures,
                    system_failures=origin.system_failures,
                )
            _LOGGER.warning("an output of bundle %s was lost; the bundle is repeated", origin.name)
            self._recover_lost(origin)

    def _runs(self, work: Work) -> bool:
        return any(work is running for w in self._pools.all() for running, _ in w.running.values())


def _is_gone(block: Block) -> bool:
    if block.payload is None:
        return bool(block.info is None or block.info.nbytes)
    if not isinstance(block.payload, ray.ObjectRef):
        return False
    places = ray.experimental.get_object_locations([block.payload])[block.payload]
    if places["node_ids"] or places.get("did_spill"):
        return False
    try:
        ray.get(block.payload, timeout=10)
    except (ray.exceptions.ObjectLostError, ray.exceptions.GetTimeoutError):
        return True
    return False


def _lost(error: Any) -> bool:
    while error is not None:
        if isinstance(error, ray.exceptions.ObjectLostError):
            return True
        error = getattr(error, "cause", None) or error.__cause__
    return False
