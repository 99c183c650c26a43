"""A Ray session: started here or joined, with warm workers, closed by whoever opened it."""

from __future__ import annotations

import atexit
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from beam_pipeline.runner.options import RunnerConfig, cpu_count

if TYPE_CHECKING:
    from beam_pipeline.runner.driver.pools import WorkerPools
    from beam_pipeline.runner.session.code_shipping import ShippedCode


class RaySession:
    """Ray as this process uses it, with warm workers.

    A Ray that the caller has initialised is used and left running; otherwise Ray is started on this machine, or the
    cluster at `config.address` joined, and `close` undoes that. Several threads may use one session.
    """

    def __init__(self, config: RunnerConfig) -> None:
        self.config = config
        self._started = threading.Event()
        self._closing = threading.Event()
        self._error: BaseException | None = None
        self._idle: dict[_PoolKey, WorkerPools] = {}
        self._borrowed = 0
        self._lock = threading.RLock()
        self._owner = False
        self._local = False
        # the kernel ends Ray's processes with the thread that started them, so that one stays as long as the session
        self._thread = threading.Thread(target=self._live, name="ray-session", daemon=True)
        self._thread.start()
        # the thread does not survive the interpreter's end, nor would the session's folders be removed
        atexit.register(self.close)

    @classmethod
    def connect(cls, config: RunnerConfig) -> RaySession:
        """Open a session and wait for it; raises what Ray raises, after everything started is ended again."""
        session = cls(config)
        with contextlib.ExitStack() as undo:
            undo.callback(session.close)
            session.wait()
            undo.pop_all()
        return session

    def wait(self) -> None:
        """Wait until the session is open; raises what went wrong."""
        self._started.wait()
        if self._error is not None:
            raise self._error

    def __enter__(self) -> RaySession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def fixed(self) -> bool:
        """Whether this is a Ray of this process alone, to which nothing will be added; a cluster may grow."""
        from ray._private import worker

        self.wait()
        node = worker._global_node
        return self._local or (node is not None and node.is_head())

    @property
    def exports_metrics(self) -> bool:
        """Whether Ray may have an agent that exports metrics: the Ray that is started here has none."""
        self.wait()
        return not self._local

    def resolve(self, config: RunnerConfig) -> RunnerConfig:
        """The configuration with this cluster's CPUs as the most workers, unless the user gave a number."""
        import ray

        self.wait()
        return config.resolved(int(ray.cluster_resources().get("CPU", 1)))

    def serves(self, config: RunnerConfig) -> bool:
        """Whether a pipeline of that configuration can run here as it asks."""
        self.wait()
        ours = self.config
        if not self._owner:
            return True
        return config.address == ours.address and (
            not self._local
            or (
                _cpus(config) <= _cpus(ours)
                and config.object_store_bytes in (None, ours.object_store_bytes)
                and config.spill_dir == ours.spill_dir
            )
        )

    @contextlib.contextmanager
    def lend_pools(self, config: RunnerConfig, code: ShippedCode) -> Iterator[WorkerPools]:
        """Worker pools for one run, warm from an earlier run of the same code and bounds where there was one."""
        from beam_pipeline.runner.driver.pools import WorkerPools

        self.wait()
        config = self.resolve(config)
        key = _PoolKey(config.workers_min, config.workers_max, code.key)
        with self._lock:
            pools = self._idle.pop(key, None)
            self._close_idle()
            self._borrowed += 1
        if pools is None:
            cpus = _cpus(self.config) if self._local else None
            pools = WorkerPools(
                config.workers_min, config.workers_max, code.runtime_env, code.main_session, self.fixed, cpus
            )
        pools.warm()
        try:
            yield pools
        finally:
            with self._lock:
                self._borrowed -= 1
                # the workers of an idle pool would keep the CPUs from the runs that still go on
                if self._borrowed or self._closing.is_set():
                    pools.close()
                else:
                    self._idle[key] = pools

    def end_idle_workers(self) -> None:
        """Drain the warm workers that no run uses: they would keep their CPUs from other work on this Ray."""
        with self._lock:
            self._close_idle()

    def close(self) -> None:
        """Drain the workers and end what the session started; a second call does nothing."""
        if not self._closing.is_set() and self._started.is_set() and self._error is None:
            with self._lock:
                self._close_idle()
        self._closing.set()
        self._thread.join()
        atexit.unregister(self.close)

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.popitem()[1].close()

    def _live(self) -> None:
        with contextlib.ExitStack() as undo:
            with _Handed() as handed:
                self._open(undo)
            self._error = handed.error
            self._started.set()
            if self._error is None:
                self._closing.wait()

    def _open(self, undo: contextlib.ExitStack) -> None:
        import ray

        if ray.is_initialized():
            return
        if self.config.address is None:
            from beam_pipeline.runner.session.local_ray import LocalRay

            node = LocalRay(_cpus(self.config), self.config.object_store_bytes, self.config.spill_dir)
            undo.callback(node.close)
            self._local = True
        else:
            from beam_pipeline.runner.session.joined_ray import joined

            undo.enter_context(joined(self.config.address))
        self._owner = True


class _Handed:
    """Keeps whatever is raised within, for the thread that waits for the outcome."""

    error: BaseException | None = None

    def __enter__(self) -> _Handed:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        self.error = error
        return True


@dataclass(frozen=True)
class _PoolKey:
    least: int
    most: int
    code: str


def _cpus(config: RunnerConfig) -> int:
    return max(cpu_count(), config.workers_max)
