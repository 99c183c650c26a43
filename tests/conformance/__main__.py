"""`python -m tests.conformance --suite SUITE --runner CLASS`: run Beam's tests, print the totals and what is new."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.conformance.expected import BASELINES, baseline, contradictions
from tests.conformance.result import FAILURES
from tests.conformance.run import run_suite
from tests.conformance.selection import SUITES


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--suite", required=True, choices=sorted(SUITES))
    parser.add_argument(
        "--runner", default="beam_pipeline.runner.RayRunner", help="dotted name of a PipelineRunner class"
    )
    parser.add_argument(
        "--force", action="store_true", help="also where a test itself names one of Beam's local runners"
    )
    parser.add_argument("-k", dest="keyword", default="", help="pytest's expression, within the suite")
    parser.add_argument("--out", type=Path, help="JSON file for the outcome, seconds and message of each test")
    parser.add_argument("--summary", type=Path, help="JSON file for the counts and the tests that did not pass")
    parser.add_argument("--test-seconds", type=int, default=120, help="most seconds one test may take (default: 120)")
    parser.add_argument("--verbose", action="store_true", help="show pytest's output instead of the failures' messages")
    parser.add_argument("--write-baseline", action="store_true", help="store what did not pass under baseline/")
    parser.add_argument("--check", action="store_true", help="exit 1 where the failures are not those of known.toml")
    args = parser.parse_args()
    report = run_suite(
        args.suite,
        args.runner,
        keyword=args.keyword,
        force=args.force,
        test_seconds=args.test_seconds,
        verbose=args.verbose,
    )
    if args.out:
        args.out.write_text(report.to_json(), encoding="utf-8")
    if args.summary:
        args.summary.write_text(report.to_baseline(), encoding="utf-8")
    if args.write_baseline:
        (BASELINES / f"{args.suite}.json").write_text(report.to_baseline(), encoding="utf-8")
    reference = baseline(args.suite)
    for test, result in report.failures.items():
        place = "also on FnApiRunner" if reference.get(test) in FAILURES else "not on FnApiRunner"
        print(f"{result.outcome} ({place}): {test}\n    {result.message.strip()}")
    print(report.summary())
    if not args.check:
        return 0
    lines = contradictions(report, whole=not args.keyword)
    print("\n".join(lines) or "every failure is listed in known.toml")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
