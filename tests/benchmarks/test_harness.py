"""What a report says of the command that made it."""

from __future__ import annotations

import sys

import pytest

from benchmarks.harness import Report


def test_a_command_names_no_folder_of_one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--only", "a/b", "--json", "/tmp/here/x.json", "--folder=/data/y", "--share=1/2"]
    monkeypatch.setattr(sys, "argv", ["name", *words])
    told = Report("title", [], [], []).command.split()
    assert told[-6:] == ["--only", "a/b", "--json", "x.json", "--folder=y", "--share=1/2"]
