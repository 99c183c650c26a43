"""A job of the pipeline and the interface of what submits one; looked for before it is submitted, by its name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal, Protocol

from airflow_dags.deployment import Cluster, Deployment, KubeRayCluster, LocalCluster

NAME_LENGTH = 47
"""KubeRay's limit for the name of a RayJob."""
_TRIES = 100
_EXIT_STATUS = re.compile(r"exit code:? (\d+)")


class Status(Enum):
    """Where a job stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True)
class JobState:
    """What a cluster says of a job; `exit_status` is the command's, None where it is not known."""

    status: Status
    exit_status: int | None = None
    message: str = ""


@dataclass(frozen=True)
class Job:
    """Arguments of `python -m beam_pipeline`, the variables it needs, and a name that is the same in every retry."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]


class SubmissionError(Exception):
    """The cluster refused a job or cannot be reached; the message says which cluster and why."""


class Submitter(Protocol):
    """What runs jobs somewhere. Every method raises SubmissionError where the cluster does not answer as it should."""

    def look(self, name: str) -> JobState | None:
        """The state of a job; None where the cluster knows none of that name."""

    def submit(self, name: str, job: Job) -> bool:
        """Start a job; False where one of that name has come to be meanwhile."""

    def logs(self, name: str) -> str:
        """What the job printed so far."""

    def stop(self, name: str) -> None:
        """End a job; nothing where there is none."""


@dataclass(frozen=True)
class Submitted:
    """A job by the name it has on the cluster, and whether it was submitted now or was there before."""

    name: str
    how: Literal["submitted", "attached to the running job", "took the job that has ended well,"]

    @property
    def attached(self) -> bool:
        return self.how != "submitted"


def arguments_of(deployment: Deployment, command: str, source: str | None = None) -> tuple[str, ...]:
    """What `python -m beam_pipeline` is given; only `decide` publishes, and `evidence` refuses to be told where."""
    words = [command, "--config", deployment.config, "--output", deployment.output]
    words += ["--source", source] if source else []
    words += ["--publish", deployment.publish] if deployment.publish and command == "decide" else []
    return (*words, *deployment.arguments)


def job_name(run: tuple[str, ...], command: str, source: str | None, arguments: tuple[str, ...]) -> str:
    """A name for a job: readable in front, and the same for the same task of the same run with the same arguments."""
    parts = "\0".join((*run, command, source or "", *arguments))
    digest = hashlib.sha256(parts.encode()).hexdigest()[:12]
    readable = re.sub(r"[^a-z0-9]+", "-", f"{command}-{source or 'all'}".lower()).strip("-")
    room = NAME_LENGTH - len(digest) - len("-") - len("-99")
    return f"{readable[:room].rstrip('-')}-{digest}"


def attach_or_submit(submitter: Submitter, job: Job) -> Submitted:
    """Take the job that runs or has ended well under this name; else submit it, under the next suffix where it failed.

    Raises SubmissionError.
    """
    for number in range(1, _TRIES):
        name = job.name if number == 1 else f"{job.name}-{number}"
        state = submitter.look(name)
        if state is None:
            return Submitted(name, "submitted" if submitter.submit(name, job) else "attached to the running job")
        if state.status is Status.RUNNING:
            return Submitted(name, "attached to the running job")
        if state.status is Status.SUCCEEDED:
            return Submitted(name, "took the job that has ended well,")
    raise SubmissionError(f"{job.name} failed {_TRIES - 1} times; trigger a new run once the cause is mended")


def exit_status_in(message: str) -> int | None:
    """The exit status that Ray's job server writes into the message of a job that failed."""
    found = _EXIT_STATUS.search(message)
    return int(found.group(1)) if found else None


def submitter_for(cluster: Cluster) -> Submitter:
    """The submitter of a kind of cluster; its libraries are imported here, never when a DAG is parsed."""
    if isinstance(cluster, LocalCluster):
        from airflow_dags.local_jobs import LocalJobs

        return LocalJobs(cluster)
    if isinstance(cluster, KubeRayCluster):
        from airflow_dags.kuberay_jobs import KubeRayJobs

        return KubeRayJobs(cluster)
    from airflow_dags.ray_jobs import RayJobs

    return RayJobs(cluster)
