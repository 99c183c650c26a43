"""Beam's own local job service with worker processes: they work, get their environment, end with their pipeline."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineState

from beam_pipeline.runner import resolve_runner

WORKER = Path(sys.executable).with_name("demosift-worker")
ROOT = Path(__file__).parents[3]


@pytest.fixture()
def quiet() -> Iterator[None]:
    """Beam logs the traceback of what a test provokes."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def portable(command: object, *flags: str, **environment: str) -> beam.Pipeline:
    # the workers find this module, in which the DoFn is
    config = json.dumps({"command": str(command), "env": {"PYTHONPATH": str(ROOT), **environment}})
    options = PipelineOptions(
        ["--job_endpoint=embed", "--environment_type=PROCESS", f"--environment_config={config}", *flags]
    )
    return beam.Pipeline(runner=resolve_runner("PortableRunner"), options=options)


class Tell(beam.DoFn):
    """Appends the process it runs in to a file, with the variable that the environment sets there."""

    def __init__(self, path: str) -> None:
        self._path = path

    def process(self, element: int) -> None:
        with Path(self._path).open("a") as file:
            file.write(f"{os.getpid()} {os.environ.get('GREETING')} {element}\n")


def test_worker_processes_do_the_work_and_end_with_it(tmp_path: Path) -> None:
    path = tmp_path / "told"
    pipeline = portable(WORKER, "--direct_num_workers=2", GREETING="hello")
    _ = pipeline | beam.Create(range(20)) | beam.Reshuffle() | beam.ParDo(Tell(str(path)))
    result = pipeline.run()
    result.wait_until_finish()
    assert result.state == PipelineState.DONE
    lines = [line.split() for line in path.read_text().splitlines()]
    assert sorted(int(element) for _, _, element in lines) == list(range(20))
    assert {greeting for _, greeting, _ in lines} == {"hello"}
    workers = {int(pid) for pid, _, _ in lines}
    assert os.getpid() not in workers
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_a_worker_that_ends_early_fails_the_pipeline(quiet: None) -> None:
    pipeline = portable("/bin/sh -c 'exit 7' worker")
    _ = pipeline | beam.Create([1]) | beam.Map(str)
    with pytest.raises(RuntimeError, match=r"ended with status 7 before its pipeline; what it wrote to standard error"):
        pipeline.run().wait_until_finish()


def test_a_command_that_is_absent_fails_the_pipeline(quiet: None) -> None:
    pipeline = portable("/no/such/worker")
    _ = pipeline | beam.Create([1]) | beam.Map(str)
    with pytest.raises(RuntimeError, match="No such file or directory: '/no/such/worker'"):
        pipeline.run().wait_until_finish()


def test_what_it_would_have_to_install_is_refused(
    tmp_path: Path, quiet: None, capfd: pytest.CaptureFixture[str]
) -> None:
    wheel = tmp_path / "extra-1.0.tar.gz"
    wheel.write_bytes(b"")
    pipeline = portable(WORKER, f"--extra_package={wheel}")
    _ = pipeline | beam.Create([1]) | beam.Map(str)
    with pytest.raises(RuntimeError, match="ended with status 2"):
        pipeline.run().wait_until_finish()
    shown = capfd.readouterr().err
    assert "demosift-worker: the job stages extra-1.0.tar.gz, extra_packages.txt, which this worker does not" in shown
    assert "leave --setup_file, --requirements_file, --extra_package and --save_main_session out" in shown
