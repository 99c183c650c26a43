"""A worker forked from the zygote: it takes the place of its launcher and runs Ray's own worker script."""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import signal
import sys
import threading
import traceback
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from beam_pipeline.runner.worker.caught import Caught

_PR_SET_PDEATHSIG = 1
_ENVIRONMENT, _LANGUAGE = "--serialized-runtime-env-context=", "--language="
_before: list[object] = []
# Ray's script runs in this module, and whoever asked for `__main__` before has it too
_main = types.ModuleType("__main__")


@dataclass(frozen=True)
class WorkerRequest:
    """What a launcher was started with: by Ray, for a worker."""

    launcher: int
    arguments: Sequence[str]
    environment: dict[bytes, bytes]
    folder: str

    def plain(self) -> bool:
        """Whether the worker runs in this interpreter's own environment; the fork could not change it."""
        given = _value(self.arguments, _ENVIRONMENT) or "{}"
        asked: dict[str, Any] = json.loads(given)
        python = asked.pop("py_executable", None) or sys.executable
        return python == sys.executable and not any(asked.values()) and _value(self.arguments, _LANGUAGE) == "PYTHON"


def replace_main() -> None:
    """Put an empty module where libraries, such as dill, hold the `__main__` that they were imported by."""
    old = sys.modules["__main__"]
    _before.append(old)
    sys.modules["__main__"] = _main
    sys.modules.pop("__mp_main__", None)
    for module in list(sys.modules.values()):
        names = [name for name, value in vars(module).items() if value is old]
        for name in names:
            setattr(module, name, _main)


def run_as_worker(request: WorkerRequest, streams: Sequence[int], worker: Path, zygote: int) -> NoReturn:
    """Run the script `worker` in this fresh fork of the process `zygote`; `streams`: its standard streams."""
    code = 1
    try:
        with Caught() as caught:
            _take_place(request, streams, zygote)
            sys.argv = [str(worker), *(a for a in request.arguments if not a.startswith((_ENVIRONMENT, _LANGUAGE)))]
            if not sys.flags.safe_path:
                sys.path.insert(0, str(worker.parent))
            _main.__file__ = str(worker)
            exec(compile(worker.read_bytes(), worker, "exec"), vars(_main))
            code = 0
        if caught.error:
            traceback.print_exception(caught.error)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        _end_interpreter(code)


def _take_place(request: WorkerRequest, streams: Sequence[int], zygote: int) -> None:
    """Make this fork what the launcher's process is: its streams, variables, folder, signals and limits."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != zygote:
        os._exit(1)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environb.update(request.environment)
    os.chdir(request.folder)
    place = Path(f"/proc/{request.launcher}")
    status = dict(line.split(":\t", 1) for line in (place / "status").read_text().splitlines() if ":\t" in line)
    os.umask(int(status["Umask"], 8))
    # the raylet ends the launcher's group with the worker
    os.setpgid(0, os.getpgid(request.launcher))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, _signals(int(status["SigBlk"], 16)))
    os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, request.launcher))
    Path("/proc/self/oom_score_adj").write_text((place / "oom_score_adj").read_text())
    _start_afresh()


def _start_afresh() -> None:
    """Give this fork what each interpreter has of its own; Python's `random` does so by itself."""
    import numpy as np

    # the zygote sets variables before it has Ray imported
    from beam_pipeline.runner.session.environment import reread

    np.random.seed()
    reread()
    gc.enable()


def _signals(mask: int) -> set[int]:
    return {number for number in signal.valid_signals() if mask >> (number - 1) & 1}


def _value(arguments: Sequence[str], flag: str) -> str | None:
    return next((a.removeprefix(flag) for a in arguments if a.startswith(flag)), None)


def _end_interpreter(code: int) -> NoReturn:
    # the frames below are another process's, and must not go on here
    with Caught():
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
