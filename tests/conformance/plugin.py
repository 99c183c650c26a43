"""pytest plugin: sends the pipelines of Beam's tests to one runner class and writes down how each test ended.

Set in the environment: CONFORMANCE_RUNNER, the dotted name of a PipelineRunner class; CONFORMANCE_RECORD, the file that
gets one JSON line a test; CONFORMANCE_FLAGS, RayRunner's options for every pipeline; CONFORMANCE_FORCE=1 replaces
Beam's local runners also where a test names one.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.runner import PipelineRunner
from apache_beam.testing.test_pipeline import TestPipeline

from beam_pipeline.runner.options import RayOptions
from tests.conformance.result import Ended

MESSAGE_LIMIT = 600
_LOCAL_RUNNERS = frozenset(
    {
        "direct",
        "DirectRunner",
        "BundleBasedDirectRunner",
        "SwitchingDirectRunner",
        "FnApiRunner",
        "PrismRunner",
    }
)
_session = contextlib.ExitStack()


_running: dict[str, Ended] = {}


def runner_class() -> type[PipelineRunner]:
    module, _, name = os.environ["CONFORMANCE_RUNNER"].rpartition(".")
    loaded: type[PipelineRunner] = getattr(importlib.import_module(module), name)
    return loaded


def new_runner(is_drain: bool = False) -> PipelineRunner:
    """A fresh runner under test; a runner that cannot drain raises TypeError where it should."""
    return runner_class()(is_drain=True) if is_drain else runner_class()()


def pytest_configure(config: pytest.Config) -> None:
    flags = os.environ["CONFORMANCE_FLAGS"].split()
    TestPipeline.pytest_test_pipeline_options = " ".join([f"--runner={os.environ['CONFORMANCE_RUNNER']}", *flags])
    _route_pipelines(force=os.environ.get("CONFORMANCE_FORCE") == "1", flags=flags)


def pytest_sessionstart(session: pytest.Session) -> None:
    if runner_class().__module__.startswith("beam_pipeline."):
        from beam_pipeline.runner import PipelineLifecycleManager

        _session.enter_context(PipelineLifecycleManager())


def pytest_sessionfinish(session: pytest.Session) -> None:
    _session.close()


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _write(Ended(report.nodeid, "error", 0.0, _reason(report)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    ended = _running.get(report.nodeid) or Ended(_test_id(report), "passed", 0.0, "")
    ended = replace(ended, seconds=ended.seconds + report.duration)
    if report.failed:
        ended = replace(ended, outcome="failed" if report.when == "call" else "error", message=_reason(report))
    elif report.skipped and ended.outcome == "passed":
        outcome = "xfailed" if hasattr(report, "wasxfail") else "skipped"
        ended = replace(ended, outcome=outcome, message=_reason(report))
    _running[report.nodeid] = ended
    if report.when == "teardown":
        _write(_running.pop(report.nodeid))


def _route_pipelines(force: bool, flags: list[str]) -> None:
    """Give beam.Pipeline the suite's flags, and the runner under test where neither caller nor options name one."""
    original = beam.Pipeline.__init__

    @functools.wraps(original)
    def init(
        self: beam.Pipeline, runner: Any = None, options: Any = None, argv: Any = None, *args: Any, **named: Any
    ) -> None:
        chosen = runner
        if runner is None and options is not None:
            chosen = options.view_as(StandardOptions).runner
        elif runner is None and argv is not None and any(str(arg).startswith("--runner") for arg in argv):
            chosen = "named in argv"
        local = (chosen if isinstance(chosen, str) else type(chosen).__name__).rpartition(".")[2] in _LOCAL_RUNNERS
        if chosen is None or (force and local):
            runner = new_runner()
        if options is None and argv is None:
            argv = flags
        elif options is not None:
            _add(flags, options)
        original(self, runner, options, argv, *args, **named)

    beam.Pipeline.__init__ = init


def _add(flags: list[str], options: PipelineOptions) -> None:
    """Give options that a test made the suite's flags too; its own stay."""
    added, given = RayOptions(flags), options.view_as(RayOptions)
    for name in RayOptions._visible_option_list(added):
        if getattr(given, name) == getattr(RayOptions([]), name):
            setattr(given, name, getattr(added, name))


def _test_id(report: pytest.TestReport) -> str:
    """`package.module::Class::test`, which no installation folder is part of."""
    path, _, name = report.nodeid.partition("::")
    return f"{'.'.join(Path(path).with_suffix('').parts)}::{name}"


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else getattr(crash, "message", report.longrepr)
    return str(text)[-MESSAGE_LIMIT:]


def _write(ended: Ended) -> None:
    with Path(os.environ["CONFORMANCE_RECORD"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(ended)) + "\n")
