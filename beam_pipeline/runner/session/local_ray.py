"""A Ray of our own on this machine: one node on the loopback, with token, without dashboard, monitor or log tailing.

`ray.init` starts its helper processes one after the other and binds the machine's outer address even where it is given
127.0.0.1; the steps below are its own for a new local cluster, less what a batch job does not use.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray._private import node as ray_node
from ray._private import parameter, services
from ray._private import worker as ray_worker
from ray._raylet import (  # type: ignore[attr-defined]
    DASHBOARD_AGENT_LISTEN_PORT_NAME,
    METRICS_AGENT_PORT_NAME,
    METRICS_EXPORT_PORT_NAME,
    persist_port,
)
from ray.job_config import JobConfig

from beam_pipeline.runner.session import agent_stand_in
from beam_pipeline.runner.session.environment import environment
from beam_pipeline.runner.session.session_folder import SessionFolder
from beam_pipeline.runner.session.worker_launcher import SETUP, WORKER
from beam_pipeline.runner.session.zygote import LAUNCHER_FLAGS, take_zygote

RAY_VERSION = "2.60.0"
_LOOPBACK = "127.0.0.1"
_START_LIMIT_S = 30.0
_NO_SERVICE = -1
# Ray's processes try once a second to reach one that is just starting; for the same 10 s in all
_SOON_AGAIN = {
    "RAY_raylet_client_connect_timeout_milliseconds": "10",
    "RAY_raylet_client_num_connect_attempts": "1000",
    "RAY_agent_manager_retry_interval_ms": "100",
}
# by which the agents' stand-ins know that the raylet is gone
_PIPE = {"RAY_enable_pipe_based_agent_to_parent_health_check": "1"}
_POLL_S = 0.01
# a Unix socket's path has at most 107 bytes, of which Ray's session, our folder and the socket names take 78
_PARENT_LIMIT = 29
_SHORT_TEMP = Path("/tmp")
_WORKERS = Path(ray_node.__file__).parent / "workers"


class _LocalNode(ray_node.Node):
    def start_head_processes(self) -> None:
        # from here on ray.shutdown, which Ray also calls at exit, ends whatever was started
        ray_worker._global_node = self
        super().start_head_processes()

    def start_api_server(self, *, include_dashboard: bool | None, raise_on_failure: bool) -> None:
        """No dashboard: its server takes most of a second to start, and serves nobody here."""

    def start_ray_processes(self) -> None:
        # of the dashboard's agent, which the raylet would wait for
        for name in (METRICS_AGENT_PORT_NAME, METRICS_EXPORT_PORT_NAME, DASHBOARD_AGENT_LISTEN_PORT_NAME):
            persist_port(self._session_dir, self._node_id, name, _NO_SERVICE)
        with _agents_that_wait(self._ray_params.runtime_env_agent_port):
            super().start_ray_processes()
        # Ray looks for the node once a second; it is there sooner
        ours = ray.NodeID.from_hex(self._node_id)
        end = time.monotonic() + _START_LIMIT_S
        while ours not in self.get_gcs_client().get_all_node_info(timeout=_START_LIMIT_S):
            raylet = self.all_processes["raylet"][0].process
            if raylet.poll() is not None:
                raise RuntimeError(
                    f"Ray's raylet ended with exit code {raylet.returncode} while it started; "
                    f"the ports, memory or rights that it lacks: {_last_words(Path(self.get_logs_dir_path()))}"
                )
            if time.monotonic() > end:
                raise TimeoutError(
                    f"Ray did not start on this machine within {_START_LIMIT_S:g} s; free memory and CPU, "
                    "or join a cluster (--ray_address)"
                )
            time.sleep(_POLL_S)


@contextlib.contextmanager
def _agents_that_wait(runtime_env_port: int) -> Iterator[None]:
    """Have a raylet that is started within start stand-ins of its agents, which take a second of CPU to start."""
    start = services.start_ray_process

    def start_with_stand_ins(command: list[str], *arguments: Any, **options: Any) -> Any:
        ports = {"--dashboard_agent_command": 0, "--runtime_env_agent_command": runtime_env_port}
        command = [_stand_in(option, ports) for option in command]
        return start(command, *arguments, **options)

    services.start_ray_process = start_with_stand_ins
    try:
        yield
    finally:
        services.start_ray_process = start


class _Soon:
    """The module `time` with short sleeps, for loops that look whether something has started."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, _POLL_S))


@contextlib.contextmanager
def _polled_soon() -> Iterator[None]:
    """Have Ray's Node look sooner for what it waits for; its waits end by the time that passed."""
    ray_node.time = _Soon()
    try:
        yield
    finally:
        ray_node.time = time


def _stand_in(option: str, ports: Mapping[str, int]) -> str:
    name, _, value = option.partition("=")
    if name not in ports:
        return option
    stand_in = [sys.executable, LAUNCHER_FLAGS, agent_stand_in.__file__, str(ports[name])]
    return f"{name}={subprocess.list2cmdline(stand_in)} {value}"


def _free_port() -> int:
    with socket.create_server((_LOOPBACK, 0)) as server:
        port: int = server.getsockname()[1]
    return port


class LocalRay:
    """A Ray node that lives until `close`, or as long as the thread that made it: the kernel ends its processes then.

    `object_store_bytes` None leaves the size to Ray; `spill_dir` gets a folder of this node that `close` removes.
    """

    def __init__(self, num_cpus: int, object_store_bytes: int | None, spill_dir: Path) -> None:
        check_ray_version()
        with contextlib.ExitStack() as undo:
            folder = SessionFolder(_temp_parent())
            undo.callback(folder.remove)
            spill_folder = SessionFolder(spill_dir)
            undo.callback(spill_folder.remove)
            undo.enter_context(environment(_session_variables(folder.path)))
            zygote = take_zygote()
            if zygote:
                undo.callback(zygote.close)
            undo.callback(ray.shutdown, wait_for_processes=True)
            launcher = zygote and zygote.serve(folder.path / "workers", _WORKERS / WORKER, _WORKERS / SETUP)
            with _polled_soon():
                node = _LocalNode(
                    parameter.RayParams(
                        node_ip_address=_LOOPBACK,
                        num_cpus=num_cpus,
                        object_store_memory=object_store_bytes,
                        object_spilling_directory=str(spill_folder.path),
                        temp_dir=str(folder.path),
                        no_monitor=True,
                        include_log_monitor=False,
                        include_dashboard=False,
                        runtime_env_agent_port=_free_port(),
                        # Ray starts workers by `python SETUP_WORKER_PATH WORKER_PATH ...`
                        setup_worker_path=LAUNCHER_FLAGS if launcher else None,
                        worker_path=str(launcher) if launcher else None,
                    ),
                    head=True,
                    shutdown_at_exit=False,
                    spawn_reaper=True,
                    ray_init_cluster=True,
                )
            ray_worker.connect(
                node,
                node.session_name,
                mode=ray_worker.SCRIPT_MODE,
                worker=ray_worker.global_worker,
                log_to_driver=False,
                job_config=JobConfig(),
            )
            ray_worker.global_worker.set_load_code_from_local(False)
            self._undo = undo.pop_all()

    def close(self) -> None:
        """End every process of the node, remove its folders and put the environment back."""
        self._undo.close()


def check_ray_version() -> None:
    """Raise RuntimeError for another Ray than the one whose private parts are used here."""
    if ray.__version__ != RAY_VERSION:
        raise RuntimeError(
            f"Ray {ray.__version__} is installed but a local cluster is started as Ray {RAY_VERSION} does it; "
            f"install ray=={RAY_VERSION} or start Ray yourself (`ray start --head`) and give --ray_address=auto"
        )


def _session_variables(folder: Path) -> dict[str, str]:
    """What makes Ray ask for a token, in a file that only this user reads unless the user set one, and keep quiet."""
    variables = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", **_SOON_AGAIN, **_PIPE}
    if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        path = folder / "token"
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32), encoding="ascii")
        variables["RAY_AUTH_TOKEN_PATH"] = str(path)
    return variables


def _temp_parent() -> Path:
    given = Path(tempfile.gettempdir())
    return given if len(os.fsencode(given)) <= _PARENT_LIMIT else _SHORT_TEMP


def _last_words(logs: Path) -> str:
    lines = [
        line
        for path in sorted(logs.glob("raylet*"))
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
    ]
    return lines[-1] if lines else f"nothing was logged in {logs}"
