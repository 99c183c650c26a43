"""Runs a suite on a runner in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from tests.conformance.result import Ended, Report
from tests.conformance.selection import SUITES

ROOT = Path(__file__).parents[2]
_ENDED = (0, 1, 5)  # all passed, some failed, none selected


def run_suite(
    suite: str, runner: str, *, keyword: str = "", force: bool = False, test_seconds: int = 120, verbose: bool = False
) -> Report:
    """Run the suite's tests on the runner of a dotted class name, each for at most `test_seconds`.

    Raises RuntimeError with the end of the output where pytest did not come to its end.
    """
    chosen = SUITES[suite]
    keywords = " and ".join(f"({part})" for part in (chosen.keyword, keyword) if part)
    command = [sys.executable, "-m", "pytest", "-c", str(Path(__file__).with_name("beam_tests.ini"))]
    command += [
        f"--timeout={test_seconds}",
        f"--rootdir={_import_root(chosen.modules[0])}",
        "--continue-on-collection-errors",
    ]
    command += ["-m", chosen.marker] if chosen.marker else []
    command += ["-k", keywords] if keywords else []
    command += [str(_source_file(module)) for module in chosen.modules]
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        record = Path(folder) / "record.jsonl"
        output = Path(folder) / "output.txt"
        environment = os.environ | {
            "CONFORMANCE_RUNNER": runner.replace(":", "."),
            "CONFORMANCE_RECORD": str(record),
            "CONFORMANCE_FLAGS": " ".join(chosen.flags),
            "CONFORMANCE_FORCE": "1" if force else "0",
        }
        started = time.monotonic()
        with output.open("w", encoding="utf-8") as file:
            code = _call(command, environment, None if verbose else file)
        seconds = time.monotonic() - started
        lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
        if code not in _ENDED:
            raise RuntimeError(f"pytest ended {code} after {len(lines)} tests of {suite}:\n{_tail(output)}")
    results = (Ended(**json.loads(line)) for line in lines)
    return Report(suite, runner, round(seconds, 1), tuple(sorted(results, key=lambda result: result.test)))


def _import_root(module: str) -> Path:
    """The folder that holds the module's top package; pytest names tests by their path from it."""
    return _source_file(module.partition(".")[0]).parents[1]


def _source_file(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"no module {module}; install the exact versions of requirements.txt")
    return Path(spec.origin)


def _call(command: list[str], environment: Mapping[str, str], output: IO[str] | None) -> int:
    """Run to the end; an interruption is passed on, and the process gets the time to close its Ray session."""
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        return int(process.wait())
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def _tail(output: Path) -> str:
    return output.read_text(encoding="utf-8", errors="replace")[-3_000:]
