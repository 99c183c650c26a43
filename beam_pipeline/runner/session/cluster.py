"""The Ray session under the pipelines: started here or joined, shared, and closed with the last that uses it."""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

from beam_pipeline.runner.options import RunnerConfig, cpu_count
from beam_pipeline.runner.session.code_packing import PackedCode
from beam_pipeline.runner.session.code_shipping import ShippedCode, ship_code

if TYPE_CHECKING:
    from beam_pipeline.runner.driver.pools import WorkerPools

_LOGGER = logging.getLogger(__name__)


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
    def start_early(cls, config: RunnerConfig) -> RaySession:
        """Begin to open a session in the background; whoever uses it first waits for it."""
        return cls(config)

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
    def capacity(self) -> Mapping[str, float] | None:
        """Resources of a Ray of our own, by Ray's names (memory in bytes); None for a cluster, which may grow."""
        import ray

        self.wait()
        return dict(ray.cluster_resources()) if self._local else None

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
            pools = WorkerPools(
                config.workers_min, config.workers_max, code.runtime_env, code.main_session, self.capacity
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


@dataclass
class _Scope:
    """The session that the pipelines within a PipelineLifecycleManager share; opened by the first."""

    session: RaySession | None = None
    users: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


_scopes: list[_Scope] = []


@dataclass(frozen=True)
class SessionOfRun:
    """A session as one run sees it."""

    session: RaySession
    stack: contextlib.ExitStack
    code: ShippedCode

    def pools(self, config: RunnerConfig) -> WorkerPools:
        """The run's workers, until the run's session is left."""
        return self.stack.enter_context(self.session.lend_pools(config, self.code))


def current_session() -> RaySession | None:
    """The session that the pipelines of the innermost PipelineLifecycleManager share, once one is open."""
    return _scopes[-1].session if _scopes else None


@contextlib.contextmanager
def share_session(session: RaySession | None = None) -> Iterator[None]:
    """Let the pipelines run within share one session: the given one, which is left open, or the first one's own."""
    scope = _Scope(session)
    _scopes.append(scope)
    try:
        yield
    finally:
        _scopes.remove(scope)
        if session is None and scope.session is not None:
            scope.session.close()


@contextlib.contextmanager
def ray_for_datasets(config: RunnerConfig) -> Iterator[None]:
    """The session's Ray for work other than a pipeline's; what that leaves in the object store outlives the context.

    Raises RuntimeError where it would not: no session is shared, and the caller has initialised no Ray either.
    """
    import ray

    if not _scopes and not ray.is_initialized():
        raise RuntimeError(
            "no Ray outlives the execution of this dataset; build and run the pipeline within a "
            "PipelineLifecycleManager, or call ray.init before"
        )
    with _session(config) as session:
        session.wait()
        session.end_idle_workers()
        yield


@contextlib.contextmanager
def use_session(config: RunnerConfig, packed: PackedCode) -> Iterator[SessionOfRun]:
    """The shared session, or one of this run alone; with the run's code shipped to its workers."""
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(_session(config))
        session.wait()
        code = stack.enter_context(ship_code(packed, joined=session.capacity is None))
        yield SessionOfRun(session, stack, code)


@contextlib.contextmanager
def _session(config: RunnerConfig) -> Iterator[RaySession]:
    scope = _scopes[-1] if _scopes else _alone
    with scope.lock:
        if scope.session is not None and not scope.session.serves(config):
            if scope.users:
                _LOGGER.warning(
                    "a pipeline asks for another Ray than the one that %d pipelines still use, and shares theirs; "
                    "run it after them or in a process of its own",
                    scope.users,
                )
            else:
                scope.session.close()
                scope.session = None
        if scope.session is None:
            scope.session = RaySession.connect(config)
        session = scope.session
        scope.users += 1
    try:
        yield session
    finally:
        with scope.lock:
            scope.users -= 1
            if scope is _alone and not scope.users:
                session.close()
                scope.session = None


_alone = _Scope()


def _cpus(config: RunnerConfig) -> int:
    return max(cpu_count(), config.workers_max)
