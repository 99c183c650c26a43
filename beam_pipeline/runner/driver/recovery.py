"""What happens when work fails: retries within bounds, and replays of what made a lost object."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator

import ray

from beam_pipeline.runner.driver.graph import Work
from beam_pipeline.runner.driver.job import Job
from beam_pipeline.runner.driver.losses import describe_death, lost_among
from beam_pipeline.runner.driver.pools import Worker, WorkerPools
from beam_pipeline.runner.errors import PipelineFailed
from beam_pipeline.runner.tasks import BundleResult, Failure
from beam_pipeline.runner.worker.harness import lost_object

_LOGGER = logging.getLogger(__name__)


class Recovery:
    """Decides about failed work. `retry` is what is to be given out again."""

    def __init__(self, job: Job, pools: WorkerPools) -> None:
        self._job = job
        self._pools = pools
        self.retry: list[Work] = []
        self._waiting: dict[Work, set[Work]] = {}

    def open_work(self) -> Iterator[Work]:
        """All work that is formed and not committed, or does a replay."""
        yield from self.retry
        yield from self._waiting
        yield from self._job.internal
        for worker in self._pools.all():
            yield from (work for work, _ in worker.running.values())

    def worker_died(self, worker: Worker, error: Exception) -> None:
        """A worker's process or node is gone or out of reach: retry what it had.

        It counts as a failure of what ran; what waited behind that in the worker had not begun.
        """
        self._pools.drop(worker)
        # one that is only out of reach would go on with a bundle that is done again elsewhere
        ray.kill(worker.actor)
        works = [work for work, _ in worker.running.values()]
        worker.running.clear()
        _LOGGER.warning(
            "a worker of pool %s died in stage %s: %s", worker.request.name, works[0].stage.plan.label, error
        )
        for work in works:
            self._job.running -= 1
            work.stage.running -= 1
        told = describe_death(error, self._job.config.bundle_bytes)
        hopeless = isinstance(error, ray.exceptions.RuntimeEnvSetupError)
        for work in works[: worker.request.max_active_bundles]:
            self._system_failure(work, told, hopeless)
        for work in works:
            self._recover(work)

    def task_broke(self, work: Work, error: ray.exceptions.RayError) -> None:
        """A call raised: an input was lost, or code outside the stage's steps failed, such as a coder in a merge."""
        lost = lost_object(error)
        if lost:
            self._input_lost(work, lost, str(error))
        else:
            cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
            told = f"{type(cause).__name__}: {cause}"
            self._user_failure(work, Failure(work.stage.plan.label, told, str(error), "", None))

    def bundle_failed(self, work: Work, result: BundleResult) -> None:
        """User code raised, or met a lost input."""
        failure = result.failure
        assert failure is not None
        if failure.lost:
            self._input_lost(work, failure.lost, failure.error)
        else:
            self._user_failure(work, failure)

    def committed(self, work: Work) -> None:
        """Let go on what waited for the work's replay."""
        if work.kind == "index":
            # who has opened the stage may know the lost index alone
            for worker in self._pools.all():
                worker.opened.discard((self._job.id, work.stage.plan.name))
        for waiter, missing in list(self._waiting.items()):
            missing.discard(work)
            if not missing:
                del self._waiting[waiter]
                self.again(waiter)

    def again(self, work: Work) -> None:
        """Give the work out again; not where a replay has taken all its input back."""
        work.outdated = False
        if work.inputs or work.blocks or work.kind == "index":
            self.retry.append(work)
        elif work.kind == "bundle":
            work.stage.uncommitted -= 1
        elif work.shuffle:
            work.shuffle.merging -= 1

    def inputs_changed(self) -> None:
        """Look through what is to be given out, after a replay has taken some input back."""
        queued, self.retry[:] = list(self.retry), []
        internal, self._job.internal[:] = list(self._job.internal), []
        for work in [*queued, *internal]:
            self.again(work)

    def _user_failure(self, work: Work, failure: Failure) -> None:
        """Retry within the bound, then fail with the traceback."""
        work.user_failures += 1
        most = self._job.config.max_user_failures
        if work.user_failures < most:
            _LOGGER.warning(
                "bundle %s of stage %s failed, attempt %d of %d: %s",
                work.name,
                failure.stage,
                work.user_failures,
                most,
                failure.error,
            )
            self.again(work)
            return
        cause: BaseException | None = pickle.loads(failure.pickled) if failure.pickled else None
        raise _failed(work, failure) from cause

    def _input_lost(self, work: Work, lost: str, told: str) -> None:
        self._system_failure(work, f"object lost: {told}")
        self._recover(work, lost)

    def _system_failure(self, work: Work, told: str, hopeless: bool = False) -> None:
        work.system_failures += 1
        if hopeless or work.system_failures > self._job.config.max_system_failures:
            raise _failed(work, Failure(work.stage.plan.label, told, "", "", None))

    def _recover(self, work: Work, lost: str = "") -> None:
        """Retry the work, after a replay of whatever made the inputs that are lost. `lost`: an object known to be."""
        origins = {block.origin for block in lost_among(work.input_blocks(), lost)}
        if not origins:
            self.again(work)
            return
        self._waiting[work] = origins
        for origin in origins:
            if not origin.replaying:
                self._replay(origin)

    def _replay(self, origin: Work) -> None:
        _LOGGER.warning("an output of %s of stage %s was lost; it is made again", origin.name, origin.stage.plan.label)
        origin.replaying = True
        for block in origin.input_blocks():
            block.users += 1
        self._recover(origin)


def _failed(work: Work, failure: Failure) -> PipelineFailed:
    return PipelineFailed(
        stage=failure.stage,
        bundle=work.name,
        error=failure.error,
        preview=failure.preview,
        traceback_text=failure.traceback,
        user_failures=work.user_failures,
        system_failures=work.system_failures,
    )
