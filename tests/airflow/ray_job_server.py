"""A real Ray job server in a network of its own, and jobs on it; prints what was found as JSON.

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
from pathlib import Path

from airflow_dags.deployment import RayJobsCluster
from airflow_dags.jobs import Job, JobState, Status, SubmissionError, Submitted, attach_or_submit
from airflow_dags.ray_jobs import RayJobs

ADDRESS = "http://127.0.0.1:8265"
_SET_FLAGS, _UP = 0x8914, 0x1


def raise_loopback() -> None:
    """Bring `lo` up, as `ip link set lo up` does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", _UP))


def start(folder: Path, token: str) -> None:
    """Start a head node whose job server wants the token, and wait until it answers."""
    (folder / "token").write_text(token)
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    ray = str(Path(sys.executable).with_name("ray"))
    words = ["start", "--head", "--block", "--num-cpus=2", "--port=6399"]
    words += ["--include-dashboard=true", "--dashboard-host=127.0.0.1", "--dashboard-port=8265"]
    sizes = ["--object-store-memory=100000000", f"--temp-dir={folder}/r", "--node-ip-address=127.0.0.1"]
    with (folder / "ray.log").open("wb") as log:
        subprocess.Popen([ray, *words, *sizes], env=environment, stdout=log, stderr=log)
    request = urllib.request.Request(f"{ADDRESS}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    until = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(request, timeout=5):
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


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


def main(folder: Path, python: str, root: str, config: str) -> None:
    raise_loopback()
    start(folder, "a-token-of-forty-characters-for-the-test")
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
    print("FOUND" + json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
