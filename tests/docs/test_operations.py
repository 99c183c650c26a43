"""The runbook: a section for each alert with its command, and its queries and commands, as they stand on the page."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import duckdb
import pytest
import yaml

from beam_pipeline.__main__ import COMMANDS
from tests.factories import motion, write_isaac
from tests.job import run_job

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
ALERTS = {
    rule["alert"]: rule
    for path in sorted((ROOT / "infra/prometheus/rules").glob("*.yml"))
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
QUERIES = re.findall(r'duckdb -c "([^"]+)"', PAGE)


def section(title: str) -> str:
    """What stands below a heading of the third level."""
    (found,) = re.findall(rf"^### {title}\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return str(found)


def test_every_alert_has_a_section_and_every_section_an_alert() -> None:
    assert re.findall(r"^### (DemoSift\w+)$", PAGE, re.MULTILINE) == list(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_the_command_of_an_alert_is_in_its_section(name: str) -> None:
    notes = ALERTS[name]["annotations"]
    assert notes["runbook_url"] == f"docs/operations.md#{name.lower()}"
    told = section(name).replace("-n NS", "-n demosift")
    assert notes["command"] in told, f"{name} says `{notes['command']}`, its section does not"


def test_the_queries_run_on_what_a_run_writes(tmp_path: Path) -> None:
    write_isaac(tmp_path / "in/demos.hdf5", {0: motion(1), 1: motion(2)})
    job = run_job(tmp_path, "  - {name: NAME, path: in, format: isaac_hdf5, embodiment: panda}")
    assert job.status == 0 and len(QUERIES) == 3
    for query in QUERIES:
        duckdb.sql(query.replace("DIR-next/", f"{job.output}/").replace("DIR/", f"{job.output}/")).fetchall()


def test_the_commands_of_the_project_are_there_with_their_flags() -> None:
    lines = re.findall(r"python -m (beam_pipeline [^`#\n]+?)(?=\s{2,}|[`#\n]|$)", PAGE)
    assert len(lines) >= 8
    for line in lines:
        name = shlex.split(line)[1]
        usage = __import__(f"beam_pipeline.commands.{name}", fromlist=["USAGE"]).USAGE if name in COMMANDS else None
        assert usage is not None or name.startswith("--"), line
        for flag in re.findall(r"--\w+", line) if usage else ():
            assert flag in usage, f"`{line}`: {name} has no {flag}"
