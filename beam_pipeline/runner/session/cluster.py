"""Which Ray session a run uses: its own, or the one that the pipelines of a scope share."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from beam_pipeline.runner.options import RunnerConfig
from beam_pipeline.runner.session.code_packing import PackedCode
from beam_pipeline.runner.session.ray_session import RaySession

if TYPE_CHECKING:
    from beam_pipeline.runner.driver.pools import WorkerPools
    from beam_pipeline.runner.session.code_shipping import ShippedCode

_LOGGER = logging.getLogger(__name__)


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
    # only runs on Ray need it to be installed
    from beam_pipeline.runner.session.code_shipping import ship_code

    with contextlib.ExitStack() as stack:
        session = stack.enter_context(_session(config))
        session.wait()
        code = stack.enter_context(ship_code(packed, joined=not session.fixed))
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
