"""`python keep_job.py FOLDER COMMAND...`: runs a job's command, holding its lock, and keeps its exit status.

It stands alone, so that it runs wherever a job is started.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path


def main(folder: Path, command: list[str]) -> int:
    """Run the command; its exit status is in the folder before the lock is free."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a stop goes to the whole group; the command answers it
    status = subprocess.run(command, check=False, preexec_fn=_interruptible).returncode
    temporary = folder / "exit_status.new"
    temporary.write_text(str(status), encoding="utf-8")
    os.replace(temporary, folder / "exit_status")  # noqa: PTH105
    return status


def _interruptible() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
