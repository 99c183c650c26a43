"""The Ray Jobs path against a real Ray job server with token authentication, and the real command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.airflow.conftest import ABSENT, PIPELINE_PYTHON, ROOT, SOURCES, Deployed

pytest.importorskip("airflow", reason=ABSENT)

from airflow_dags.deployment import RayJobsCluster
from airflow_dags.jobs import SubmissionError
from airflow_dags.ray_jobs import RayJobs
from tests.airflow.ray_job_server import ADDRESS

LONG = os.environ.get("DEMOSIFT_LONG_TESTS") == "1"
long_test = pytest.mark.skipif(not LONG, reason="takes three minutes more than CI has; set DEMOSIFT_LONG_TESTS=1")
NAMESPACES = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")


@pytest.fixture(scope="module")
def short_folder() -> Iterator[Path]:
    """Ray's sockets have paths of at most 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="rj"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def found(sample: Path, short_folder: Path, deploy: Callable[..., Deployed]) -> dict[str, Any]:
    """What jobs on a real job server came to."""
    pytest.importorskip("ray", reason="ray[default] is absent: make test-airflow sets it up")
    if subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no new network namespace may be made here, and Ray binds every interface")
    cluster = {"kind": "ray_jobs", "address": ADDRESS, "python": str(PIPELINE_PYTHON), "working_directory": str(ROOT)}
    flags = ["--runner=RayRunner", "--ray_address=auto"]
    deploy(short_folder / "nights", cluster={**cluster, "token_file": "../token"}, arguments=flags)
    script = [sys.executable, "-m", "tests.airflow.ray_job_server"]
    words = [str(short_folder), str(PIPELINE_PYTHON), str(ROOT), str(sample / "sample.yaml")]
    words += ["nights"] if LONG else []
    done = subprocess.run(
        [*NAMESPACES, *script, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    log = short_folder / "ray.log"
    assert done.returncode == 0, done.stdout + done.stderr + (log.read_text() if log.exists() else "")
    return dict(json.loads(done.stdout.split("FOUND")[1]))


def test_without_its_token_the_cluster_refuses(found: dict[str, Any]) -> None:
    assert "was answered 401" in found["without a token"]
    assert "name its token's file as `token_file`" in found["without a token"]


def test_submits_once_and_attaches(found: dict[str, Any]) -> None:
    name = "evidence-sample-isaac-0"
    assert found["before"] is None
    assert found["first"] == [name, "submitted"]
    assert found["second"] == [name, "attached to the running job"]
    assert found["submitted twice"] is False


def test_the_real_command_measures(found: dict[str, Any], short_folder: Path) -> None:
    assert found["ended"] == ["succeeded", 0]
    assert "sample_isaac: " in found["logs"]
    assert (short_folder / "set/_evidence/source=sample_isaac/source.json").exists()
    assert found["third"] == ["evidence-sample-isaac-0", "took the job that has ended well,"]


def test_what_failed_tells_its_exit_status_and_gets_a_new_suffix(found: dict[str, Any]) -> None:
    assert found["failed"] == ["failed", 2]
    assert found["again"] == ["evidence-bad-0-2", "submitted"]


def test_stop(found: dict[str, Any]) -> None:
    assert found["stopped"] == "failed"
    assert found["unknown logs"] == ""


@long_test
def test_a_night_on_the_cluster_ends_published(found: dict[str, Any], short_folder: Path) -> None:
    night = found["first night"]
    assert night["status"] == 0 and night["manifests"] == ["00000001.json"], night["said"]
    own = {name: status for name, status in night["jobs"].items() if name not in found["before the nights"]}
    assert set(own.values()) == {"SUCCEEDED"}
    commands = sorted(name.rpartition("-")[0] for name in own)
    assert commands == sorted(["decide-all", *(f"evidence-{name.replace('_', '-')}" for name in SOURCES)])
    output = short_folder / "nights" / "set"
    assert json.loads((output / "run_summary.json").read_text())["runner"] == "RayRunner"
    assert sorted(path.name for path in (output / "episodes").iterdir()) == sorted(f"source={s}" for s in SOURCES)


@long_test
def test_the_next_night_on_the_cluster_publishes_nothing_new(found: dict[str, Any]) -> None:
    first, second = found["first night"], found["second night"]
    assert "nothing is new since the last set was published" in second["said"]
    assert (second["manifests"], second["jobs"]) == (first["manifests"], first["jobs"])


def test_a_dashboard_that_is_not_there(tmp_path: Path) -> None:
    cluster = RayJobsCluster("ray_jobs", "http://127.0.0.1:1", "/python", "/")
    with pytest.raises(SubmissionError, match="is Ray's dashboard there"):
        RayJobs(cluster).look("any")
    with pytest.raises(SubmissionError, match="cannot read the token"):
        RayJobs(RayJobsCluster("ray_jobs", "http://127.0.0.1:1", "/python", "/", str(tmp_path / "none"))).look("any")
