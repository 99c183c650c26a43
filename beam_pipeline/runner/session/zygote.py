"""The zygote as the driver holds it: made, given the folder where launchers find it, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import warnings
from pathlib import Path

from beam_pipeline.runner.session import worker_launcher
from beam_pipeline.runner.session.fork_safety import fork_is_safe

_RUNNER = __name__.removesuffix(".session.zygote")
_SPAWN = (
    "import sys; sys.path[:] = [*filter(None, sys.path), sys.argv.pop()]; "
    f"from {_RUNNER}.session.zygote_process import serve_spawned; serve_spawned()"
)
# OpenBLAS makes its threads when it is loaded, and a worker sets their number
_NO_THREADS = {"OPENBLAS_NUM_THREADS": "1"}
_CONTROL_FD = 3
_LAUNCHER = "worker_launcher.py"
# the launcher's folder must not be on its path, nor site-packages: both cost time
LAUNCHER_FLAGS = "-IS"


class Zygote:
    """A process that forks workers; it and they end with this process, or with `close`."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid = pid
        self.owner = os.getpid()
        self._pidfd = os.pidfd_open(pid)
        self._control = control

    @classmethod
    def forked(cls) -> Zygote:
        """A fork of this process, ready at once; only where `fork_is_safe`."""
        from beam_pipeline.runner.session.zygote_process import serve_forked

        control, theirs = socket.socketpair()
        parent = os.getpid()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        with warnings.catch_warnings():
            # newer Pythons warn of any thread, though those of OpenBLAS and jemalloc stop for the fork
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            serve_forked(theirs, parent)
        theirs.close()
        return cls(pid, control)

    @classmethod
    def spawned(cls) -> Zygote:
        """A new interpreter, which answers once it has imported Ray and what this process has imported of Beam."""
        control, theirs = socket.socketpair()
        root = Path(__file__).parents[_RUNNER.count(".") + 2]
        flags = [f"-{letter}" for letter, given in (("s", sys.flags.no_user_site), ("S", sys.flags.no_site)) if given]
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, *flags, "-c", _SPAWN, str(_CONTROL_FD), str(os.getpid()), ",".join(_beam()), str(root)],
            {**os.environ, **_NO_THREADS},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, theirs.fileno(), _CONTROL_FD),
            ],
        )
        theirs.close()
        return cls(pid, control)

    def serve(self, folder: Path, worker: Path, setup: Path) -> Path:
        """Fork workers for the launchers that start in `folder`: the path of theirs.

        `worker`, `setup`: Ray's scripts, by which a worker starts where the zygote does not answer.
        """
        folder.mkdir()
        (folder / worker_launcher.WORKER).symlink_to(worker)
        (folder / worker_launcher.SETUP).symlink_to(setup)
        launcher = folder / _LAUNCHER
        launcher.symlink_to(worker_launcher.__file__)
        with socket.socket(socket.AF_UNIX) as listener, contextlib.suppress(OSError):  # it may be dead
            listener.bind(str(folder / worker_launcher.SOCKET))
            listener.listen(socket.SOMAXCONN)
            socket.send_fds(self._control, [b"l"], [listener.fileno()])
        return launcher

    def close(self) -> None:
        """End the zygote, and with it the workers that still run."""
        self._control.close()
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        os.close(self._pidfd)


def _beam() -> list[str]:
    """What this process has loaded of Beam: workers will need it, and share the memory of what was loaded before.

    Beam's inference modules import torch where they can; a process that has them without it has kept it out.
    """
    left_out = () if "torch" in sys.modules else ("apache_beam.ml.",)
    loaded = (name for name in list(sys.modules) if name.startswith("apache_beam."))
    return sorted(name for name in loaded if not name.startswith(left_out))


_prepared: list[Zygote] = []


def prepare_zygote() -> None:
    """Fork a zygote now for the next `take_zygote`, where that is safe; it costs a hundredth of a second."""
    if not _prepared and _supported() and fork_is_safe():
        _prepared.append(Zygote.forked())


def take_zygote() -> Zygote | None:
    """The prepared zygote, or a new interpreter; None where the kernel lacks what it needs."""
    while _prepared:
        zygote = _prepared.pop()
        # a fork of the process that prepared it has a copy
        if zygote.owner == os.getpid():
            return zygote
    return Zygote.spawned() if _supported() else None


def _supported() -> bool:
    """Whether the kernel tells of the end of processes by files, as it has since Linux 5.3."""
    if sys.platform != "linux":
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def drop_zygote() -> None:
    """End a prepared zygote that nobody took."""
    while _prepared:
        zygote = _prepared.pop()
        if zygote.owner == os.getpid():
            zygote.close()
