"""infra/prometheus and infra/grafana: valid, about metrics that exist, and alerts that fire when they must."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from beam_pipeline.metrics import PUSHED
from beam_pipeline.runner.live_metrics import LIVE
from infra.grafana.make_dashboards import FOLDER as DASHBOARDS
from infra.grafana.make_dashboards import SOURCE
from infra.grafana.make_dashboards import text as dashboard_text
from infra.grafana.panels import DASHBOARDS as DEFINED
from infra.observe import reference
from infra.prometheus import make_rule
from tests.infra.promql import metric_names
from tests.infra.rendered import OVERLAYS, ROOT, render
from tests.pushgateway import ABSENT

PROMETHEUS = ROOT / "infra" / "prometheus"
OF_PROMETHEUS = {"up", "ALERTS"}
RULES = [rule for group in make_rule.groups() for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason=ABSENT)


def promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True, check=False)


def names_of_ray() -> set[str]:
    """Names that the installed Ray's agent exports of a node, read from its code: without a GPU it exports few of GPUs.

    Those of its core are compiled; tests/infra/test_observe.py finds them in a real scrape.
    """
    import ray

    agent = Path(ray.__file__).parent / "dashboard/modules/reporter/reporter_agent.py"
    gauges = re.findall(r'^    "(\w+)": Gauge\(', agent.read_text(encoding="utf-8"), re.MULTILINE)
    core = (Path(ray.__file__).parent / "core/src/ray/raylet/raylet").read_bytes()
    assert b"object_store_memory\0" in core
    return {f"ray_{name}" for name in (*gauges, "object_store_memory")}


@needs_promtool
def test_promtool_takes_configuration_and_rules() -> None:
    checked = promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert checked.returncode == 0 and "2 rule files found" in checked.stdout, checked.stdout + checked.stderr


@needs_promtool
def test_every_alert_fires_in_one_case_and_stays_silent_in_another() -> None:
    tested = promtool("test", "rules", PROMETHEUS / "tests" / "alerts.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    cases = yaml.safe_load((PROMETHEUS / "tests" / "alerts.yml").read_text(encoding="utf-8"))["tests"]
    asked = [one for case in cases for one in case["alert_rule_test"]]
    fires = {one["alertname"] for one in asked if one.get("exp_alerts")}
    silent = {one["alertname"] for one in asked if not one.get("exp_alerts")}
    assert fires == silent == {rule["alert"] for rule in ALERTS}


@needs_promtool
def test_no_alert_depends_on_the_order_of_the_groups(tmp_path: Path) -> None:
    shutil.copytree(PROMETHEUS / "rules", tmp_path / "rules")
    cases = yaml.safe_load((PROMETHEUS / "tests" / "alerts.yml").read_text(encoding="utf-8"))
    assert cases["group_eval_order"] == [group["name"] for group in reversed(make_rule.groups())]
    cases["group_eval_order"].reverse()
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "alerts.yml").write_text(yaml.safe_dump(cases), encoding="utf-8")
    tested = promtool("test", "rules", tmp_path / "tests" / "alerts.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


@needs_promtool
@pytest.mark.parametrize(
    ("written", "slip"),
    [
        ("> 0.02", "> 0.2"),
        ('{gpus!="0"}', ""),
        ("unless on (set, command, source) demosift_gates_failed > 0", ""),
    ],
)
def test_a_slip_in_a_rule_is_found(tmp_path: Path, written: str, slip: str) -> None:
    shutil.copytree(PROMETHEUS / "rules", tmp_path / "rules")
    shutil.copytree(PROMETHEUS / "tests", tmp_path / "tests")
    texts = {file: file.read_text(encoding="utf-8") for file in (tmp_path / "rules").iterdir()}
    assert sum(written in text for text in texts.values()) == 1
    for file, text in texts.items():
        file.write_text(text.replace(written, slip), encoding="utf-8")
    assert promtool("test", "rules", tmp_path / "tests" / "alerts.yml").returncode == 1


def test_every_alert_says_what_it_means_and_what_to_do() -> None:
    for rule in ALERTS:
        told = rule["annotations"]
        assert set(told) == {"summary", "description", "command", "runbook_url"}, rule["alert"]
        assert told["runbook_url"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_every_metric_exists() -> None:
    """In the registry of what is pushed, in what RayRunner tells, in the rules, or in Ray."""
    known = {metric.name for metric in PUSHED} | {metric.exported for metric in LIVE} | OF_PROMETHEUS
    known |= {rule["record"] for rule in RULES if "record" in rule} | names_of_ray()
    queries = [query.expr for dashboard in DEFINED for panel in dashboard.panels for query in panel.queries]
    asked = set().union(*(metric_names(expr) for expr in (*queries, *(rule["expr"] for rule in RULES))))
    assert asked - known == set()
    assert {"demosift_episodes", "ray_beam_stage_queued_bytes", "ray_node_gpus_utilization", "up"} <= asked


def test_names_are_read_out_of_an_expression() -> None:
    expr = 'sum by (set, a) (rate(one_total{x="two"}[5m])) / on (set) group_left three:four > 1e9 * 3600 or vector(0)'
    assert metric_names(expr) == {"one_total", "three:four"}


def test_the_dashboards_are_those_of_the_code() -> None:
    assert sorted(path.name for path in DASHBOARDS.iterdir()) == sorted(f"{one.uid}.json" for one in DEFINED)
    for dashboard in DEFINED:
        made = (DASHBOARDS / f"{dashboard.uid}.json").read_text(encoding="utf-8")
        assert made == dashboard_text(dashboard), "run python -m infra.grafana.make_dashboards"
        variables = {name for name, _ in dashboard.variables}
        used = set(re.findall(r"\$(\w+)", made)) - {"__all"}
        assert used == variables, dashboard.uid


def test_grafana_finds_source_and_dashboards() -> None:
    provisioning = ROOT / "infra" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text(encoding="utf-8"))["datasources"]
    assert {"type": source["type"], "uid": source["uid"]} == SOURCE
    for file in DASHBOARDS.iterdir():
        panels = json.loads(file.read_text(encoding="utf-8"))["panels"]
        targets = [target for panel in panels for target in panel["targets"]]
        assert targets and all(one["datasource"] == SOURCE for one in (*panels, *targets))
        assert len({panel["id"] for panel in panels}) == len(panels)


def operator_schema(kind: str) -> dict[str, Any]:
    folder = Path(os.environ.get("CRD_SCHEMAS", ROOT.parent / "shared" / "schemas")) / "prometheus-operator"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: CRD_SCHEMAS names the folder with the Prometheus operator's schemas")
    schema: dict[str, Any] = json.loads((folder / f"{kind}_v1.json").read_text(encoding="utf-8"))
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


RESOURCES = ("podmonitor", "servicemonitor", "prometheusrule")


@pytest.mark.parametrize("kind", RESOURCES)
def test_the_operator_s_resources_meet_their_schemas(kind: str) -> None:
    document = yaml.safe_load((PROMETHEUS / "kubernetes" / f"{kind}.yaml").read_text(encoding="utf-8"))
    schema = operator_schema(kind)
    assert document["kind"].lower() == kind
    assert [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(document)] == []
    document["spec"]["selektor"] = {}
    assert list(jsonschema.Draft202012Validator(schema).iter_errors(document)), "an unknown field is refused"


def test_the_operator_s_rules_are_those_of_the_files() -> None:
    assert make_rule.FILE.read_text(encoding="utf-8") == make_rule.text(), "run python -m infra.prometheus.make_rule"
    listed = yaml.safe_load((PROMETHEUS / "kubernetes/kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    assert sorted(listed) == sorted(f"{kind}.yaml" for kind in RESOURCES)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_pod_monitor_finds_ray_s_nodes_and_their_port(overlay: str) -> None:
    spec = yaml.safe_load((PROMETHEUS / "kubernetes/podmonitor.yaml").read_text(encoding="utf-8"))["spec"]
    (wanted,) = spec["selector"]["matchExpressions"]
    (endpoint,) = spec["podMetricsEndpoints"]
    nodes = [pod for pod in render(overlay).pods() if pod.is_ray_node]
    assert nodes and all(pod.labels[wanted["key"]] in wanted["values"] for pod in nodes)
    for pod in render(overlay).pods():
        ports = [port["name"] for container in pod.containers for port in container.get("ports", [])]
        assert (endpoint["port"] in ports) == pod.is_ray_node, pod.name


def test_the_page_lists_what_the_code_has() -> None:
    page = reference.PAGE.read_text(encoding="utf-8")
    assert page == reference.text(page), "run python -m infra.observe.reference"
    assert all(f"`{name}`" in page for name in [metric.name for metric in PUSHED])
