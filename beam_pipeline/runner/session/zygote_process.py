"""The zygote's own process: it has imported what every worker needs, and forks a worker for each launcher that asks.

It runs one thread and never initialises Ray, so that a fork is a whole interpreter. It ends with the process that made
it, and its workers end with it.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import logging
import marshal
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from beam_pipeline.runner.session.forked_worker import WorkerRequest, replace_main, run_as_worker
from beam_pipeline.runner.session.worker_launcher import FORKED, READY
from beam_pipeline.runner.worker.caught import Caught

_REQUEST_S = 5.0
_MODEL_MANAGER = "apache_beam.ml.inference.model_manager"


@dataclass
class _Child:
    pid: int
    pidfd: int
    launcher: socket.socket


@dataclass
class ZygoteLoop:
    """Serves launchers until the process `parent` ends or closes its end of `control`."""

    control: socket.socket
    parent: int
    worker: Path
    _poll: select.poll = field(default_factory=select.poll)
    _react: dict[int, Callable[[], None]] = field(default_factory=dict)
    _children: list[_Child] = field(default_factory=list)
    _raylets: set[int] = field(default_factory=set)
    _open: bool = True

    def run(self) -> NoReturn:
        self._watch(self.control.fileno(), self._take_listener)
        self._watch(os.pidfd_open(self.parent), self._end)
        while self._open and os.getppid() == self.parent:
            for fd, _ in self._poll.poll():
                react = self._react.get(fd)
                if react is not None:
                    react()
        for child in self._children:
            os.kill(child.pid, signal.SIGKILL)
        for child in self._children:
            os.waitpid(child.pid, 0)
        os._exit(0)

    def _watch(self, fd: int, react: Callable[[], None]) -> None:
        self._poll.register(fd, select.POLLIN)
        self._react[fd] = react

    def _forget(self, fd: int) -> None:
        self._poll.unregister(fd)
        del self._react[fd]

    def _end(self) -> None:
        self._open = False

    def _take_listener(self) -> None:
        with contextlib.suppress(OSError):
            sent, fds, _, _ = socket.recv_fds(self.control, 1, 1)
            if sent and fds:
                listener = socket.socket(fileno=fds[0])
                self._watch(listener.fileno(), lambda: self._serve(listener))
                return
        self._end()

    def _serve(self, listener: socket.socket) -> None:
        launcher, _ = listener.accept()
        with contextlib.ExitStack() as undo:
            undo.callback(launcher.close)
            # a launcher that ended, or did not wait, or is none of Ray's
            with contextlib.suppress(OSError, EOFError, ValueError, TypeError, KeyError):
                request, streams = _receive(launcher)
                for stream in streams:
                    undo.callback(os.close, stream)
                if request.plain():
                    self._watch_raylet(request)
                    zygote = os.getpid()
                    pid = os.fork()
                    if pid == 0:
                        run_as_worker(request, streams, self.worker, zygote)
                    self._follow(pid, launcher)
                    undo.pop_all()
                    for stream in streams:
                        os.close(stream)

    def _watch_raylet(self, request: WorkerRequest) -> None:
        """A worker whose raylet is gone ends by itself when it knows its pid, which here the zygote does for all."""
        raylet = int(request.environment[b"RAY_RAYLET_PID"])
        if raylet not in self._raylets:
            with contextlib.suppress(ProcessLookupError):
                self._raylets.add(raylet)
                self._watch(os.pidfd_open(raylet), self._end)

    def _follow(self, pid: int, launcher: socket.socket) -> None:
        with contextlib.ExitStack() as undo:
            undo.callback(os.kill, pid, signal.SIGKILL)
            child = _Child(pid, os.pidfd_open(pid), launcher)
            undo.pop_all()
        self._children.append(child)
        self._watch(child.pidfd, lambda: self._ended(child))
        self._watch(launcher.fileno(), lambda: self._abandoned(child))
        with contextlib.suppress(OSError):
            launcher.send(FORKED)

    def _ended(self, child: _Child) -> None:
        code = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
        self._children.remove(child)
        self._forget(child.pidfd)
        os.close(child.pidfd)
        if child.launcher.fileno() in self._react:
            self._forget(child.launcher.fileno())
        with contextlib.suppress(OSError):
            child.launcher.send(code.to_bytes(4, sys.byteorder, signed=True))
        child.launcher.close()

    def _abandoned(self, child: _Child) -> None:
        """The launcher was ended: so is what it stands for."""
        self._forget(child.launcher.fileno())
        os.kill(child.pid, signal.SIGKILL)


def serve_forked(control: socket.socket, parent: int) -> NoReturn:
    """Become a zygote: for a fresh fork of a process in which `fork_is_safe`; none of its code goes on."""
    with Caught() as caught:
        _leave_the_past(control.fileno())
        _serve(control, parent)
    _fail(caught.error)


def serve_spawned() -> NoReturn:
    """Become a zygote: for an interpreter started for that.

    Its arguments: the control socket's number, its parent's pid, modules to import, with commas between.
    """
    control, parent, modules = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    with Caught() as caught:
        sys.path.pop()  # where the runner was found
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _serve(socket.socket(fileno=control), parent, filter(None, modules.split(",")))
    _fail(caught.error)


def _serve(control: socket.socket, parent: int, modules: Iterable[str] = ()) -> NoReturn:
    # Ray's C++ side takes these when it is loaded: no job yet, as for workers that it starts ahead of their job; and
    # whose end is the workers' end, which the zygote's is, who watches the raylet
    os.environ.update(RAY_JOB_ID="ff" * 4, RAY_RAYLET_PID=str(os.getpid()))
    # what workers import sooner or later
    import numpy.random  # noqa: F401
    from ray._private import worker

    import beam_pipeline.runner.worker.bundle_worker  # noqa: F401

    _import_all(tuple(modules))
    replace_main()
    # a script's own, or that of a warning while Beam is imported
    logging.root.handlers.clear()
    logging.root.setLevel(logging.WARNING)
    # pages that no collection touches stay shared with the workers
    gc.disable()
    gc.freeze()
    ZygoteLoop(control, parent, Path(worker.__file__).parent / "workers" / "default_worker.py").run()


def _import_all(modules: Sequence[str]) -> None:
    """Import modules that are there. Where Beam's model manager, which loads torch, is none of them, its inference is
    loaded without it, as it was in the driver; Beam then imports it where it is used.
    """
    left_out = ModuleType(_MODEL_MANAGER)
    left_out.ModelManager = None  # type: ignore[attr-defined]
    if _MODEL_MANAGER not in modules:
        sys.modules[_MODEL_MANAGER] = left_out
    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    if sys.modules.get(_MODEL_MANAGER) is left_out:
        del sys.modules[_MODEL_MANAGER]


def _leave_the_past(kept: int) -> None:
    """Drop what a forked process has of the one it was: files but `kept`, handlers, callbacks, its script's path."""
    import weakref
    from multiprocessing import util

    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)
    atexit._clear()
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    atexit.register(weakref.finalize._exitfunc)  # type: ignore[attr-defined]
    util._finalizer_registry.clear()  # type: ignore[attr-defined]
    if not sys.flags.safe_path:
        del sys.path[0]


def _receive(launcher: socket.socket) -> tuple[WorkerRequest, list[int]]:
    launcher.settimeout(_REQUEST_S)
    launcher.send(READY)
    size, streams, _, _ = socket.recv_fds(launcher, 4, 3)
    remaining = int.from_bytes(size, sys.byteorder)
    parts = []
    while remaining:
        part = launcher.recv(remaining)
        if not part:
            break
        parts.append(part)
        remaining -= len(part)
    return WorkerRequest(*marshal.loads(b"".join(parts))), streams


def _fail(error: Exception | None) -> NoReturn:
    traceback.print_exception(error)
    os._exit(1)
