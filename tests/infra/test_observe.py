"""`make observe`: one real run on a real Ray under a real Prometheus, shared by all that is asked of it here."""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from beam_pipeline.metrics import PUSHED
from beam_pipeline.runner.live_metrics import LIVE
from examples.make_sample import make_sample
from infra.grafana.panel import Panel
from infra.grafana.panels import DASHBOARDS, MACHINES
from infra.observe.charts import draw, legend_text, value_text
from infra.observe.page import ask
from infra.observe.prometheus_api import PrometheusApi, QueryRefused, Series
from infra.observe.servers import HOST, NotStarted, free_port, process, wait_for, watching
from tests.infra.promql import metric_names
from tests.infra.rendered import ROOT
from tests.job import read_ledger
from tests.processes import command_of
from tests.pushgateway import ABSENT

PYTHON = ROOT / ".venv-observe" / "bin" / "python"


@dataclass(frozen=True)
class Observed:
    """What one `python -m infra.observe` left."""

    output: Path
    panels: dict[tuple[str, str], dict[str, Any]]
    names: set[str]


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    if not PYTHON.exists():
        pytest.skip("Ray's agent lacks what it exports metrics with: make .venv-observe/.installed")
    folder = tmp_path_factory.mktemp("observed")
    make_sample(folder / "sample", seed=7, episodes=8)
    words = [str(PYTHON), "-m", "infra.observe", str(folder / "sample"), str(folder / "out")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    if "is not installed" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((folder / "out/found.json").read_text())
    names = set(json.loads((folder / "out/names.json").read_text()))
    return Observed(folder / "out", {(one["dashboard"], one["panel"]): one for one in found}, names)


def test_every_panel_shows_something(observed: Observed) -> None:
    assert len(observed.panels) == sum(len(dashboard.panels) for dashboard in DASHBOARDS)
    silent = [place for place, panel in observed.panels.items() if not panel["series"] and not panel["gpu"]]
    assert silent == []
    # a line is more than a point: what is live was scraped while the run went on
    live = observed.panels["demosift-run", "Live: bundles"]["series"]
    assert [one["name"] for one in live] == ["given out", "done", "running"]
    assert all(one["points"] >= 3 for one in live)


def test_every_name_that_is_asked_for_was_scraped(observed: Observed) -> None:
    """Those of GPUs aside, which a machine without one does not export, and of gates that did not fail."""
    panels = [panel for dashboard in DASHBOARDS for panel in dashboard.panels if not panel.gpu]
    asked = set().union(*(metric_names(query.expr) for panel in panels for query in panel.queries))
    assert asked - observed.names <= {"ALERTS"}, "of which there are none where none has fired"
    assert {metric.exported for metric in LIVE} <= observed.names
    elsewhere = {"demosift_gate_value", "demosift_measured_episodes", "demosift_measured_left"}
    assert {metric.name for metric in PUSHED} - elsewhere <= observed.names


def test_the_panels_show_what_the_ledger_holds(observed: Observed) -> None:
    ledger = read_ledger(observed.output / "sample")
    outcomes = Counter(f"{row['source']}: {row['outcome']}" for row in ledger.values())
    shown = observed.panels["demosift-run", "Outcomes per source"]["series"]
    assert {one["name"]: one["last"] for one in shown} == outcomes
    rules = Counter(row["rule"] for row in ledger.values() if row["outcome"] not in ("kept", "cut"))
    shown = observed.panels["demosift-overview", "Why episodes were not kept"]["series"]
    assert {one["name"]: one["last"] for one in shown} == {rule or "duplicate": n for rule, n in rules.items()}


def test_what_is_live_tells_which_ray_and_which_pipeline(observed: Observed) -> None:
    """By these labels the rules and panels tell clusters and runs apart."""
    exported = (observed.output / "ray_metrics.txt").read_text()
    assert "ray_beam_stage_elements{" in exported
    (row,) = re.findall(r"(?m)^ray_beam_workers\{(.*)\} ", exported)
    assert 'pipeline="' in row and 'SessionName="' in row


def test_the_page_says_it_and_its_picture_is_there(observed: Observed) -> None:
    page = (observed.output / "page.html").read_text()
    titles = [unescape(title) for title in re.findall(r'data-panel="([^"]*)"', page)]
    assert titles == [panel for (_, panel), found in observed.panels.items() if found["series"] or not found["gpu"]]
    assert "no data" not in page and "<script" not in page
    with Image.open(observed.output / "page.png") as picture:
        assert picture.width == 1400 and picture.height > 1000
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 20


def test_nothing_of_it_runs_on(observed: Observed) -> None:
    commands = [command_of(int(entry.name)) for entry in Path("/proc").glob("[0-9]*")]
    assert not [words for words in commands if str(observed.output) in words]


GPU_NODE = """\
# TYPE ray_node_gpus_utilization gauge
ray_node_gpus_utilization{ip="10.0.0.5",GpuIndex="0",GpuDeviceName="NVIDIA L4",SessionName="s"} 71
ray_node_gpus_utilization{ip="10.0.0.5",GpuIndex="1",GpuDeviceName="NVIDIA L4",SessionName="s"} 3
# TYPE ray_node_gram_used gauge
ray_node_gram_used{ip="10.0.0.5",GpuIndex="0",GpuDeviceName="NVIDIA L4",SessionName="s"} 9500
# TYPE ray_node_gram_available gauge
ray_node_gram_available{ip="10.0.0.5",GpuIndex="0",GpuDeviceName="NVIDIA L4",SessionName="s"} 13000
# TYPE ray_beam_stage_queued_bytes gauge
ray_beam_stage_queued_bytes{pipeline="p",stage="Embed",gpus="0.25",SessionName="s"} 5000000
ray_beam_stage_queued_bytes{pipeline="p",stage="Decode",gpus="0",SessionName="s"} 7000000
"""
"""As Ray 2.60's agent names and labels what it exports of a node with two GPUs; written by hand, for want of a GPU."""


class _Exposition(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(GPU_NODE.encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def gpu_node(tmp_path: Path) -> Iterator[PrometheusApi]:
    """A real Prometheus that scrapes a made-up node with GPUs."""
    server = http.server.ThreadingHTTPServer((HOST, 0), _Exposition)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    targets = tmp_path / "ray.json"
    targets.write_text(json.dumps([{"targets": [f"{HOST}:{server.server_port}"]}]))
    try:
        with watching(tmp_path, targets) as watch:
            yield PrometheusApi(watch.prometheus)
    except NotStarted as error:
        if "is not installed" in str(error):
            pytest.skip(str(error))
        raise
    finally:
        server.shutdown()
        server.server_close()


def test_gpu_panels_show_a_made_up_node_with_gpus(gpu_node: PrometheusApi) -> None:
    start_s = time.time()
    while not gpu_node.now("demosift:gpu_queued_bytes"):
        assert time.time() - start_s < 60, "the rule gives nothing"
        time.sleep(0.2)
    found = {
        one.panel.title: {name: series.last for name, series in one.series}
        for one in ask(gpu_node, time.time() - 2, time.time())
        if one.panel.gpu
    }
    assert found == {
        "GPU utilization": {"10.0.0.5 GPU 0": 71, "10.0.0.5 GPU 1": 3},
        "GPU memory": {"10.0.0.5 GPU 0 used": 9500, "10.0.0.5 GPU 0 free": 13000},
        "Input that waits for a GPU": {"s": 5_000_000},
    }
    assert set(found) == {panel.title for panel in MACHINES.panels if panel.gpu}
    with pytest.raises(QueryRefused, match="parse error"):
        gpu_node.now("sum by (")


def test_text_from_outside_is_escaped() -> None:
    evil = '<script>alert("1")</script>'
    series = Series({"stage": evil}, ((0.0, 1.0), (10.0, 3.0)))
    for kind in ("lines", "bars", "stat"):
        panel = Panel(evil, kind, "short", (), evil)  # type: ignore[arg-type]
        drawn = draw(panel, [(legend_text("{{stage}}", series), series)], 0.0, 10.0)
        assert "<script" not in drawn and drawn.count("&lt;script&gt;") >= 3


def test_a_line_is_where_its_values_are() -> None:
    panel = Panel("t", "lines", "bytes", (), "")
    drawn = draw(panel, [("a", Series({}, ((100.0, 0.0), (110.0, 4e6))))], 100.0, 120.0)
    # 246 x 92 px from (46, 8): the axis ends at 5 MB, the time at 20 s
    assert re.findall(r'<polyline points="([^"]*)"', drawn) == ["46.0,100.0 169.0,26.4"]
    assert "5 MB" in drawn and "20 s" in drawn


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.153, "percentunit", "15.3 %"),
        (93_600, "s", "26 h"),
        (2_500_000, "bytes", "2.5 MB"),
        (1234, "short", "1.23 k"),
    ],
)
def test_values_have_units(value: float, unit: str, text: str) -> None:
    assert value_text(value, unit) == text


def test_a_server_that_does_not_start_tells_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        pytest.raises(NotStarted, match="no such flag"),
        process(["sh", "-c", "echo no such flag; exit 1"], log) as started,
    ):
        wait_for(f"http://{HOST}:{free_port()}/", started, log)


def test_what_is_absent_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotStarted, match="apt-get install prometheus prometheus-pushgateway"), watching(tmp_path):
        raise AssertionError(ABSENT)
