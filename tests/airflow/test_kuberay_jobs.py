"""RayJobs against a small real HTTP server that answers as the API server does; no API server can be had here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.airflow.conftest import ABSENT

pytest.importorskip("airflow", reason=ABSENT)

from airflow_dags.curation_job import JobTrigger
from airflow_dags.deployment import KubeRayCluster
from airflow_dags.jobs import Job, JobState, Status, SubmissionError, attach_or_submit
from airflow_dags.kuberay_jobs import KubeRayJobs, state_of

RAYJOBS, PODS = "/apis/ray.io/v1/namespaces/robots/rayjobs", "/api/v1/namespaces/robots/pods"
JOB = Job("evidence-kitchen-0", ("evidence", "--source", "kitchen"), {"NIGHT": "2026-11-26"})
TEMPLATE = """\
apiVersion: ray.io/v1
kind: RayJob
metadata: {name: any, labels: {team: robots}}
spec:
  entrypoint: none
  backoffLimit: 0
  runtimeEnvYAML: |
    env_vars: {HOME: /tmp}
  rayClusterSpec: {rayVersion: 2.60.0}
"""


class ApiServer:
    """RayJobs by name, what their pods print, and what was asked."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.refuse = 0

    def handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self, status: int, body: Any) -> None:
                content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def asked(self) -> str | None:
                path = self.path.partition("?")[0]
                server.asked.append(f"{self.command} {path}")
                if server.refuse:
                    self.answer(server.refuse, {"kind": "Status", "message": "rayjobs.ray.io is forbidden"})
                    return None
                return path

            def do_GET(self) -> None:
                path = self.asked()
                if path is None:
                    return
                name = path.rpartition("/")[2]
                if path == PODS:
                    self.answer(200, {"kind": "PodList", "items": [{"metadata": {"name": "submitter"}}]})
                elif path == f"{PODS}/submitter/log":
                    self.answer(200, "kitchen: 12 episodes measured\n")
                elif path.startswith(RAYJOBS) and name in server.jobs:
                    self.answer(200, server.jobs[name])
                else:
                    self.answer(404, {"kind": "Status", "reason": "NotFound"})

            def do_POST(self) -> None:
                path = self.asked()
                if path is None:
                    return
                assert path == RAYJOBS
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                name = body["metadata"]["name"]
                if name in server.jobs:
                    self.answer(409, {"kind": "Status", "reason": "AlreadyExists"})
                else:
                    server.jobs[name] = body
                    self.answer(201, body)

            def do_DELETE(self) -> None:
                path = self.asked()
                if path is None:
                    return
                found = server.jobs.pop(path.rpartition("/")[2], None)
                self.answer(200 if found else 404, {"kind": "Status"})

            def log_message(self, *arguments: object) -> None:
                pass

        return Handler


@pytest.fixture
def api() -> ApiServer:
    return ApiServer()


@pytest.fixture
def cluster(api: ApiServer, serve: Callable[..., str], tmp_path: Path) -> KubeRayCluster:
    (tmp_path / "rayjob.yaml").write_text(TEMPLATE)
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": serve(api.handler())}}],
        "users": [{"name": "test", "user": {"token": "secret"}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    return KubeRayCluster(
        "kuberay", "robots", str(tmp_path / "rayjob.yaml"), context="test", kubeconfig=str(tmp_path / "kubeconfig")
    )


def test_creates_a_rayjob_of_the_template(api: ApiServer, cluster: KubeRayCluster) -> None:
    submitted = attach_or_submit(KubeRayJobs(cluster), JOB)
    assert (submitted.name, submitted.attached) == (JOB.name, False)
    created = api.jobs[JOB.name]
    assert created["metadata"]["labels"] == {"team": "robots", "demosift.io/job": JOB.name}
    assert created["spec"]["entrypoint"] == "python -m beam_pipeline evidence --source kitchen"
    assert yaml.safe_load(created["spec"]["runtimeEnvYAML"]) == {"env_vars": {"HOME": "/tmp", "NIGHT": "2026-11-26"}}
    assert created["spec"]["rayClusterSpec"] == {"rayVersion": "2.60.0"}


def test_attaches_to_what_runs_and_renames_what_failed(api: ApiServer, cluster: KubeRayCluster) -> None:
    submitter = KubeRayJobs(cluster)
    attach_or_submit(submitter, JOB)
    assert attach_or_submit(submitter, JOB).attached
    api.jobs[JOB.name]["status"] = {"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"}
    again = attach_or_submit(submitter, JOB)
    assert (again.name, again.attached) == (f"{JOB.name}-2", False)


def test_another_that_submits_at_the_same_moment_is_attached_to(api: ApiServer, cluster: KubeRayCluster) -> None:
    submitter = KubeRayJobs(cluster)
    assert submitter.submit(JOB.name, JOB)
    assert not submitter.submit(JOB.name, JOB)


@pytest.mark.parametrize(
    ("found", "state"),
    [
        ({}, JobState(Status.RUNNING)),
        ({"status": {"jobDeploymentStatus": "Initializing"}}, JobState(Status.RUNNING)),
        ({"status": {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}}, JobState(Status.RUNNING)),
        ({"status": {"jobDeploymentStatus": "Running", "jobStatus": "SUCCEEDED"}}, JobState(Status.SUCCEEDED, 0)),
        ({"status": {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}}, JobState(Status.SUCCEEDED, 0)),
        (
            {
                "status": {
                    "jobDeploymentStatus": "Failed",
                    "jobStatus": "FAILED",
                    "reason": "AppFailed",
                    "message": "Job entrypoint command failed with exit code 3, last available logs",
                }
            },
            JobState(
                Status.FAILED, 3, "AppFailed: Job entrypoint command failed with exit code 3, last available logs"
            ),
        ),
        (
            {"status": {"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}},
            JobState(Status.FAILED, None, "Complete, job status 'STOPPED'"),
        ),
        (
            {"metadata": {"deletionTimestamp": "2026-11-26T00:00:00Z"}, "status": {"jobStatus": "RUNNING"}},
            JobState(Status.FAILED, None, "the RayJob was deleted"),
        ),
    ],
)
def test_states(found: dict[str, Any], state: JobState) -> None:
    assert state_of(found) == state


def test_logs_are_those_of_the_submitter_pod(api: ApiServer, cluster: KubeRayCluster) -> None:
    assert KubeRayJobs(cluster).logs(JOB.name) == "kitchen: 12 episodes measured\n"
    assert api.asked == [f"GET {PODS}", f"GET {PODS}/submitter/log"]


def test_refusals_say_what_was_asked(api: ApiServer, cluster: KubeRayCluster) -> None:
    api.refuse = 403
    with pytest.raises(
        SubmissionError, match=r"cannot get RayJob robots/evidence-kitchen-0: answered 403: .*forbidden"
    ):
        attach_or_submit(KubeRayJobs(cluster), JOB)


def test_a_template_of_something_else_is_refused(cluster: KubeRayCluster) -> None:
    Path(cluster.template).write_text("kind: RayCluster\nspec: {}\n")
    with pytest.raises(SubmissionError, match="is no RayJob with a spec"):
        attach_or_submit(KubeRayJobs(cluster), JOB)


def test_outside_a_cluster_the_remedy_is_told(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match="give `context` and `kubeconfig`"):
        KubeRayJobs(KubeRayCluster("kuberay", "robots", "none")).look(JOB.name)


@pytest.fixture
def trigger(api: ApiServer, cluster: KubeRayCluster, tmp_path: Path) -> JobTrigger:
    """The trigger of a job that was submitted."""
    own = {"kind": "kuberay", "namespace": "robots", "template": "rayjob.yaml", "context": "test"}
    deployment = {
        "config": "/etc/demosift/config.yaml",
        "output": "gs://bucket/set",
        "sources": [{"name": "kitchen", "watch": "gs://bucket/kitchen"}],
        "cluster": {**own, "kubeconfig": "kubeconfig"},
        "start": "2026-11-01",
        "poll_seconds": 0.05,
    }
    (tmp_path / "deployment.yaml").write_text(yaml.safe_dump(deployment))
    attach_or_submit(KubeRayJobs(cluster), JOB)
    return JobTrigger(str(tmp_path / "deployment.yaml"), JOB.name)


def test_the_trigger_waits_until_the_job_has_ended(api: ApiServer, trigger: JobTrigger) -> None:
    async def wait() -> dict[str, Any]:
        async def end() -> None:
            await asyncio.sleep(0.5)
            api.jobs[JOB.name]["status"] = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}

        ending = asyncio.create_task(end())
        async for event in trigger.run():
            await ending
            return dict(event.payload)
        raise AssertionError("no event")

    assert asyncio.run(wait()) == {"job": JOB.name, "status": "succeeded", "exit_status": 0, "message": ""}
    assert api.asked.count(f"GET {RAYJOBS}/{JOB.name}") > 3


def test_a_kill_deletes_the_rayjob(api: ApiServer, trigger: JobTrigger) -> None:
    asyncio.run(trigger.on_kill())
    assert api.jobs == {}
    assert f"DELETE {RAYJOBS}/{JOB.name}" in api.asked
    asyncio.run(trigger.on_kill())  # one that is gone already is no error


def test_the_trigger_comes_back_from_the_database_as_it_was(trigger: JobTrigger) -> None:
    path, arguments = trigger.serialize()
    assert path == "airflow_dags.curation_job.JobTrigger"
    assert JobTrigger(**arguments).serialize() == (path, arguments)
