"""The DAG as Airflow reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.airflow.conftest import ABSENT, ROOT

pytest.importorskip("airflow", reason=ABSENT)

DAGS = ROOT / "airflow_dags" / "dags"
HEAVY = ("ray", "kubernetes", "kubernetes_asyncio", "apache_beam", "numpy", "pandas", "pyarrow", "fsspec", "croniter")
READ = """
import json, sys, time
from airflow.dag_processing.dagbag import DagBag
import airflow.models, airflow.sdk.definitions.dag
loaded = set(sys.modules)
bag = DagBag({folder!r}, collect_dags=False)
start = time.process_time()
bag.collect_dags({folder!r})
took = time.process_time() - start  # of this process, whatever else the machine does
dag = bag.dags["nightly_curation"]
ours = sorted(set(sys.modules) - loaded)
print("FOUND" + json.dumps({{
    "errors": bag.import_errors, "seconds": took, "loaded": ours,
    "edges": {{task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks}},
    "mapped": sorted(task.task_id for task in dag.tasks if task.is_mapped),
    "params": {{name: dag.params.get_param(name).schema for name in dag.params}},
    "rules": {{task.task_id: str(getattr(task.trigger_rule, "value", task.trigger_rule)) for task in dag.tasks}},
    "deadline_s": [alert.interval.total_seconds() for alert in dag.deadline],
    "catchup": dag.catchup, "active": dag.max_active_runs,
    "assets": [asset.name for asset in dag.get_task("announce").outlets],
    "links": [link.name for link in dag.get_task("decide").operator_extra_links],
}}))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """The DAG in a process that read it as the DAG processor does."""
    done = subprocess.run(
        [sys.executable, "-c", READ.format(folder=str(DAGS))], cwd=ROOT, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout.split("FOUND")[1]))


def test_no_import_errors(found: dict[str, Any]) -> None:
    assert found["errors"] == {}


def test_parses_within_a_second(found: dict[str, Any]) -> None:
    assert found["seconds"] < 1.0


def test_imports_nothing_heavy(found: dict[str, Any]) -> None:
    roots = {name.split(".")[0] for name in found["loaded"]}
    assert not roots & {*HEAVY} - {"croniter"}


def test_structure(found: dict[str, Any]) -> None:
    assert found["edges"] == {
        "wait_for_recordings": ["announce", "plan"],
        "plan": ["decide", "evidence"],
        "evidence": ["decide"],
        "decide": ["announce"],
        "announce": [],
    }
    assert found["mapped"] == ["evidence"]
    assert found["rules"]["decide"] == "none_failed_min_one_success"
    assert found["assets"] == ["curated_set"]
    assert found["links"] == ["Curation report"]


def test_one_run_at_a_time_and_no_catchup_without_nights(found: dict[str, Any]) -> None:
    assert (found["catchup"], found["active"]) == (False, 1)


def test_deadline(found: dict[str, Any]) -> None:
    assert found["deadline_s"] == [3600.0]


def test_trigger_form(found: dict[str, Any]) -> None:
    params = found["params"]
    assert list(params) == ["sources", "force", "decide_only", "night", "wait_minutes"]
    sources = ["sample_rlds", "sample_isaac", "sample_lerobot"]
    assert params["sources"]["items"]["enum"] == sources
    assert params["night"]["format"] == "date"


def test_the_deployment_of_make_airflow_names_the_sample(tmp_path: Path) -> None:
    from airflow_dags.deployment import DEFAULT_DEPLOYMENT, load_deployment

    deployment = load_deployment(DEFAULT_DEPLOYMENT)
    assert deployment.config == str(ROOT / "out/sample-input/sample.yaml")
    assert deployment.cluster.kind == "local"
