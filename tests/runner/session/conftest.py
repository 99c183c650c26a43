"""A Ray cluster on the loopback whose Python has Beam and Ray but not this project, and a user's project to ship."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from ray._private import ray_constants

from beam_pipeline.runner.session.environment import reread

ROOT = Path(__file__).parents[3]
# the node's own process may import the project to start Ray; what it starts does not inherit that
_NODE = """
import contextlib
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from beam_pipeline.runner.session import local_ray
# its workers would have what it has imported; and Ray client's server does not wait for an agent that starts when asked
local_ray.take_zygote = lambda: None
local_ray._agents_that_wait = contextlib.nullcontext
if sys.argv[3] == "open":
    local_ray._session_variables = lambda folder: {"RAY_AUTH_MODE": "disabled"}
import ray
node = local_ray.LocalRay(2, 100_000_000, Path(sys.argv[2]))
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
node.close()
"""
_TOKEN = "0123456789abcdef" * 3


@dataclass(frozen=True)
class Cluster:
    address: str
    token: Path
    python: Path


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the packages of this one, less those that are installed as editable."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    bare = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    Path(bare.stdout.strip(), "outer.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    found = subprocess.run([python, "-c", "import beam_pipeline"], cwd=folder, capture_output=True, text=True)
    assert "No module named 'beam_pipeline'" in found.stderr
    return python


@pytest.fixture(scope="session")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("token") / "token"
    path.write_text(_TOKEN, encoding="ascii")
    return path


@pytest.fixture(scope="session")
def cluster(bare_python: Path, token: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that asks for the token."""
    yield from _cluster(bare_python, token, tmp_path_factory.mktemp("spill"), "token")


@pytest.fixture
def client_address(cluster: Cluster, tmp_path: Path) -> Iterator[str]:
    """Ray client's server of the cluster, which lacks the project too."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [
            *(cluster.python, "-m", "ray.util.client.server", "--mode", "proxy"),
            *("--address", cluster.address, "--host", "127.0.0.1", "--port", str(port)),
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(cluster.token),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "120",  # on a busy machine its process takes longer than 30
            # it forks while it serves, which crashes or hangs now and then in handlers that gRPC runs in the fork
            "GRPC_ENABLE_FORK_SUPPORT": "0",
        },
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=60)
        yield f"ray://127.0.0.1:{port}"
    finally:
        # its servers, one a client, are processes of their own
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


@pytest.fixture
def open_cluster(bare_python: Path, token: Path, tmp_path: Path) -> Iterator[Cluster]:
    """A cluster that takes anybody."""
    yield from _cluster(bare_python, token, tmp_path, "open")


def _cluster(python: Path, token: Path, spill: Path, mode: str) -> Iterator[Cluster]:
    node = subprocess.Popen(
        [python, "-c", _NODE, str(ROOT), str(spill), mode],
        cwd=spill,
        env={**os.environ, "RAY_AUTH_TOKEN_PATH": str(token)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert node.stdin and node.stdout
    try:
        address = node.stdout.readline().strip()
        assert address.startswith("127.0.0.1:"), "the node did not start"
        yield Cluster(address, token, python)
    finally:
        node.stdin.close()
        node.wait(30)
        node.stdout.close()


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """As if the cluster were on other machines: Ray adds the driver's working folder to its workers' path."""
    assert not Path(sys.argv[0]).is_relative_to(ROOT / "beam_pipeline")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(elsewhere)
        # Ray writes the loopback as the machine's outer address, unless it may not make clusters of machines
        patch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)
        # where Ray looks for a token besides
        patch.setenv("HOME", str(elsewhere))
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
            patch.delenv(name, raising=False)
        yield patch
    # a Ray that was started by hand before has left its mode in the environment, which is there again now
    reread()


@pytest.fixture
def with_token(remote: pytest.MonkeyPatch, token: Path) -> None:
    remote.setenv("RAY_AUTH_TOKEN_PATH", str(token))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The folder of a user's project: a package, a module and a requirement."""
    return make_project(tmp_path / "project")


def make_project(folder: Path, factor: int = 3, requires: str = "numpy>=1") -> Path:
    (folder / "robot_steps").mkdir(parents=True)
    (folder / "robot_steps" / "__init__.py").write_text(f"def scale(x):\n    return {factor} * x\n", encoding="utf-8")
    (folder / "robot_units.py").write_text("DEGREES = 360\n", encoding="utf-8")
    (folder / "setup.py").write_text(
        "from setuptools import find_packages, setup\n"
        "setup(name='robot-steps', version='1.0', packages=find_packages(), py_modules=['robot_units'],\n"
        f"      install_requires=[{requires!r}])\n",
        encoding="utf-8",
    )
    return folder
