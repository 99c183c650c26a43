"""What is known of each suite: the failures of RayRunner with their reasons, and what FnApiRunner does not pass."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tests.conformance.result import Report

BASELINES = Path(__file__).with_name("baseline")
KNOWN = Path(__file__).with_name("known.toml")


def known_failures(suite: str) -> Mapping[str, str]:
    """Tests of the suite that fail on RayRunner, each with its reason."""
    groups = tomllib.loads(KNOWN.read_text(encoding="utf-8")).get(suite, [])
    reasons = {test: group["reason"] for group in groups for test in group["tests"]}
    if len(reasons) != sum(len(group["tests"]) for group in groups):
        raise ValueError(f"{KNOWN.name} lists a test of {suite} twice; leave it with one reason")
    return MappingProxyType(reasons)


def baseline(suite: str) -> Mapping[str, str]:
    """Outcome of each test that did not pass on FnApiRunner in the same environment."""
    stored: dict[str, str] = json.loads((BASELINES / f"{suite}.json").read_text(encoding="utf-8"))["not_passed"]
    return MappingProxyType(stored)


def contradictions(report: Report, whole: bool = True) -> list[str]:
    """Failures that nothing lists and, where the whole suite ran, listed ones that did not happen; one line each."""
    known = known_failures(report.suite)
    unlisted = [
        f"fails and is not listed: {test}: {r.message}" for test, r in report.failures.items() if test not in known
    ]
    stale = [f"is listed and does not fail: {test}" for test in known if whole and test not in report.failures]
    return unlisted + stale
