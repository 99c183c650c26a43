"""The program is interrupted or killed while its pipeline runs: it ends within seconds, and nothing outlives it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes import descendants

PROGRAM = """
import contextlib, sys, time
from pathlib import Path
import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from beam_pipeline.runner import PipelineLifecycleManager, RayRunner

folder = Path(sys.argv[1])

def linger(number):
    (folder / "begun").touch()
    time.sleep(600)

with PipelineLifecycleManager() if sys.argv[2] == "managed" else contextlib.nullcontext():
    options = PipelineOptions(["--ray_workers_max=2", "--ray_object_store_mb=100", f"--ray_spill_dir={folder}/spill"])
    pipeline = beam.Pipeline(runner=RayRunner(), options=options)
    pipeline | beam.Create(range(8)) | beam.Reshuffle() | beam.Map(linger)
    result = pipeline.run()
    try:
        result.wait_until_finish()
    except KeyboardInterrupt:
        print(result.state, flush=True)
        raise
"""
PROMPT_S = 8.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where Ray's session lies; short, since sockets lie there too."""
    path = Path(tempfile.mkdtemp(prefix="f", dir="/tmp"))
    yield path
    shutil.rmtree(path)


def _start(folder: Path, kind: str) -> tuple[subprocess.Popen[str], list[int]]:
    """The program, in a process group as a shell would start it, and what it has started once its job runs."""
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), kind],
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end = time.monotonic() + 60
    while not (folder / "begun").exists():
        assert program.poll() is None and time.monotonic() < end, program.communicate()
        time.sleep(0.05)
    started = descendants(program.pid)
    assert len(started) >= 3, "no Ray below the program"
    return program, started


def _alive(pids: list[int]) -> list[str]:
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            title = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in "ZX":
            found.append(f"{pid} {title}")
    return found


def _wait_until_gone(pids: list[int], seconds: float) -> list[str]:
    end = time.monotonic() + seconds
    while _alive(pids) and time.monotonic() < end:
        time.sleep(0.05)
    return _alive(pids)


def _from_terminal(program: subprocess.Popen[str]) -> None:
    # a terminal's Ctrl-C goes to everything in the foreground group, Ray's processes and workers too
    os.killpg(program.pid, signal.SIGINT)


@pytest.mark.parametrize(
    ("kind", "interrupt", "raised"),
    [
        pytest.param("alone", _from_terminal, "KeyboardInterrupt", id="Ctrl-C"),
        pytest.param("managed", _from_terminal, "KeyboardInterrupt: signal SIGINT", id="Ctrl-C within a manager"),
        pytest.param("managed", subprocess.Popen.terminate, "Terminated: signal SIGTERM", id="SIGTERM"),
    ],
)
def test_an_interrupt_cancels_and_cleans_up(
    folder: Path, kind: str, interrupt: Callable[[subprocess.Popen[str]], None], raised: str
) -> None:
    program, started = _start(folder, kind)
    interrupted = time.monotonic()
    interrupt(program)
    told, error = program.communicate(timeout=60)
    seconds = time.monotonic() - interrupted
    assert told == "CANCELLED\n"
    assert raised in error.splitlines()[-1]
    assert seconds < PROMPT_S
    assert _wait_until_gone(started, 1.0) == []
    assert list(folder.rglob("beam-ray-*")) == []


def test_nothing_outlives_a_program_that_is_killed(folder: Path) -> None:
    program, started = _start(folder, "managed")
    program.kill()
    program.communicate(timeout=10)
    assert _wait_until_gone(started, PROMPT_S) == []
