"""The PipelineResult of RayRunner: follows, waits for and cancels a job that runs in a thread of this process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType

from apache_beam.pipeline import Pipeline
from apache_beam.runners.runner import PipelineResult, PipelineState

from beam_pipeline.runner.beam_internals import metrics_pb2
from beam_pipeline.runner.errors import PipelineFailed, as_cause_type
from beam_pipeline.runner.metrics import CommittedMetrics, InfosByStage, RayMetrics
from beam_pipeline.runner.progress import JobProgress, Progress

_LOGGER = logging.getLogger(__name__)
_POLL_S = 0.2


class RayPipelineResult(PipelineResult):
    """One run of a pipeline. All methods may be called from any thread, also while the job runs.

    `run` does the whole job; it returns early once the event that it is given is set. A program that ends before its
    pipeline cancels it.
    """

    def __init__(
        self, run: Callable[[threading.Event], None], metrics: CommittedMetrics, progress: Progress | None = None
    ) -> None:
        super().__init__(PipelineState.STARTING)
        self.pipeline: Pipeline | None = None
        self._run = run
        self._committed = metrics
        self._progress = progress or Progress("off")
        self._cancelled = _Cancelled()
        self._finished = threading.Event()
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        # no daemon: at the end of the program the interpreter waits for the job to close its workers
        self._thread = threading.Thread(target=self._live, name="ray-runner-job", daemon=False)

    def start(self) -> None:
        """Let the job run, in a thread of its own."""
        self._state = PipelineState.RUNNING
        self._thread.start()

    def wait_until_finish(self, duration: float | None = None) -> str:
        """Wait for the end, at most `duration` milliseconds; returns the state, that of a running job on a timeout.

        Raises what made the job fail: for user code an exception that is both a PipelineFailed and of the user's type.
        A KeyboardInterrupt while it waits cancels the job and, once its workers are closed, goes on.
        """
        deadline = None if duration is None else time.monotonic() + duration / 1000
        try:
            self._wait(deadline)
        except KeyboardInterrupt:
            self.cancel()
            raise
        if self._failure is not None:
            raise self._failure
        return self.state

    def cancel(self) -> str:
        """Cancel the job, wait until its workers are closed and return the state; of an ended job nothing changes."""
        with self._lock:
            if not PipelineState.is_terminal(self._state):
                self._state = PipelineState.CANCELLING
                self._cancelled.set()
        self._wait(None)
        return self.state

    @property
    def state(self) -> str:
        """One of STARTING, RUNNING, CANCELLING, DONE, FAILED, CANCELLED."""
        state: str = self._state
        return state

    @property
    def progress(self) -> JobProgress:
        """How far the job is."""
        return self._progress.snapshot()

    def metrics(self) -> RayMetrics:
        """User metrics of the bundles committed so far."""
        return RayMetrics(self._committed.monitoring_infos_by_stage(), user_metrics_only=True)

    def monitoring_metrics(self) -> RayMetrics:
        """All metrics of the bundles committed so far, those of the runner included."""
        return RayMetrics(self._committed.monitoring_infos_by_stage(), user_metrics_only=False)

    def monitoring_infos(self) -> Iterator[metrics_pb2.MonitoringInfo]:
        """The infos of every stage, then of the job."""
        for infos in self._committed.monitoring_infos_by_stage().values():
            yield from infos

    @property
    def _monitoring_infos_by_stage(self) -> InfosByStage:
        # by this name Beam's FnApiRunnerMetricsTest asks any runner's result
        return self._committed.monitoring_infos_by_stage()

    def _wait(self, deadline: float | None) -> None:
        # in short steps: a signal that another thread receives does not wake the main thread from a lock
        while not self._finished.is_set():
            left_s = _POLL_S if deadline is None else deadline - time.monotonic()
            if left_s <= 0:
                return
            self._finished.wait(min(left_s, _POLL_S))

    def _live(self) -> None:
        with _Outcome() as outcome, self._progress:
            self._run(self._cancelled)
        self._end(outcome.error)

    def _end(self, error: BaseException | None) -> None:
        with self._lock:
            asked = self._cancelled.asked
            # a job that ended before it saw the cancellation is done, one that broke under it is cancelled
            if self._cancelled.seen or (asked and error is not None):
                self._state = PipelineState.CANCELLED
            elif error is None:
                self._state = PipelineState.DONE
            else:
                self._failure = as_cause_type(error) if isinstance(error, PipelineFailed) else error
                self._state = PipelineState.FAILED
        if self._state == PipelineState.CANCELLED and error is not None:
            _LOGGER.warning("the job failed while it was cancelled", exc_info=error)
        if self._state == PipelineState.CANCELLED and not asked:
            _LOGGER.warning(
                "the program ended before its pipeline, which is cancelled; call wait_until_finish() on the result"
            )
        self._finished.set()


class _Cancelled(threading.Event):
    """Set by a cancellation, and by the end of the program's main thread, which nobody could announce."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = False
        """Whether the job has been told that it is cancelled."""

    @property
    def asked(self) -> bool:
        return super().is_set()

    def is_set(self) -> bool:
        self.seen = super().is_set() or not threading.main_thread().is_alive()
        return self.seen


class _Outcome:
    """Keeps whatever is raised within, for those who wait for the job."""

    error: BaseException | None = None

    def __enter__(self) -> _Outcome:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        self.error = error
        return True
