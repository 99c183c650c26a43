"""Jobs as processes: a stand-in interpreter takes the place of the pipeline's, the processes are real."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.airflow.conftest import ABSENT

pytest.importorskip("airflow", reason=ABSENT)

from airflow_dags.deployment import LocalCluster
from airflow_dags.jobs import Job, Status, SubmissionError, attach_or_submit, exit_status_in, job_name
from airflow_dags.local_jobs import LocalJobs


def jobs(folder: Path, script: str) -> LocalJobs:
    """A submitter whose `python` is a shell script; it sees `-m beam_pipeline` and the arguments."""
    python = folder / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return LocalJobs(LocalCluster("local", str(python), str(folder / "jobs"), str(folder)))


def ended(submitter: LocalJobs, name: str) -> tuple[Status, int | None]:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        state = submitter.look(name)
        assert state is not None
        if state.status is not Status.RUNNING:
            return state.status, state.exit_status
        time.sleep(0.02)
    raise AssertionError("the job does not end")


JOB = Job("evidence-kitchen-0", ("evidence", "--source", "kitchen"), {"NIGHT": "2026-11-26"})


def test_runs_the_command_with_its_variables(tmp_path: Path) -> None:
    submitter = jobs(tmp_path, 'echo "$@ $NIGHT"')
    assert submitter.look(JOB.name) is None
    assert not attach_or_submit(submitter, JOB).attached
    assert ended(submitter, JOB.name) == (Status.SUCCEEDED, 0)
    assert submitter.logs(JOB.name) == "-m beam_pipeline evidence --source kitchen 2026-11-26\n"


def test_attaches_to_what_runs_and_to_what_ended_well(tmp_path: Path) -> None:
    submitter = jobs(tmp_path, f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done")
    attach_or_submit(submitter, JOB)
    again = attach_or_submit(submitter, JOB)
    assert (again.name, again.attached) == (JOB.name, True)
    (tmp_path / "go").touch()
    assert ended(submitter, JOB.name)[0] is Status.SUCCEEDED
    assert attach_or_submit(submitter, JOB).attached


def test_a_job_that_failed_is_submitted_under_the_next_suffix(tmp_path: Path) -> None:
    submitter = jobs(tmp_path, "exit 3")
    attach_or_submit(submitter, JOB)
    assert ended(submitter, JOB.name) == (Status.FAILED, 3)
    again = attach_or_submit(submitter, JOB)
    assert (again.name, again.attached) == (f"{JOB.name}-2", False)
    assert ended(submitter, again.name) == (Status.FAILED, 3)


def test_a_job_whose_keeper_is_killed_has_failed(tmp_path: Path) -> None:
    submitter = jobs(tmp_path, "sleep 60")
    attach_or_submit(submitter, JOB)
    os.killpg(int((tmp_path / "jobs" / JOB.name / "pid").read_text()), signal.SIGKILL)
    assert ended(submitter, JOB.name) == (Status.FAILED, None)


def test_stop_ends_the_command(tmp_path: Path) -> None:
    submitter = jobs(tmp_path, "echo here; exec sleep 60")
    attach_or_submit(submitter, JOB)
    while "here" not in submitter.logs(JOB.name):
        time.sleep(0.02)
    start = time.monotonic()
    submitter.stop(JOB.name)
    assert time.monotonic() - start < 10
    assert ended(submitter, JOB.name)[0] is Status.FAILED
    submitter.stop("unknown")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text("a file")
    with pytest.raises(SubmissionError, match="cannot keep jobs in"):
        attach_or_submit(jobs(tmp_path, "true"), JOB)


def test_names_are_the_same_in_every_try_and_differ_by_what_is_run() -> None:
    run, words = ("nightly_curation", "2026-11-26"), ("evidence", "--source", "Kitchen_2")
    name = job_name(run, "evidence", "Kitchen_2", words)
    assert name == job_name(run, "evidence", "Kitchen_2", words)
    assert name.startswith("evidence-kitchen-2-")
    assert name != job_name(("nightly_curation", "2026-11-27"), "evidence", "Kitchen_2", words)
    assert name != job_name(run, "evidence", "Kitchen_2", (*words, "--runner=RayRunner"))
    assert len(job_name(run, "evidence", "x" * 200, ()) + "-99") <= 47


def test_the_exit_status_stands_in_rays_message() -> None:
    assert exit_status_in("Job entrypoint command failed with exit code 3, last available logs") == 3
    assert exit_status_in("out of memory") is None
