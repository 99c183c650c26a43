"""The RayJob of a job: a template, such as infra/kuberay renders, with its name, command and variables filled in."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import yaml

from airflow_dags.deployment import KubeRayCluster
from airflow_dags.jobs import Job, SubmissionError

_LABEL = "demosift.io/job"


def ray_job(cluster: KubeRayCluster, name: str, job: Job) -> dict[str, Any]:
    """The RayJob of a job: the template with its name, its command and its variables. Raises SubmissionError."""
    path = Path(cluster.template)
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise SubmissionError(f"cannot read the RayJob template {path}: {error}") from error
    if not isinstance(body, dict) or body.get("kind") != "RayJob" or not isinstance(body.get("spec"), dict):
        raise SubmissionError(f"{path} is no RayJob with a spec")
    metadata, spec = dict(body.get("metadata") or {}), dict(body["spec"])
    labels = {**(metadata.get("labels") or {}), _LABEL: job.name}
    metadata = {**metadata, "name": name, "namespace": cluster.namespace, "labels": labels}
    spec["entrypoint"] = shlex.join([cluster.python, "-m", "beam_pipeline", *job.arguments])
    try:
        environment = yaml.safe_load(spec.get("runtimeEnvYAML") or "{}")
    except yaml.YAMLError as error:
        raise SubmissionError(f"runtimeEnvYAML of {path} is not YAML: {error}") from error
    environment["env_vars"] = {**(environment.get("env_vars") or {}), **job.environment}
    spec["runtimeEnvYAML"] = yaml.safe_dump(environment, sort_keys=True)
    return {**body, "metadata": metadata, "spec": spec}
