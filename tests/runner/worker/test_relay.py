"""Logs, warnings and prints of a worker: what is taken is told again, and never more than a bundle may tell."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from beam_pipeline.runner.worker.relay import Relay, retell


@contextmanager
def _installed() -> Iterator[Relay]:
    """A relay that is this process's; pytest puts its own standard output back before a test, so not a fixture."""
    root, level, stdout, show = logging.getLogger(), logging.getLogger().level, sys.stdout, warnings.showwarning
    made = Relay()
    made.install()
    made.set_level(logging.INFO)
    try:
        yield made
    finally:
        root.removeHandler(made)
        root.setLevel(level)
        sys.stdout, warnings.showwarning = stdout, show


def test_logs_and_prints_are_told_with_their_logger_and_traceback(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with _installed() as relay:
        print("two\nlines")
        print("no end yet", end="")
        try:
            raise KeyError("gripper")
        except KeyError:
            logging.getLogger("robot.arm").exception("joint %d stuck", 3)
        logging.getLogger("robot.arm").debug("too quiet")
        told = relay.take()
        assert relay.take() is None
    caplog.clear()
    capsys.readouterr()
    with caplog.at_level(logging.INFO):
        retell(told)
    assert [(r.name, r.getMessage(), r.levelname) for r in caplog.records] == [("robot.arm", "joint 3 stuck", "ERROR")]
    assert "KeyError: 'gripper'" in str(caplog.records[0].exc_text)
    assert capsys.readouterr().out == "two\nlines\n"


def test_warnings_keep_their_category_and_place() -> None:
    with warnings.catch_warnings(), _installed() as relay:
        warnings.simplefilter("always")
        warnings.warn("slow path", RuntimeWarning, stacklevel=1)
        told = relay.take()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        retell(told)
    assert [(str(w.message), w.category, w.filename) for w in caught] == [("slow path", RuntimeWarning, __file__)]


def test_a_flood_is_cut_and_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    with _installed() as relay:
        for number in range(1500):
            print(number)
        told = relay.take()
    capsys.readouterr()
    retell(told)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "not shown" in line] == ["(500 more lines of a bundle are not shown)"]
