"""The same bytes on every runner, and what a runner cannot do told before it starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipeline.__main__ import main
from beam_pipeline.preflight import check_runner
from examples.make_sample import make_sample
from tests.job import REAL_DATA, digests

EMBEDDED = ("--runner=PortableRunner", "--job_endpoint=embed")
WORKER = Path(sys.executable).with_name("demosift-worker")
RUNNERS = {
    "ray-1": ("--runner=RayRunner", "--ray_workers_max=1", "--labels=airflow-version=v2-10-0"),
    # as many workers from the start, and a bundle for every few recordings, or few of them would find work
    "ray-4": ("--runner=RayRunner", "--ray_workers_max=4", "--ray_workers_min=4", "--ray_bundle_mb=0.0005"),
    "bundle-based": ("--runner=BundleBasedDirectRunner",),
    "loopback": (*EMBEDDED, "--environment_type=LOOPBACK"),
    "process": (*EMBEDDED, "--environment_type=PROCESS", f'--environment_config={{"command": "{WORKER}"}}'),
}
OF_THE_RUN = {"started", "ended", "wall_s", "runner"}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configuration of the sample as shipped."""
    folder = tmp_path_factory.mktemp("sample") / "in"
    make_sample(folder, 7)
    return folder / "sample.yaml"


@pytest.fixture(scope="module")
def curated_sample(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of the sample on FnApiRunner."""
    output = tmp_path_factory.mktemp("curated") / "out"
    assert main(["--config", str(sample), "--output", str(output)]) == 0
    return output


def told(output: Path) -> dict[str, Any]:
    """The manifest and the summary without what differs between any two runs."""
    summary = json.loads((output / "run_summary.json").read_text())
    assert set(summary) > OF_THE_RUN
    return {
        "manifest": json.loads((output / "_manifest.json").read_text()),
        **{name: value for name, value in summary.items() if name not in OF_THE_RUN},
    }


def check_equal(config: Path, output: Path, expected: Path, flags: tuple[str, ...]) -> None:
    assert main(["--config", str(config), "--output", str(output), *flags]) == 0
    assert digests(output) == digests(expected)
    assert told(output) == told(expected)
    assert {path.split("/")[0] for path in digests(output)} >= {"episodes", "transitions", "ledger", "evidence"}


@pytest.mark.parametrize("runner", list(RUNNERS))
def test_sample(sample: Path, curated_sample: Path, tmp_path: Path, runner: str) -> None:
    check_equal(sample, tmp_path / "out", curated_sample, RUNNERS[runner])


@pytest.mark.parametrize("runner", ["ray-4", "bundle-based", "loopback", "process"])
def test_real_data(curated_recordings: Path, tmp_path: Path, runner: str) -> None:
    check_equal(REAL_DATA, tmp_path / "out", curated_recordings, RUNNERS[runner])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--runner=PortableRunner",), "it has no job service; give --job_endpoint=HOST:PORT, or embed"),
        (EMBEDDED, "DOCKER, the default, do not share the output folder; use --environment_type=LOOPBACK"),
        (
            ("--runner=PortableRunner", "--job_endpoint=10.0.0.1:8099"),
            "Beam's own container image, the default of --environment_type=DOCKER, does not hold this project",
        ),
        ((*EMBEDDED, "--environment_type=PROCES"), "there is no --environment_type=PROCES; known: LOOPBACK, PROCESS"),
        ((*EMBEDDED, "--environment_type=PROCESS"), "names no command that starts a worker; give"),
        (
            (*EMBEDDED, "--environment_type=PROCESS", "--environment_config=demosift-worker"),
            "--environment_config=demosift-worker is no JSON object; give",
        ),
        (
            (*EMBEDDED, "--environment_type=PROCESS", '--environment_config={"command": "/no/such/worker"}'),
            "the worker command /no/such/worker is no program of this machine",
        ),
        ((*EMBEDDED, "--environment_type=EXTERNAL"), "names no worker pool; give --environment_config=HOST:PORT"),
        (
            ("--runner=BundleBasedDirectRunner", "--direct_num_workers=2"),
            "it has no worker processes, only threads of the launcher; leave out --direct_num_workers",
        ),
        (("--runner=DataflowRunner",), "machines of Google Cloud, which do not share the output folder"),
        (
            ("--runner=RayRunner", "--ray_workers_max=0"),
            "--ray_workers_max=0 must be at least 1; give it one worker or more",
        ),
        (
            ("--runner=RayRunner", "--ray_workers_min=3", "--ray_workers_max=2"),
            "--ray_workers_min=3 exceeds --ray_workers_max=2; lower the minimum or raise the maximum",
        ),
    ],
)
def test_what_a_runner_cannot_do_is_told_before_it_starts(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    status = main(["--config", str(sample), "--output", str(tmp_path / "out"), *flags])
    shown = capsys.readouterr().err
    assert status == 2 and message in shown, shown
    name = flags[0].removeprefix("--runner=")
    assert shown.startswith(f"error: {name} cannot run this: ")
    assert not (tmp_path / "out").exists(), "work began"


@pytest.mark.parametrize(
    "environment",
    [
        ("--environment_type=PROCESS", "--environment_option=process_command=/opt/elsewhere/demosift-worker"),
        ("--environment_type=DOCKER", "--environment_config=registry.example/demosift"),
        ("--environment_type=EXTERNAL", "--environment_config=pool:50000"),
        ("--environment_type=LOOPBACK",),
    ],
)
def test_what_another_machine_has_is_not_judged_here(environment: tuple[str, ...]) -> None:
    options = PipelineOptions(["--runner=PortableRunner", "--job_endpoint=10.0.0.1:8099", *environment])
    check_runner("PortableRunner", options)


def test_without_ray_all_but_its_runner_work(sample: Path, tmp_path: Path) -> None:
    program = f"""
import subprocess
import sys
sys.modules["ray"] = None
from beam_pipeline.__main__ import main
from beam_pipeline.preflight import check_runner
sys.exit(main(["--config", {str(sample)!r}, "--output", {str(tmp_path / "out")!r}, "--runner", sys.argv[1]]))
"""
    ran = subprocess.run([sys.executable, "-c", program, "RayRunner"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2 and "error: RayRunner needs Ray, which is not installed; pip install" in ran.stderr
    ran = subprocess.run([sys.executable, "-c", program, "DirectRunner"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
