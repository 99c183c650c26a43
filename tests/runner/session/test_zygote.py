from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray

from beam_pipeline.runner.session import zygote
from beam_pipeline.runner.session.fork_safety import foreign_modules, fork_is_safe
from beam_pipeline.runner.session.forked_worker import WorkerRequest
from beam_pipeline.runner.session.local_ray import LocalRay
from beam_pipeline.runner.worker.library_threads import loaded_libraries, set_library_threads
from tests.processes import command_of, descendants, parent_of

LIMIT_S = 30.0
# a script as users write them: it runs on a Ray of its own, tells of its processes, and waits
SCRIPT = """
import atexit, sys
import apache_beam as beam
from beam_pipeline.runner import PipelineLifecycleManager, resolve_runner
from apache_beam.options.pipeline_options import PipelineOptions

left = sys.argv[1]
atexit.register(lambda: open(left, "a").write("x"))
kept = open(left + ".kept", "w")
kept.write("once")

def about(number):
    import os, sys
    parent = os.getppid()
    with open(f"/proc/{parent}/cmdline") as line:
        return dict(
            pid=os.getpid(), parent=parent, line=line.read(), main=hasattr(sys.modules["__main__"], "left"),
            argument=sys.argv[0],
        )

def write(found, path):
    import json
    with open(path, "w") as file:
        json.dump(found, file)

with PipelineLifecycleManager():
    pipeline = beam.Pipeline(
        runner=resolve_runner("beam_pipeline.runner.RayRunner"), options=PipelineOptions(["--ray_workers_min=2"])
    )
    told = left + ".told"
    pipeline | beam.Create([1]) | beam.Map(about) | beam.Map(write, told)
    pipeline.run().wait_until_finish()
    print(open(told).read(), flush=True)
    sys.stdin.read()
"""


@ray.remote(num_cpus=1, max_restarts=1, max_task_retries=2)
class Teller:
    def tell(self) -> tuple[int, int, float, float]:
        import random

        return os.getpid(), os.getppid(), random.random(), float(np.random.rand())

    def variable(self) -> str | None:
        return os.environ.get("OF_THIS_ENVIRONMENT")


def wait_until_gone(pids: set[int]) -> None:
    end = time.monotonic() + LIMIT_S
    while left := {pid for pid in pids if Path(f"/proc/{pid}/exe").exists()}:
        assert time.monotonic() < end, f"processes {left} are still there"
        time.sleep(0.05)


def zygote_pid() -> int:
    here = os.getpid()
    found = [pid for pid in descendants(here) if "serve_spawned" in command_of(pid) and parent_of(pid) == here]
    assert len(found) == 1
    return found[0]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[LocalRay]:
    # children of earlier tests, such as Python's own resource tracker, live on
    others = set(descendants(os.getpid()))
    local = LocalRay(num_cpus=4, object_store_bytes=100_000_000, spill_dir=tmp_path)
    try:
        yield local
    finally:
        pids = set(descendants(os.getpid())) - others
        local.close()
        wait_until_gone(pids)


def test_workers_are_forked_several_at_once_each_with_chances_of_its_own_and_replaced_when_killed(
    node: LocalRay,
) -> None:
    tellers = [Teller.remote() for _ in range(3)]
    told = ray.get([teller.tell.remote() for teller in tellers])
    assert {parent for _, parent, _, _ in told} == {zygote_pid()}
    assert len({pid for pid, *_ in told}) == len({r for *_, r, _ in told}) == len({r for *_, r in told}) == 3
    killed = told[0][0]
    os.kill(killed, signal.SIGKILL)
    again, parent, _, _ = ray.get(tellers[0].tell.remote())
    assert again != killed and parent == zygote_pid()


def test_a_worker_with_an_environment_of_its_own_starts_as_ray_starts_it(node: LocalRay) -> None:
    teller = Teller.options(runtime_env={"env_vars": {"OF_THIS_ENVIRONMENT": "yes"}}).remote()
    assert ray.get(teller.variable.remote()) == "yes"
    assert ray.get(teller.tell.remote())[1] != zygote_pid()


def test_workers_start_without_the_zygote_where_it_was_killed(node: LocalRay) -> None:
    # its first new worker may be an idle one that the zygote had made and that dies with it
    first = Teller.options(max_restarts=-1, max_task_retries=-1).remote()
    worker, parent, _, _ = ray.get(first.tell.remote())
    assert parent == zygote_pid()
    os.kill(parent, signal.SIGKILL)
    wait_until_gone({worker})
    again, raylet, _, _ = ray.get(first.tell.remote())
    assert again != worker and "raylet" in Path(f"/proc/{raylet}/cmdline").read_text(encoding="utf-8")


@pytest.fixture
def script(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, object], Path]]:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT, encoding="utf-8")
    left = tmp_path / "left"
    running = subprocess.Popen(
        [sys.executable, path, left], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert running.stdin and running.stdout
    try:
        yield running, json.loads(running.stdout.readline()), left
    finally:
        running.kill()
        running.communicate()


def test_a_script_that_only_imports_beam_is_forked_and_its_own_state_stays_behind(
    script: tuple[subprocess.Popen[str], dict[str, object], Path],
) -> None:
    running, told, left = script
    assert parent_of(int(str(told["parent"]))) == running.pid
    assert "script.py" in str(told["line"]) and "default_worker.py" in str(told["argument"])
    assert told["main"] is False
    pids = set(descendants(running.pid))
    running.communicate()
    assert running.returncode == 0
    wait_until_gone(pids)
    # callbacks and buffered files are the script's alone
    assert left.read_text(encoding="utf-8") == "x"
    assert Path(f"{left}.kept").read_text(encoding="utf-8") == "once"


def test_no_process_outlives_a_driver_that_was_killed(
    script: tuple[subprocess.Popen[str], dict[str, object], Path],
) -> None:
    running, told, _ = script
    pids = set(descendants(running.pid))
    assert {told["pid"], told["parent"]} <= pids
    running.kill()
    wait_until_gone(pids)


def test_a_process_with_other_modules_is_not_forked() -> None:
    assert "pytest" in foreign_modules()
    assert not fork_is_safe()
    zygote.prepare_zygote()
    assert zygote._prepared == []


@pytest.mark.parametrize(
    ("environment", "language", "plain"),
    [
        (None, "PYTHON", True),
        ({"py_executable": sys.executable, "env_vars": {}, "command_prefix": []}, "PYTHON", True),
        ({"py_executable": "/elsewhere/python"}, "PYTHON", False),
        ({"env_vars": {"A": "1"}}, "PYTHON", False),
        ({"command_prefix": ["cd /elsewhere &&"]}, "PYTHON", False),
        (None, "JAVA", False),
    ],
)
def test_only_workers_of_this_interpreters_own_environment_are_forked(
    environment: dict[str, object] | None, language: str, plain: bool
) -> None:
    arguments = ["--node-id=1", f"--language={language}"]
    if environment is not None:
        arguments.append(f"--serialized-runtime-env-context={json.dumps(environment)}")
    assert WorkerRequest(1, arguments, {}, "/").plain() is plain


def test_loaded_libraries_take_another_number_of_threads() -> None:
    np.ones((4, 4)) @ np.ones((4, 4))
    libraries = [ctypes.CDLL(path) for path in loaded_libraries("openblas")]
    names = ("scipy_openblas_get_num_threads64_", "openblas_get_num_threads64_", "openblas_get_num_threads")
    asked = [getattr(library, name) for library in libraries for name in names if hasattr(library, name)]
    if not asked:
        pytest.skip("this NumPy has another BLAS")
    before = asked[0]()
    try:
        for threads in (1, 2):
            set_library_threads(threads)
            assert [ask() for ask in asked] == [threads] * len(asked)
    finally:
        set_library_threads(before)
