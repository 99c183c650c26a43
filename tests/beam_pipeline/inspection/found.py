"""Inspection through the command line, as its JSON says it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from beam_pipeline.__main__ import main

Dataset = dict[str, Any]


def inspected(capsys: pytest.CaptureFixture[str], *paths: Path) -> tuple[int, list[Dataset]]:
    """Exit status and data sets of `inspect PATH... --json`."""
    capsys.readouterr()
    status = main(["inspect", *map(str, paths), "--json"])
    found = json.loads(capsys.readouterr().out)
    severities = [notice["severity"] for dataset in found["datasets"] for notice in dataset["notices"]]
    counts = [severities.count(severity) for severity in ("error", "warning", "note")]
    assert counts == [found["errors"], found["warnings"], found["notes"]]
    assert status == (1 if found["errors"] else 0)
    return status, found["datasets"]


def only(capsys: pytest.CaptureFixture[str], path: Path) -> Dataset:
    """The one data set of a path."""
    _, datasets = inspected(capsys, path)
    (dataset,) = datasets
    return dataset


def codes(dataset: Dataset) -> dict[str, int]:
    """Counts by code."""
    return {notice["code"]: notice["count"] for notice in dataset["notices"]}


def said(dataset: Dataset, code: str) -> list[str]:
    """Examples of a code."""
    return [text for notice in dataset["notices"] if notice["code"] == code for text in notice["examples"]]
