"""RayJobs as Airflow makes them of infra/kuberay: the template of the docs, filled in by the DAG's own code."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from airflow_dags.deployment import Deployment, KubeRayCluster, load_deployment
from airflow_dags.jobs import Job, arguments_of, job_name
from airflow_dags.rayjob_template import ray_job
from tests.infra.rendered import KUBERAY, ROOT, Rendered, kubectl, render
from tests.infra.test_mutations import CHECKS

RENDER = "kubectl kustomize infra/kuberay/overlays/prod/job -o run"
COMMANDS = [("evidence", "teleoperation"), ("decide", None)]
RUN = ("nightly_curation", "2026-11-20T02:00:00+00:00", "2")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """The deployment file beside a template, rendered as the docs say."""
    folder = tmp_path_factory.mktemp("airflow")
    # its schedule is read by croniter, which Airflow's environment has: tests/airflow load the file whole
    lines = (KUBERAY / "airflow.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "airflow.yaml").write_text("".join(line for line in lines if not line.startswith("schedule:")))
    program, *words = RENDER.split()
    (folder / words[-1]).mkdir()
    words = [str(ROOT / word) if word.startswith("infra/") else word for word in words]
    done = subprocess.run([kubectl(), *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert (program, done.returncode) == ("kubectl", 0), done.stderr
    return load_deployment(folder / "airflow.yaml")


def made(deployment: Deployment, command: str, source: str | None) -> Rendered:
    """The production manifests, with the RayJob that a task of the DAG would create in place of the overlay's own."""
    assert isinstance(deployment.cluster, KubeRayCluster)
    arguments = arguments_of(deployment, command, source)
    name = job_name(RUN, command, source, arguments)
    body = ray_job(deployment.cluster, name, Job(name, arguments, {"DEMOSIFT_NIGHT": "2026-11-20"}))
    others = [document for document in render("prod").documents if document["kind"] != "RayJob"]
    return Rendered((*others, json.loads(json.dumps(body))))


def faults(rendered: Rendered) -> list[str]:
    return [fault for check in CHECKS for fault in check(rendered)]


def test_the_docs_render_the_template_so() -> None:
    said = " ".join((ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8").split())
    assert RENDER in said
    assert "`run/ray.io_v1_rayjob_curation.yaml`" in said
    assert RENDER in (KUBERAY / "airflow.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(("command", "source"), COMMANDS)
def test_the_rayjob_of_a_task_is_one_that_the_cluster_takes(
    deployment: Deployment, command: str, source: str | None
) -> None:
    rendered = made(deployment, command, source)
    assert faults(rendered) == []
    assert rendered.job["spec"]["entrypoint"].startswith(f"python -m beam_pipeline {command} --config")
    assert yaml.safe_load(rendered.job["spec"]["runtimeEnvYAML"]) == {"env_vars": {"DEMOSIFT_NIGHT": "2026-11-20"}}


def test_all_but_name_command_and_variables_is_the_overlay(deployment: Deployment) -> None:
    ours, overlay = made(deployment, *COMMANDS[0]).job, render("prod").job
    assert ours["metadata"]["labels"].items() >= overlay["metadata"]["labels"].items()
    own = {"entrypoint", "runtimeEnvYAML"}
    assert {k: v for k, v in ours["spec"].items() if k not in own} == {
        k: v for k, v in overlay["spec"].items() if k not in own
    }


def test_it_publishes_where_the_overlay_does(deployment: Deployment) -> None:
    wanted = f"--publish {deployment.publish}"
    assert wanted in render("prod").job["spec"]["entrypoint"]
    assert wanted in made(deployment, "decide", None).job["spec"]["entrypoint"]
    assert "--publish" not in made(deployment, *COMMANDS[0]).job["spec"]["entrypoint"]


def test_the_sources_are_those_of_the_configuration(deployment: Deployment) -> None:
    config = yaml.safe_load((KUBERAY / "base" / "job" / "curation.yaml").read_text(encoding="utf-8"))
    assert {(source.name, source.watch) for source in deployment.sources} == {
        (source["name"], source["path"]) for source in config["sources"]
    }


@pytest.mark.parametrize(
    ("slip", "said"),
    [
        ({"arguments": ("--runner=RayRunner", "--ray_address=auto")}, "--ray_workers_max is "),
        ({"arguments": ("--ray_workers_max=140",)}, "does not run on the cluster"),
        ({"config": "/etc/demosift/kitchen.yaml"}, "is no file of a ConfigMap that the head mounts"),
        ({"output": "/curated"}, "does not share the folder of --output=/curated"),
        ({"publish": "s3://example-curated"}, "is no bucket that the identity of the head may write"),
    ],
)
def test_a_slip_in_the_deployment_is_caught(deployment: Deployment, slip: dict[str, object], said: str) -> None:
    assert said in "\n".join(faults(made(replace(deployment, **slip), "decide", None)))


def test_another_namespace_is_caught(deployment: Deployment) -> None:
    assert isinstance(deployment.cluster, KubeRayCluster)
    elsewhere = replace(deployment, cluster=replace(deployment.cluster, namespace="robots"))
    assert "is in namespace robots, not in demosift" in "\n".join(faults(made(elsewhere, "decide", None)))


def test_a_template_that_is_no_rayjob_is_named(deployment: Deployment, tmp_path: Path) -> None:
    from airflow_dags.jobs import SubmissionError

    assert isinstance(deployment.cluster, KubeRayCluster)
    (tmp_path / "other.yaml").write_text("kind: ConfigMap\nspec: {}\n")
    other = replace(deployment.cluster, template=str(tmp_path / "other.yaml"))
    with pytest.raises(SubmissionError, match=r"other\.yaml is no RayJob with a spec"):
        ray_job(other, "any", Job("any", (), {}))
