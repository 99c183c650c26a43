"""Puts what was measured of RayRunner into the table of `docs/runner.md`, one line a bar, met or missed.

    python -m benchmarks.runner --json benchmarks/results/runner.json
    python -m benchmarks.memory --runner RayRunner --json benchmarks/results/memory.json
    python -m tests.conformance --suite vr --summary benchmarks/results/conformance-vr.json  (and the other suites)
    python -m benchmarks.runner_table [--check]

Any benchmark's JSON in that folder is read. It only writes what these files say; `--check` writes nothing and exits 1
where the page says something else.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "runner.md"
BASELINES = ROOT / "tests" / "conformance" / "baseline"
BEGIN, END = "<!-- bars: begin -->", "<!-- bars: end -->"
FAILED = ("failed", "error")
SUITES = {
    "vr": ("ValidatesRunner", 37),
    "fnapi": ("FnApiRunnerTest without Split and issue-35168 timers", 71),
    "ml": ("RunInference", 54),
    "core": ("core transforms", None),
    "io": ("io", None),
    "portable": ("PortableRunnerTest, batch", None),
}


@dataclass(frozen=True)
class Line:
    """One line of the table; `met` None where nothing was measured."""

    what: str
    measured: str
    bar: str
    met: bool | None

    def markdown(self) -> str:
        verdict = {True: "met", False: "**missed**", None: "not measured"}[self.met]
        return f"| {self.what} | {self.measured} | {self.bar} | {verdict} |"


def conformance_lines(results: Path) -> Iterator[Line]:
    """A suite's passes against its bar, or its failures against those of FnApiRunner in the same environment."""
    for suite, (what, least) in SUITES.items():
        path, baseline = results / f"conformance-{suite}.json", BASELINES / f"{suite}.json"
        if not path.exists():
            yield Line(what, "-", f">= {least} pass" if least else "no failure of its own", None)
            continue
        report = json.loads(path.read_text(encoding="utf-8"))
        bare = json.loads(baseline.read_text(encoding="utf-8")) if baseline.exists() else {"not_passed": {}}
        failures = {test for test, outcome in report["not_passed"].items() if outcome in FAILED}
        own = failures - {test for test, outcome in bare["not_passed"].items() if outcome in FAILED}
        passed = report["counts"].get("passed", 0)
        told = f"{passed} of {sum(report['counts'].values())} pass, {len(own)} fail that FnApiRunner passes"
        met = not own and (least is None or passed >= least)
        yield Line(what, told, f">= {least} pass" if least else "no failure of its own", met)


def bar_lines(report: Mapping[str, Any]) -> Iterator[Line]:
    """Every bar of a benchmark with its row, and the sides it compares."""
    rows = {row["name"]: row for row in report["rows"]}
    for bar in report["bars"]:
        row = rows.get(bar["row"])
        sign = ">=" if bar["kind"] == "min" else "<="
        if row is None or row["value"] is None:
            yield Line(bar["row"], "-", f"{sign} {bar['limit']:g}", None)
            continue
        arm = bar["row"].split(":")[0]
        sides = [f"{r['name'].partition(': ')[2]} {r['value']:.3g} s" for r in report["rows"] if _is_side(r, arm)]
        size = rows.get(f"{arm}: size")
        told = f"{row['value']:.3g} {row['unit']}" + (f" ({', '.join(sides)})" if sides else "")
        what = bar["row"] + (f", {size['value']:.6g} {size['unit']}" if size else "")
        met = row["value"] >= bar["limit"] if bar["kind"] == "min" else row["value"] <= bar["limit"]
        yield Line(what, told, f"{sign} {bar['limit']:g} {row['unit']}", met)


def table(results: Path) -> str:
    """The whole table in Markdown, with the commands and the machine under it."""
    lines = list(conformance_lines(results))
    told = []
    for path in sorted([*results.glob("memory.json"), *results.glob("runner*.json")]):
        report = json.loads(path.read_text(encoding="utf-8"))
        lines += bar_lines(report)
        told.append(f"`{report['command']}`: {report['machine']}; {', '.join(report['versions'])}")
    head = ["| what | measured | bar | |", "|---|---|---|---|"]
    return "\n".join([*head, *(line.markdown() for line in lines), "", *(f"- {line}" for line in told)])


def with_table(page: str, text: str) -> str:
    """The page with its table replaced. Raises ValueError where it has no place for one."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} has no {BEGIN} ... {END}; put both where the table is to stand")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def _is_side(row: Mapping[str, Any], arm: str) -> bool:
    return row["name"].startswith(f"{arm}: ") and row["unit"] == "s" and "median of" in row["note"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table, or check it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the page says something else")
    options = parser.parse_args(arguments)
    page = PAGE.read_text(encoding="utf-8")
    wanted = with_table(page, table(RESULTS))
    if not options.check:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    if page != wanted:
        print(f"{PAGE.name} is not what the results say; run python -m benchmarks.runner_table")
        return 1
    print(f"{PAGE.name} says what the results say")
    return 0


if __name__ == "__main__":
    sys.exit(main())
