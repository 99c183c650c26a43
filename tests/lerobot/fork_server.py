"""Runs Python programs in .venv-lerobot, each in a fork of this process, which has imported LeRobot once.

A request is a line of JSON: `argv` as `python` takes it (a script or `-m MODULE`, then its arguments), and the file for
what the program prints. The answer is a line with its exit status.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path
from typing import NoReturn

import lerobot.datasets.lerobot_dataset  # noqa: F401


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            _run(request["argv"], request["said"])
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(status, flush=True)


def _run(argv: list[str], said: str) -> NoReturn:
    status = 1
    try:
        file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        of_module = argv[0] == "-m"
        sys.argv = argv[1:] if of_module else argv
        sys.path[0] = str(Path.cwd() if of_module else Path(argv[0]).parent)
        try:
            if of_module:
                runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(argv[0], run_name="__main__")
            status = 0
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
