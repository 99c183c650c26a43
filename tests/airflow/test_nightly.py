"""Whole nights by `airflow dags test`: the real command on the sample, in processes that live on when a task dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.airflow.conftest import ABSENT, SOURCES, Deployed, environment_of

pytest.importorskip("airflow", reason=ABSENT)

NIGHT = "2026-11-20"
_FIRST_JOB_WITHIN_S = 120.0


@pytest.fixture(scope="module")
def first_night(deploy: Callable[..., Deployed], tmp_path_factory: pytest.TempPathFactory) -> tuple[Deployed, str]:
    """A night whose Airflow is killed while a job runs, and run again; the deployment, and what the second try said."""
    deployed = deploy(tmp_path_factory.mktemp("night") / "airflow")
    with (deployed.folder / "killed.log").open("wb") as log:
        killed = subprocess.Popen(
            deployed.command(NIGHT),
            env=deployed.environment,
            cwd=deployed.folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    until = time.monotonic() + _FIRST_JOB_WITHIN_S
    while not list(deployed.folder.glob("jobs/*/pid")):
        assert time.monotonic() < until and killed.poll() is None, (deployed.folder / "killed.log").read_text()
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    (job,) = deployed.folder.glob("jobs/*/pid")
    os.killpg(int(job.read_text()), signal.SIGSTOP)  # so that it surely runs when the second try looks
    with (deployed.folder / "again.log").open("wb") as log:
        again = subprocess.Popen(
            deployed.command(NIGHT), env=deployed.environment, cwd=deployed.folder, stdout=log, stderr=log
        )
    while "attached to" not in (deployed.folder / "again.log").read_text() and again.poll() is None:
        time.sleep(0.1)
    os.killpg(int(job.read_text()), signal.SIGCONT)
    again.wait()
    return deployed, (deployed.folder / "again.log").read_text()


@pytest.fixture
def later(first_night: tuple[Deployed, str], tmp_path: Path) -> Deployed:
    """A copy of the folder after the first night."""
    folder = tmp_path / "later"
    shutil.copytree(first_night[0].folder, folder)
    return Deployed(folder, environment_of(folder))


def test_a_killed_task_attaches_to_the_running_job(first_night: tuple[Deployed, str]) -> None:
    deployed, said = first_night
    assert "attached to the running job" in said
    assert len(deployed.jobs()) == len(SOURCES) + 1, "one job a source and one that decides: none was submitted twice"
    assert not [name for name in deployed.jobs() if name.endswith("-2")]


def test_a_night_ends_published(first_night: tuple[Deployed, str]) -> None:
    deployed, said = first_night
    assert deployed.manifests() == ["00000001.json"], said
    assert sorted(path.name for path in (deployed.output / "episodes").iterdir()) == sorted(
        f"source={name}" for name in SOURCES
    )
    assert (deployed.output / "report.html").stat().st_size > 0
    record = json.loads(Path(f"{deployed.output}.published.json").read_text())
    assert sorted(record["sources"]) == sorted(SOURCES)


def test_the_asset_tells_what_was_published(first_night: tuple[Deployed, str]) -> None:
    import sqlite3

    deployed, _ = first_night
    with sqlite3.connect(deployed.folder / "home" / "airflow.db") as database:
        rows = database.execute("select extra from asset_event").fetchall()
    (extra,) = (json.loads(row[0]) for row in rows)
    assert extra["output"] == str(deployed.output)
    assert extra["manifest"] == 1
    assert extra["report"] == f"file://{deployed.output}/report.html"


def test_the_next_night_finds_nothing_new(later: Deployed) -> None:
    jobs = later.jobs()
    said = later.run("2026-11-21").stdout
    assert "nothing is new since the last set was published" in said
    assert later.manifests() == ["00000001.json"]
    assert later.jobs() == jobs


def test_a_gate_that_fails_publishes_nothing_and_is_not_tried_again(later: Deployed) -> None:
    config = later.folder / "config.yaml"
    config.write_text(config.read_text() + "\ngates:\n  max_rejected_fraction: 0.0\n")
    before = set(later.jobs())
    said = later.run("2026-11-21").stdout
    assert "the configuration changed: decided anew" in said
    assert "a gate failed and nothing was published" in said
    assert later.manifests() == ["00000001.json"]
    (job,) = set(later.jobs()) - before
    assert job.startswith("decide-")
    assert (later.folder / "jobs" / job / "exit_status").read_text() == "3"
