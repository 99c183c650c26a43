"""What running a suite gives, and how it is stored."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass

FAILURES = frozenset({"failed", "error"})


@dataclass(frozen=True)
class Ended:
    """How one test ended: passed, failed, error, skipped or xfailed; seconds of set-up, call and teardown."""

    test: str
    outcome: str
    seconds: float
    message: str


@dataclass(frozen=True)
class Report:
    """All results of a suite on a runner, in wall seconds, sorted by test."""

    suite: str
    runner: str
    seconds: float
    results: tuple[Ended, ...]

    @property
    def counts(self) -> Mapping[str, int]:
        return dict(sorted(Counter(result.outcome for result in self.results).items()))

    @property
    def failures(self) -> Mapping[str, Ended]:
        return {result.test: result for result in self.results if result.outcome in FAILURES}

    def summary(self) -> str:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self.counts.items())
        return f"{self.suite} on {self.runner}: {len(self.results)} tests, {counts}; {self.seconds:.1f} s"

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "counts": self.counts, "versions": versions()}, indent=1) + "\n"

    def to_baseline(self) -> str:
        """Counts and the outcome of each test that did not pass."""
        other = {result.test: result.outcome for result in self.results if result.outcome != "passed"}
        fields = {"suite": self.suite, "runner": self.runner, "versions": versions()}
        return json.dumps({**fields, "counts": self.counts, "not_passed": other}, indent=1) + "\n"


def versions() -> Mapping[str, str]:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"python": python, "apache-beam": importlib.metadata.version("apache-beam")}
