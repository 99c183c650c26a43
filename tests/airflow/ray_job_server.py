"""A real Ray job server in a network of its own, jobs on it and whole nights; prints what was found as JSON.

Run by test_ray_jobs in new network and process namespaces: Ray binds every interface, and the end of this process ends
all of Ray.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

from airflow_dags.deployment import RayJobsCluster
from airflow_dags.jobs import Job, JobState, Status, SubmissionError, Submitted, attach_or_submit
from airflow_dags.ray_jobs import RayJobs
from tests.airflow.conftest import Deployed, environment_of

ADDRESS = "http://127.0.0.1:8265"
TOKEN = "a-token-of-forty-characters-for-the-test"
STARTS_WITHIN_S = 120.0
_SET_FLAGS, _UP = 0x8914, 0x1


def raise_loopback() -> None:
    """Bring `lo` up, as `ip link set lo up` does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", _UP))


def start(folder: Path, token: str, node_python: str | None = None) -> None:
    """Start a head whose job server wants the token, and wait until it answers.

    Given an interpreter, a node of it has the CPUs and the head has none, as in infra/kuberay.
    """
    (folder / "token").write_text(token)
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    common = ["--block", "--object-store-memory=100000000", "--node-ip-address=127.0.0.1"]
    head = ["--head", "--port=6399", f"--temp-dir={folder}/r", "--include-dashboard=true"]
    head += ["--dashboard-host=127.0.0.1", "--dashboard-port=8265", f"--num-cpus={0 if node_python else 2}"]
    node = ["--address=127.0.0.1:6399", "--num-cpus=2", "--dashboard-agent-listen-port=0"]
    nodes = [(sys.executable, head, "/api/jobs/", b"[", 1)]
    # a driver asks at its start how many CPUs there are, so the node must have come by then
    nodes += [(node_python, node, "/api/v0/nodes", b'"ALIVE"', 2)] if node_python else []
    for interpreter, words, place, answer, times in nodes:
        with (folder / "ray.log").open("ab") as log:
            ray = str(Path(interpreter).with_name("ray"))
            subprocess.Popen([ray, "start", *words, *common], env=environment, stdout=log, stderr=log)
        _wait(place, token, answer, times)


def _wait(place: str, token: str, wanted: bytes, times: int) -> None:
    """Ask the dashboard until its answer has some bytes so many times; raises TimeoutError."""
    request = urllib.request.Request(f"{ADDRESS}{place}", headers={"Authorization": f"Bearer {token}"})
    until, found = time.monotonic() + STARTS_WITHIN_S, b""
    while found.count(wanted) < times:
        if time.monotonic() > until:
            raise TimeoutError(f"{place} does not have {wanted!r} {times} times after {STARTS_WITHIN_S:g} s: {found!r}")
        time.sleep(0.5)
        with suppress(OSError), urllib.request.urlopen(request, timeout=10) as answer:
            found = answer.read()


def ended(submitter: RayJobs, name: str) -> JobState:
    """Wait for the end of a job."""
    while True:
        state = submitter.look(name)
        assert state is not None
        if state.status is not Status.RUNNING:
            return state
        time.sleep(0.3)


def said(submitted: Submitted) -> list[str]:
    """Its name, and how it came about."""
    return [submitted.name, submitted.how]


def night(deployed: Deployed, date: str) -> dict[str, object]:
    """One night by `airflow dags test`: what it said, and the jobs that the server knows then with their states."""
    done = deployed.run(date)
    token = (deployed.folder.parent / "token").read_text()
    request = urllib.request.Request(f"{ADDRESS}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        jobs = {job["submission_id"]: job["status"] for job in json.load(answer)}
    return {"said": done.stdout, "status": done.returncode, "jobs": jobs, "manifests": deployed.manifests()}


def main(folder: Path, python: str, root: str, config: str, nights: str = "") -> None:
    raise_loopback()
    start(folder, TOKEN, python if nights else None)
    cluster = RayJobsCluster("ray_jobs", ADDRESS, python, root, str(folder / "token"))
    submitter = RayJobs(cluster)
    found: dict[str, object] = {}
    try:
        RayJobs(dataclasses.replace(cluster, token_file=None)).look("any")
    except SubmissionError as error:
        found["without a token"] = str(error)
    output = str(folder / "set")
    words = ("evidence", "--config", config, "--output", output, "--source", "sample_isaac")
    job = Job("evidence-sample-isaac-0", words, {"SAID": "hello"})
    found["before"] = submitter.look(job.name)
    found["first"] = said(attach_or_submit(submitter, job))
    found["second"] = said(attach_or_submit(submitter, job))
    found["submitted twice"] = submitter.submit(job.name, job)
    state = ended(submitter, job.name)
    found["ended"] = [state.status.value, state.exit_status]
    found["logs"] = submitter.logs(job.name)
    found["third"] = said(attach_or_submit(submitter, job))
    bad = Job("evidence-bad-0", ("evidence", "--config", "/none.yaml", "--output", output), {})
    attach_or_submit(submitter, bad)
    state = ended(submitter, bad.name)
    found["failed"] = [state.status.value, state.exit_status]
    again = attach_or_submit(submitter, bad)
    found["again"] = said(again)
    submitter.stop(again.name)
    found["stopped"] = ended(submitter, again.name).status.value
    submitter.stop("unknown")
    found["unknown logs"] = submitter.logs("unknown")
    if nights:
        deployed = Deployed(folder / nights, environment_of(folder / nights))
        found["before the nights"] = [job.name, bad.name, again.name]
        found["first night"] = night(deployed, "2026-11-20")
        found["second night"] = night(deployed, "2026-11-21")
    print("FOUND" + json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
