"""The result follows its job: states, time limits, failures, cancellation, and programs that end without waiting."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from beam_pipeline.runner.errors import PipelineFailed
from beam_pipeline.runner.metrics import CommittedMetrics
from beam_pipeline.runner.progress import Progress
from beam_pipeline.runner.result import RayPipelineResult

LIMIT_S = 20


def _result(run: Callable[[threading.Event], None], progress: Progress | None = None) -> RayPipelineResult:
    result = RayPipelineResult(run, CommittedMetrics(), progress)
    result.start()
    return result


def _until_cancelled(cancelled: threading.Event) -> None:
    while not cancelled.is_set():
        time.sleep(0.01)


def _fail(cause: Exception | None) -> Callable[[threading.Event], None]:
    def run(cancelled: threading.Event) -> None:
        raise PipelineFailed(
            stage="s",
            bundle="b",
            error="E: x",
            preview="",
            traceback_text="",
            user_failures=1,
            system_failures=0,
        ) from cause

    return run


def test_a_job_that_ends_is_done() -> None:
    result = RayPipelineResult(lambda cancelled: None, CommittedMetrics())
    assert result.state == "STARTING"
    result.start()
    assert result.wait_until_finish() == "DONE"
    assert result.cancel() == "DONE"


def test_a_time_limit_in_milliseconds_leaves_the_job_running() -> None:
    go = threading.Event()
    result = _result(lambda cancelled: go.wait(LIMIT_S) and None)
    began = time.monotonic()
    assert result.wait_until_finish(duration=300) == "RUNNING"
    assert 0.3 <= time.monotonic() - began < 2
    assert result.wait_until_finish(duration=0) == "RUNNING"
    go.set()
    assert result.wait_until_finish(duration=LIMIT_S * 1000) == "DONE"


def test_a_failure_is_raised_whenever_one_waits() -> None:
    result = _result(_fail(KeyError("k")))
    for _ in range(2):
        with pytest.raises(PipelineFailed) as caught:
            result.wait_until_finish()
        assert isinstance(caught.value, KeyError)
    assert result.state == "FAILED"
    assert result.cancel() == "FAILED"


def test_an_error_of_the_runner_is_raised_as_it_is() -> None:
    def run(cancelled: threading.Event) -> None:
        raise SystemExit("no Ray here")

    result = _result(run)
    with pytest.raises(SystemExit, match="no Ray here"):
        result.wait_until_finish()
    assert result.state == "FAILED"


def test_cancel_waits_for_the_job_to_close() -> None:
    closed = threading.Event()

    def run(cancelled: threading.Event) -> None:
        _until_cancelled(cancelled)
        time.sleep(0.3)
        closed.set()

    result = _result(run)
    assert result.cancel() == "CANCELLED"
    assert closed.is_set()
    assert result.wait_until_finish() == "CANCELLED"


def test_a_job_that_breaks_under_its_cancellation_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    def run(cancelled: threading.Event) -> None:
        cancelled.wait(LIMIT_S)
        raise RuntimeError("the session is gone")

    result = _result(run)
    assert result.cancel() == "CANCELLED"
    assert result.wait_until_finish() == "CANCELLED"
    assert "the session is gone" in caplog.text


def test_a_job_that_ended_before_it_saw_the_cancellation_is_done() -> None:
    asked = threading.Event()
    result = _result(lambda cancelled: asked.wait(LIMIT_S) and None)
    cancelling = threading.Thread(target=result.cancel)
    cancelling.start()
    while result.state != "CANCELLING":
        time.sleep(0.01)
    asked.set()
    cancelling.join(LIMIT_S)
    assert result.state == "DONE"


def test_progress_is_that_of_the_job() -> None:
    progress = Progress("off")
    progress.stage_added("s1", "Read")
    result = _result(lambda cancelled: progress.bundle_started("s1"), progress)
    result.wait_until_finish()
    (stage,) = result.progress.stages
    assert (stage.label, stage.bundles_known) == ("Read", 1)


_PROGRAM = """
import logging, sys, threading, time
from beam_pipeline.runner.metrics import CommittedMetrics
from beam_pipeline.runner.result import RayPipelineResult

def run(cancelled):
    print("running", flush=True)
    while not cancelled.is_set():
        time.sleep(0.01)
    print("closed", flush=True)

logging.basicConfig()
result = RayPipelineResult(run, CommittedMetrics())
result.start()
"""


def _program(end: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM + end],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_a_program_that_breaks_before_it_waits_cancels_and_says_so() -> None:
    program = _program("raise ValueError('broken')")
    out, told = program.communicate(timeout=60)
    assert out == "running\nclosed\n"
    assert "ValueError: broken" in told
    assert "the program ended before its pipeline, which is cancelled; call wait_until_finish()" in told
    assert program.returncode == 1


def test_ctrl_c_while_waiting_cancels_and_goes_on() -> None:
    program = _program("try:\n    result.wait_until_finish()\nfinally:\n    print(result.state)")
    assert program.stdout is not None
    assert program.stdout.readline() == "running\n"
    time.sleep(0.3)
    program.send_signal(signal.SIGINT)
    out, told = program.communicate(timeout=60)
    assert out == "closed\nCANCELLED\n"
    assert "KeyboardInterrupt" in told
