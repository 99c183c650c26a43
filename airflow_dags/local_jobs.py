"""Jobs as processes of this machine, which live on when the task that started them is killed."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from airflow_dags.deployment import LocalCluster
from airflow_dags.jobs import Job, JobState, Status, SubmissionError

_LOCK, _LOG, _EXIT, _PID = "lock", "log", "exit_status", "pid"
_STARTS_WITHIN_S = 30.0


@dataclass(frozen=True)
class LocalJobs:
    """A folder a job in `cluster.jobs`: its log, and its exit status once it has ended."""

    cluster: LocalCluster

    def look(self, name: str) -> JobState | None:
        folder = self._folder(name)
        if not folder.exists():
            return None
        if _held(folder / _LOCK):
            return JobState(Status.RUNNING)
        try:
            status = int((folder / _EXIT).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return JobState(Status.FAILED, None, "the process was killed before it ended")
        return JobState(Status.SUCCEEDED if status == 0 else Status.FAILED, status)

    def submit(self, name: str, job: Job) -> bool:
        folder = self._folder(name)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            return False
        except OSError as error:
            raise SubmissionError(f"cannot keep jobs in {self.cluster.jobs}: {error}") from error
        command = [self.cluster.python, "-m", "beam_pipeline", *job.arguments]
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHONPATH"))
        }
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # The keeper inherits the lock, so the job counts as running from here until the keeper is gone.
            with (folder / _LOG).open("wb") as log:
                keeper = subprocess.Popen(
                    [sys.executable, "-P", str(Path(__file__).with_name("keep_job.py")), str(folder), *command],
                    cwd=self.cluster.working_directory,
                    env={**inherited, **job.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(lock,),
                )
            (folder / _PID).write_text(str(keeper.pid), encoding="utf-8")
        except OSError as error:
            raise SubmissionError(f"cannot start {command[0]} in {self.cluster.working_directory}: {error}") from error
        finally:
            os.close(lock)
        return True

    def logs(self, name: str) -> str:
        path = self._folder(name) / _LOG
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def stop(self, name: str) -> None:
        folder = self._folder(name)
        until = time.monotonic() + _STARTS_WITHIN_S
        while _held(folder / _LOCK) and time.monotonic() < until:
            with suppress(FileNotFoundError, ProcessLookupError):
                group = int((folder / _PID).read_text(encoding="utf-8"))
                os.killpg(group, signal.SIGINT if time.monotonic() < until - _STARTS_WITHIN_S / 2 else signal.SIGKILL)
            time.sleep(0.2)

    def _folder(self, name: str) -> Path:
        return Path(self.cluster.jobs) / name


def _held(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
