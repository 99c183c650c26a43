"""What a deployment file says, and every way in which it is refused."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tests.airflow.conftest import ABSENT, ROOT

pytest.importorskip("airflow", reason=ABSENT)

from airflow_dags.deployment import DeploymentError, KubeRayCluster, RayJobsCluster, load_deployment, of_night
from airflow_dags.jobs import arguments_of
from airflow_dags.new_data import record_path

GOOD = """\
config: config.yaml
output: set
start: 2026-11-01
sources:
  - {name: kitchen, watch: in/kitchen}
cluster: {kind: local, python: /usr/bin/python3, jobs: jobs, working_directory: .}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "deployment.yaml"
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    deployment = load_deployment(write(tmp_path, GOOD))
    assert deployment.config == str(tmp_path / "config.yaml")
    assert deployment.sources[0].watch == str(tmp_path / "in/kitchen")


def test_addresses_of_stores_stay(tmp_path: Path) -> None:
    deployment = load_deployment(write(tmp_path, GOOD.replace("output: set", "output: gs://bucket/set")))
    assert deployment.output == "gs://bucket/set"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("output: set", "ouput: set", ":2: unknown key 'ouput'; did you mean 'output'?"),
        ("output: set\n", "", ":1: key 'output' is missing"),
        ("watch: in/kitchen", "wach: in/kitchen", ":5: unknown key 'wach'; did you mean 'watch'?"),
        ("watch: in/kitchen", "watch: 3", ":5: Input should be a valid string, found 3 at `sources.0.watch`"),
        ("kind: local", "kind: locale", ":6: Input tag 'locale' found"),
        ("start: 2026-11-01", "start: soon", ":3: Input should be a valid date"),
        ("kitchen, watch", "kit chen, watch", "source 'kit chen' has other characters"),
        ("start:", "retries: -1\nstart:", ":3: Input should be greater than or equal to 0, found -1 at `retries`"),
        ("start:", "timezone: Mars\nstart:", "timezone 'Mars' is unknown; write one such as Europe/Zurich"),
        ("start:", "schedule: at night\nstart:", "schedule 'at night' is no cron expression"),
        ("start:", "catchup: true\nstart:", "catchup needs {night} in output"),
        ("output: set", "output: 'set/{night}'", "no variable of environment has it"),
        ("start:", "publish: bucket/set\nstart:", "publish 'bucket/set' is no URL of a store; write gs://"),
        ("start:", "publish: 'gs://b/{night}'\nstart:", "{night} stands in publish alone: write it in both"),
        (
            "start:",
            "arguments: [--output=x]\nstart:",
            "argument '--output=x' is given by the DAG; remove it, its key says it",
        ),
        ("cluster: ", "cluster: [", ":7: not YAML: expected ',' or ']'"),
        (GOOD, "", ":1: need keys such as `config:`"),
        (GOOD[GOOD.index("  - ") :], "  []\ncluster: {kind: kuberay, namespace: a, template: b}", "sources is empty"),
        ("  - {", "  - {name: kitchen, watch: b}\n  - {", "source 'kitchen' appears twice"),
        (
            GOOD[GOOD.index("cluster") :],
            "cluster: {kind: ray_jobs, address: head:8265, python: /p, working_directory: /}\n",
            "address 'head:8265' is no http:// or https:// address",
        ),
        (
            GOOD[GOOD.index("cluster") :],
            "cluster: {kind: ray_jobs, address: 'http://head:8265', python: python, working_directory: /}\n",
            "python 'python' must be absolute",
        ),
    ],
)
def test_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(DeploymentError) as error:
        load_deployment(path)
    assert said in str(error.value)
    assert str(error.value).startswith(f"{path}:")


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="cannot read the deployment"):
        load_deployment(tmp_path / "none.yaml")


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError) as error:
        load_deployment(write(tmp_path, GOOD.replace("config:", "confg:").replace("start: 2026", "start: x")))
    assert len(str(error.value).splitlines()) == 3


def test_nights(tmp_path: Path) -> None:
    text = GOOD.replace("output: set", "output: 'set/{night}'\nenvironment: {NIGHT: '{night}'}\ncatchup: true")
    deployment = load_deployment(write(tmp_path, text.replace("in/kitchen", "'in/{night}'")))
    assert deployment.catchup
    night = of_night(deployment, date(2026, 11, 26))
    assert night.output == str(tmp_path / "set/2026-11-26")
    assert night.sources[0].watch == str(tmp_path / "in/2026-11-26")
    assert night.environment == {"DEMOSIFT_NIGHT": "2026-11-26", "NIGHT": "2026-11-26"}


def test_the_deployment_of_the_manifests() -> None:
    """infra/kuberay/airflow.yaml, of which tests/infra make RayJobs."""
    deployment = load_deployment(ROOT / "infra" / "kuberay" / "airflow.yaml")
    assert deployment.schedule == "0 2 * * *"
    assert deployment.published == deployment.publish == "gs://example-project-curated/teleoperation"


def test_only_decide_publishes_to_the_store(tmp_path: Path) -> None:
    deployment = load_deployment(write(tmp_path, GOOD + "publish: gs://bucket/set\n"))
    places = ["--config", str(tmp_path / "config.yaml"), "--output", str(tmp_path / "set")]
    assert arguments_of(deployment, "evidence", "kitchen") == ("evidence", *places, "--source", "kitchen")
    assert arguments_of(deployment, "decide") == ("decide", *places, "--publish", "gs://bucket/set")
    assert record_path(deployment) == "gs://bucket/set.published.json"


def test_other_clusters(tmp_path: Path) -> None:
    start = GOOD[: GOOD.index("cluster")]
    ray = (
        "cluster: {kind: ray_jobs, address: 'http://head:8265', python: /p, working_directory: /, token_file: token}\n"
    )
    cluster = load_deployment(write(tmp_path, start + ray)).cluster
    assert isinstance(cluster, RayJobsCluster)
    assert cluster.token_file == str(tmp_path / "token")
    kube = "cluster: {kind: kuberay, namespace: robots, template: rayjob.yaml}\n"
    deployment = load_deployment(write(tmp_path, start + kube))
    assert isinstance(deployment.cluster, KubeRayCluster)
    assert deployment.cluster.template == str(tmp_path / "rayjob.yaml")
    assert deployment.config == "config.yaml", "a path of the pods, not of this machine"
