"""Jobs as RayJobs of KubeRay: created of a template, watched by their status, deleted when they are to stop."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import Any, cast

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from airflow_dags.deployment import KubeRayCluster
from airflow_dags.jobs import Job, JobState, Status, SubmissionError, exit_status_in
from airflow_dags.rayjob_template import ray_job

_GROUP, _VERSION, _PLURAL = "ray.io", "v1", "rayjobs"
_ENDED = {"Complete", "Failed"}
"""`status.jobDeploymentStatus` that KubeRay 1.7 never leaves."""


@dataclass(frozen=True)
class KubeRayJobs:
    """A job is a RayJob of `cluster.namespace`, named as the job is."""

    cluster: KubeRayCluster

    def look(self, name: str) -> JobState | None:
        try:
            found = self._objects.get_namespaced_custom_object(_GROUP, _VERSION, self.cluster.namespace, _PLURAL, name)
        except ApiException as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise self._refused("get", name, error) from error
        except urllib3.exceptions.HTTPError as error:
            raise self._unreachable(error) from error
        return state_of(cast(dict[str, Any], found))

    def submit(self, name: str, job: Job) -> bool:
        body = ray_job(self.cluster, name, job)
        try:
            self._objects.create_namespaced_custom_object(_GROUP, _VERSION, self.cluster.namespace, _PLURAL, body)
        except ApiException as error:
            if error.status == HTTPStatus.CONFLICT:
                return False
            raise self._refused("create", name, error) from error
        except urllib3.exceptions.HTTPError as error:
            raise self._unreachable(error) from error
        return True

    def logs(self, name: str) -> str:
        """What the pods of the job's submitter printed, which KubeRay labels with the job's name."""
        try:
            pods = self._pods.list_namespaced_pod(self.cluster.namespace, label_selector=f"job-name={name}")
            raw = [  # the client would print the bytes that it decodes as b'...'
                self._pods.read_namespaced_pod_log(pod.metadata.name, self.cluster.namespace, _preload_content=False)
                for pod in pods.items
            ]
            return "".join(answer.data.decode(errors="replace") for answer in raw)
        except ApiException as error:
            return f"no log: {self._refused('read the log of', name, error)}"
        except urllib3.exceptions.HTTPError as error:
            raise self._unreachable(error) from error

    def stop(self, name: str) -> None:
        try:
            self._objects.delete_namespaced_custom_object(
                _GROUP, _VERSION, self.cluster.namespace, _PLURAL, name, propagation_policy="Foreground"
            )
        except ApiException as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise self._refused("delete", name, error) from error
        except urllib3.exceptions.HTTPError as error:
            raise self._unreachable(error) from error

    @cached_property
    def _api(self) -> client.ApiClient:
        try:
            if self.cluster.context is None and self.cluster.kubeconfig is None:
                settings = client.Configuration()
                config.load_incluster_config(client_configuration=settings)
                return client.ApiClient(settings)
            return config.new_client_from_config(self.cluster.kubeconfig, self.cluster.context)
        except config.ConfigException as error:
            raise SubmissionError(
                f"no way to the cluster: {error}; run Airflow in it, or give `context` and `kubeconfig`"
            ) from error

    @cached_property
    def _objects(self) -> client.CustomObjectsApi:
        return client.CustomObjectsApi(self._api)

    @cached_property
    def _pods(self) -> client.CoreV1Api:
        return client.CoreV1Api(self._api)

    def _refused(self, verb: str, name: str, error: ApiException) -> SubmissionError:
        said = str(error.body or error.reason).strip()
        return SubmissionError(f"cannot {verb} RayJob {self.cluster.namespace}/{name}: answered {error.status}: {said}")

    def _unreachable(self, error: Exception) -> SubmissionError:
        return SubmissionError(f"the API server of namespace {self.cluster.namespace} cannot be reached: {error}")


def state_of(found: dict[str, Any]) -> JobState:
    """What a RayJob's metadata and status say; one that is being deleted has failed, whatever its status says."""
    status = found.get("status") or {}
    job, deployment = status.get("jobStatus") or "", status.get("jobDeploymentStatus") or ""
    message = ": ".join(part for part in (status.get("reason"), status.get("message")) if part)
    if found.get("metadata", {}).get("deletionTimestamp"):
        return JobState(Status.FAILED, None, "the RayJob was deleted")
    if job == "SUCCEEDED":  # KubeRay may still be taking the cluster down
        return JobState(Status.SUCCEEDED, 0, message)
    if deployment in _ENDED:
        return JobState(Status.FAILED, exit_status_in(message), message or f"{deployment}, job status {job!r}")
    return JobState(Status.RUNNING, None, message)
