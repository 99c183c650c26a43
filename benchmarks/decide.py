"""Deciding anew on stored evidence of many episodes: how long, how much memory, and where the time goes.

    python -m benchmarks.decide [--episodes 100000] [--sources 10] [--steps 10] [--json FILE] [--check]

The set is benchmarks/decide_set.py's. `decide` runs with a stricter rule that rejects more of what was kept, all over
the sources, with 100 verdicts of people; duplicates go, and the published steps that stay are carried over into new
parts. First all fingerprints are compared, then once more from the same folder with the index of duplicates that this
left, as where `curate` ran before. Both are commands that nothing watches, and their times are held to the bar. The
second runs twice more: watched (PSS of the process and its children, every 50 ms), and in this process, whose parts are
timed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from beam_pipeline import decision, pipeline
from beam_pipeline.commands.decide import run as decide
from beam_pipeline.config import PipelineConfig
from beam_pipeline.deduplication.episode_index import INDEX
from beam_pipeline.pipeline import MultimodalPipeline
from beam_pipeline.runner.executor import PipelineExecutor
from benchmarks.decide_set import make_folder, write_config
from benchmarks.harness import Bar, Report, Row, finish, package_versions, parser
from benchmarks.memory import watched
from transforms.measured import STORE


@contextmanager
def timed_calls(places: Sequence[tuple[Any, str, str]]) -> Iterator[dict[str, float]]:
    """Seconds of wall time by label of each call of some functions."""
    spent = {label: 0.0 for _, _, label in places}

    def timed(real: Callable[..., Any], label: str) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            started = time.monotonic()
            try:
                return real(*args, **named)
            finally:
                spent[label] += time.monotonic() - started

        return call

    with ExitStack() as stack:
        for owner, name, label in places:
            stack.enter_context(patch.object(owner, name, timed(getattr(owner, name), label)))
        yield spent


def timed_parts(config: Path, output: Path) -> tuple[list[Row], float]:
    """Decide in this process: where the time goes, lines that add up to the whole, and the whole in seconds."""
    executed: list[float] = []
    real = PipelineExecutor.run

    def run(self: PipelineExecutor, build: Any) -> Any:
        began = time.monotonic()
        report = real(self, build)
        executed.append(time.monotonic() - began)
        return report

    places = [
        (MultimodalPipeline, "_evidence_and_edges", "read stored evidence and the index of duplicates"),
        (decision, "decide_all", "rules, verdicts, representatives"),
        (decision, "ledger_table", "ledger rows"),
        (decision, "write_ledger", "write ledger"),
        (decision, "write_evidence", "write evidence"),
        (decision, "write_clusters", "write clusters"),
        (decision, "carried", "look up published parts"),
        (decision, "EpisodesTable", "worst score of each check"),
        (decision, "write_episodes", "write episodes"),
        (pipeline, "report_files", "report"),
        (pipeline, "publish", "publish"),
    ]
    with timed_calls(places) as spent, patch.object(PipelineExecutor, "run", run):
        started = time.monotonic()
        status = decide(["--config", str(config), "--output", str(output)])
        total = time.monotonic() - started
    if status:
        raise RuntimeError(f"decide ended with {status}")
    rest = total - sum(executed) - sum(spent.values())
    rows = [Row(f"  {label}", seconds, "s") for label, seconds in spent.items()]
    rows += [Row("  carry steps into new parts, statistics", sum(executed), "s", "a pipeline")]
    return [*rows, Row("  the rest", rest, "s", "parts, gates, what is printed")], total


def copied(output: Path, name: str) -> Path:
    """The folder again, its files linked: a run replaces files and changes none."""
    other = output.with_name(name)
    shutil.copytree(output, other, copy_function=os.link)
    return other


def timed_command(command: Sequence[str]) -> float:
    """Seconds of wall time of a fresh process; raises CalledProcessError where it fails."""
    started = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def main() -> int:
    """Generate, measure, print, judge."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--episodes", type=int, default=100_000)
    arguments.add_argument("--sources", type=int, default=10)
    arguments.add_argument("--steps", type=int, default=10, help="transitions of each episode")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, output = Path(name), Path(name) / "out"
        first = write_config(folder, options.sources, 1.0)
        started = time.monotonic()
        make_folder(output, PipelineConfig.load(first, sources_present=False), options.episodes, options.steps)
        generated_s = time.monotonic() - started
        each = options.episodes // options.sources
        said = {f"s{i % options.sources}/{7 * i % each:06d},reject,Ann,seen" for i in range(100)}
        (output / "verdicts.csv").write_text("\n".join(["episode_id,verdict,who,why", *sorted(said)]) + "\n")
        second = write_config(folder, options.sources, 0.5)
        command = [sys.executable, "-m", "beam_pipeline", "decide", "--config", str(second), "--output"]
        searching_s = timed_command([*command, str(copied(output, "first"))])
        shutil.copytree(folder / "first" / STORE / INDEX, output / STORE / INDEX)
        whole_s = timed_command([*command, str(copied(output, "timed"))])
        peak_mb, _ = watched([*command, str(copied(output, "watched"))])
        start_s = timed_command([sys.executable, "-c", "import beam_pipeline.commands.decide"])
        parts, within_s = timed_parts(second, output)
    what = f"{options.episodes} episodes, {options.sources} sources, {options.steps} transitions each"
    rows = [
        Row("decide, first", searching_s, "s", f"the command in a fresh process, duplicates searched: {what}"),
        Row("decide, anew", whole_s, "s", "the command in a fresh process, with the index of duplicates"),
        Row("peak PSS", peak_mb, "MB", "decided anew once more, watched"),
        Row("start of Python, imports", start_s, "s", "a fresh process that does no more"),
        Row("decide without its start", within_s, "s", "decided anew once more, of which:"),
        *parts,
        Row("generating it", generated_s, "s", "not part of the bar"),
    ]
    bars = [Bar("decide, first", "max", 20.0), Bar("decide, anew", "max", 20.0)]
    report = Report("Deciding anew", rows, bars, package_versions("apache-beam", "pyarrow", "numpy"))
    return finish(report, options.json, options.check)


if __name__ == "__main__":
    sys.exit(main())
