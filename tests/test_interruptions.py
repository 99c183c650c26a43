"""What happens to a run that is killed, asked to end, loses a process, or meets another in its folder."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.factories import motion, write_lerobot_v21
from tests.job import read_ledger, write_config

ROOT = Path(__file__).parents[1]
SOURCES = "  - {name: l, path: lerobot, embodiment: panda}"
EPISODES, STEPS = 24, 150
TWO_WORKERS = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
LONGEST_S = 90.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough episodes with video that a run is caught in the middle."""
    root = tmp_path_factory.mktemp("interruptions")
    write_lerobot_v21(root / "lerobot", {i: motion(i, STEPS) for i in range(EPISODES)})
    write_config(root, SOURCES)
    return root


@dataclass(frozen=True)
class Process:
    """One process of a run by its place in /proc."""

    pid: int
    command: str


@dataclass(frozen=True)
class Run:
    """A run in a session of its own, so that all its processes are found, those it lost too."""

    popen: subprocess.Popen[str]
    output: Path

    def processes(self) -> list[Process]:
        """Living processes of the session, without zombies."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == self.popen.pid and fields[0] not in "ZX":
                found.append(Process(int(entry.name), command))
        return found

    def named(self, word: str) -> list[Process]:
        return [p for p in self.processes() if word in p.command and "sh -c" not in p.command]

    def staged(self) -> int:
        return len(list((self.output / "_staging/episodes").glob("*")))

    def wait_for(self, what: str, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + LONGEST_S
        while not condition():
            assert self.popen.poll() is None, f"the run ended before {what}: {self.popen.communicate()}"
            assert time.monotonic() < deadline, f"no {what} in {LONGEST_S} s"
            time.sleep(0.01)

    def ended(self) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        out, err = self.popen.communicate(timeout=LONGEST_S)
        return self.popen.returncode, out, err

    def leaves_nothing(self) -> None:
        """No process of the run lives on; children that end by themselves have a few seconds."""
        deadline = time.monotonic() + 15
        while left := self.processes():
            assert time.monotonic() < deadline, left
            time.sleep(0.05)


@contextmanager
def started(folder: Path, output: str, *flags: str) -> Iterator[Run]:
    """A run of the command, every process of which is ended when the test ends."""
    target = folder / output
    command = [sys.executable, "-m", "beam_pipeline", "--config", str(folder / "job.yaml"), "--output", str(target)]
    popen = subprocess.Popen(
        [*command, *flags], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    run = Run(popen, target)
    try:
        yield run
    finally:
        for process in run.processes():
            os.kill(process.pid, signal.SIGKILL)
        popen.communicate()


def digests(output: Path) -> dict[str, str]:
    """Every published file but the summary and the report, which hold times, with the hash of its bytes."""
    timed = ("run_summary.json", "report.html")
    files = [p for p in output.rglob("*") if p.is_file() and p.name not in timed]
    return {str(p.relative_to(output)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def published(output: Path) -> set[str]:
    return {p.name for p in output.iterdir()} - {"_staging", "_lock"}


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> dict[str, str]:
    with started(folder, "undisturbed") as run:
        status, _, err = run.ended()
        assert status == 0, err
        run.leaves_nothing()
    assert {row["outcome"] for row in read_ledger(folder / "undisturbed").values()} == {"kept"}
    return digests(folder / "undisturbed")


def caught(run: Run) -> None:
    """Wait until the run is in the middle of its work."""
    run.wait_for("staged episodes", lambda: run.staged() >= 3)
    assert run.staged() < EPISODES, "the run was over before it could be disturbed"


def test_killed_run_publishes_nothing_and_is_finished_by_another(folder: Path, undisturbed: dict[str, str]) -> None:
    with started(folder, "killed") as run:
        caught(run)
        os.kill(run.popen.pid, signal.SIGKILL)
        assert run.ended()[0] == -signal.SIGKILL
        assert not published(run.output)
        run.leaves_nothing()
    with started(folder, "killed") as again:
        status, _, err = again.ended()
        assert status == 0, err
    assert digests(folder / "killed") == undisturbed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
@pytest.mark.parametrize("flags", [(), TWO_WORKERS], ids=["in_process", "two_workers"])
def test_run_that_is_asked_to_end(folder: Path, number: signal.Signals, flags: tuple[str, ...]) -> None:
    with started(folder, f"{number.name}{len(flags)}", *flags) as run:
        caught(run)
        if number == signal.SIGINT:
            os.killpg(run.popen.pid, number)  # as Ctrl-C on a terminal does
        else:
            os.kill(run.popen.pid, number)
        status, _, err = run.ended()
        assert status == 128 + number and err.rstrip().endswith("interrupted; nothing was published"), err
        # Beam's worker processes, programs of their own, may log how their bundle was lost; ours says one line
        assert "Traceback" not in err or flags == TWO_WORKERS, err
        assert not published(run.output)
        run.leaves_nothing()


def test_lost_decoder_costs_at_most_one_episode(folder: Path, undisturbed: dict[str, str]) -> None:
    with started(folder, "decoder") as run:
        caught(run)
        (decoder,) = run.named("transforms.media_worker")
        os.kill(decoder.pid, signal.SIGKILL)
        status, _, err = run.ended()
        assert status == 0, err
        run.leaves_nothing()
    ledger = read_ledger(folder / "decoder")
    assert len(ledger) == EPISODES
    lost = [row for row in ledger.values() if row["outcome"] != "kept"]
    assert len(lost) <= 1 and all("decoder died" in row["detail"] for row in lost), lost
    assert undisturbed


def test_two_runs_into_one_folder(folder: Path, undisturbed: dict[str, str]) -> None:
    with started(folder, "shared") as first:
        caught(first)
        os.kill(first.popen.pid, signal.SIGSTOP)  # so that it cannot end before the second begins
        with started(folder, "shared") as second:
            status, _, err = second.ended()
        os.kill(first.popen.pid, signal.SIGCONT)
        assert status == 2, err
        assert f"another run (process {first.popen.pid}) writes in {first.output} now" in err
        assert "wait for it, or use another --output" in err
        status, _, err = first.ended()
        assert status == 0, err
    assert digests(folder / "shared") == undisturbed


def test_lost_worker_process_fails_the_run(folder: Path) -> None:
    with started(folder, "worker", *TWO_WORKERS) as run:
        caught(run)
        worker = run.named("sdk_worker_main")[0]
        os.kill(worker.pid, signal.SIGKILL)
        status, _, err = run.ended()
        assert status == 1 and err.strip(), err
        assert not published(run.output)
        run.leaves_nothing()
