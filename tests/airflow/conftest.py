from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PIPELINE_PYTHON = Path(os.environ.get("DEMOSIFT_PYTHON", ROOT / ".venv/bin/python"))
"""An interpreter that has the pipeline, which Airflow's has not."""
ABSENT = "Airflow is absent here: make test-airflow runs this in .venv-airflow"
SOURCES = ("sample_rlds", "sample_isaac", "sample_lerobot")

if find_spec("airflow"):  # elsewhere all is skipped, and other tests' environment is left alone
    # Airflow reads its settings when it is imported, which test modules do after this
    os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-home-")
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    os.environ["PYTHONPATH"] = str(ROOT)


@dataclass(frozen=True)
class Deployed:
    """A folder with a deployment file, the configuration that it names, and an Airflow of its own."""

    folder: Path
    environment: dict[str, str]

    @property
    def output(self) -> Path:
        return self.folder / "set"

    def jobs(self) -> list[str]:
        """Names of all jobs that were ever submitted."""
        return sorted(path.name for path in (self.folder / "jobs").iterdir())

    def manifests(self) -> list[str]:
        return sorted(path.name for path in (self.output / "_manifests").glob("*.json"))

    def command(self, date: str, **params: object) -> list[str]:
        airflow = str(Path(sys.executable).with_name("airflow"))
        conf = ["--conf", json.dumps(params)] if params else []
        return [airflow, "dags", "test", "nightly_curation", date, *conf]

    def run(self, date: str, **params: object) -> subprocess.CompletedProcess[str]:
        """`airflow dags test nightly_curation DATE`; both outputs in `stdout`."""
        return subprocess.run(
            self.command(date, **params),
            env=self.environment,
            cwd=self.folder,
            text=True,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated sample."""
    if not PIPELINE_PYTHON.exists():
        pytest.skip(f"{PIPELINE_PYTHON} is absent: make test-airflow sets it up, and DEMOSIFT_PYTHON names another")
    folder = tmp_path_factory.mktemp("recordings") / "sample"
    subprocess.run([PIPELINE_PYTHON, "-m", "examples.make_sample", folder, "--seed", "7"], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="session")
def migrated_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AIRFLOW_HOME with an empty database, to be copied."""
    home = tmp_path_factory.mktemp("airflow") / "home"
    airflow = Path(sys.executable).with_name("airflow")
    done = subprocess.run(
        [airflow, "db", "migrate"], env={**os.environ, "AIRFLOW_HOME": str(home)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return home


@pytest.fixture(scope="session")
def deploy(sample: Path, migrated_home: Path) -> Callable[..., Deployed]:
    """Writes a deployment of the sample into a folder, by default as local processes."""

    def write(folder: Path, **changes: object) -> Deployed:
        home = folder / "home"
        shutil.copytree(migrated_home, home)
        (home / "airflow.cfg").unlink(missing_ok=True)
        config = (sample / "sample.yaml").read_text()
        config = config.replace("path: ", f"path: {sample}/").replace("urdf: ", f"urdf: {sample}/")
        (folder / "config.yaml").write_text(config)
        (folder / "deployment.yaml").write_text(yaml.safe_dump({**deployment_of(sample), **changes}))
        return Deployed(folder, environment_of(folder))

    return write


def deployment_of(sample: Path) -> dict[str, object]:
    places = {"sample_rlds": "rlds", "sample_isaac": "isaac/*.hdf5", "sample_lerobot": "lerobot"}
    return {
        "config": "config.yaml",
        "output": "set",
        "sources": [{"name": name, "watch": str(sample / places[name])} for name in SOURCES],
        "cluster": {
            "kind": "local",
            "python": str(PIPELINE_PYTHON),
            "jobs": "jobs",
            "working_directory": str(ROOT),
        },
        "start": "2026-11-01",
        "schedule": "0 2 * * *",
        "wait_minutes": 0,
        "settle_seconds": 0,
        "poll_seconds": 0.5,
        "retry_minutes": 0,
    }


def environment_of(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "AIRFLOW_HOME": str(folder / "home"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "airflow_dags" / "dags"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'home' / 'airflow.db'}",
        "DEMOSIFT_DEPLOYMENT": str(folder / "deployment.yaml"),
        "COLUMNS": "500",
    }


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Starts an HTTP server of a handler class on loopback; its address."""
    servers = []

    def start(handler: type) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
