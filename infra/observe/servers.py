"""Prometheus, its Pushgateway and Ray as processes of our own on the loopback; all end with the context."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CONFIGURATION = Path(__file__).parents[1] / "prometheus"
HOST = "127.0.0.1"
_STARTS_WITHIN_S = 120.0
_ENDS_WITHIN_S = 4.0
"""Then it is made to: a Ray whose raylet has ended waits for half a minute."""
_OFTEN_S = 1
"""Interval of scrapes and rules here: a run takes seconds."""


class NotStarted(Exception):
    """A server that did not come up."""


@dataclass(frozen=True)
class Watch:
    """Where the two answer: HOST:PORT of the gateway, the address of Prometheus."""

    gateway: str
    prometheus: str


@dataclass(frozen=True)
class RayNode:
    """A Ray of one node: its address, what joins it, and where its metrics are."""

    address: str
    environment: Mapping[str, str]
    targets: Path


def free_port() -> int:
    """A port that nobody has now."""
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
    return port


def pushgateway_command(address: str) -> list[str]:
    """A Pushgateway that begins and ends empty: Debian's keeps what it has in one file of the machine."""
    return ["prometheus-pushgateway", f"--web.listen-address={address}", "--persistence.file="]


@contextlib.contextmanager
def process(
    words: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen]:
    """A process while the context lasts; then its whole group is asked to end, and made to."""
    with log.open("wb") as file:
        started = subprocess.Popen(words, stdout=file, stderr=file, env=environment, start_new_session=True)
    try:
        yield started
    finally:
        for how in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(_ENDS_WITHIN_S)


def wait_for(url: str, started: subprocess.Popen, log: Path) -> None:
    """Wait until a URL answers; raises NotStarted with the log's end."""
    end = time.monotonic() + _STARTS_WITHIN_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError as error:
            if started.poll() is not None or time.monotonic() > end:
                words = log.read_text(encoding="utf-8", errors="replace")[-2000:]
                raise NotStarted(f"{url} does not answer ({error}); {log}: {words}") from error
        time.sleep(0.1)


@contextlib.contextmanager
def watching(folder: Path, ray_targets: Path | None = None) -> Iterator[Watch]:
    """Prometheus with the project's configuration, and a Pushgateway; `folder` must be new.

    `ray_targets`: Ray's own file of what to scrape. Only addresses and intervals differ from infra/prometheus.
    """
    for name in ("prometheus", "prometheus-pushgateway"):
        if shutil.which(name) is None:
            raise NotStarted(f"{name} is not installed; apt-get install prometheus prometheus-pushgateway")
    gateway, port = f"{HOST}:{free_port()}", free_port()
    settings = folder / "prometheus"
    shutil.copytree(CONFIGURATION / "rules", settings / "rules")
    (settings / "targets").mkdir()
    (settings / "targets" / "pushgateway.json").write_text(json.dumps([{"targets": [gateway]}]))
    if ray_targets is not None:
        shutil.copyfile(ray_targets, settings / "targets" / "ray.json")
    own = (CONFIGURATION / "prometheus.yml").read_text(encoding="utf-8")
    (settings / "prometheus.yml").write_text(own.replace("_interval: 15s", f"_interval: {_OFTEN_S}s"))
    address = f"http://{HOST}:{port}"
    with contextlib.ExitStack() as stack:
        log = folder / "pushgateway.log"
        started = stack.enter_context(
            process(pushgateway_command(gateway), log),
        )
        wait_for(f"http://{gateway}/-/ready", started, log)
        log = folder / "prometheus.log"
        words = ["prometheus", f"--config.file={settings / 'prometheus.yml'}", f"--web.listen-address={HOST}:{port}"]
        started = stack.enter_context(process([*words, f"--storage.tsdb.path={folder / 'data'}"], log))
        wait_for(f"{address}/-/ready", started, log)
        yield Watch(gateway, address)


@contextlib.contextmanager
def ray_node(folder: Path) -> Iterator[RayNode]:
    """A Ray of one node that exports its metrics. It binds every interface, and so asks for a token."""
    # Ray's sockets have paths of at most 107 bytes
    short = Path(tempfile.mkdtemp(prefix="ob", dir="/tmp"))
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32), encoding="ascii")
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_metrics_report_interval_ms": "1000",
    }
    port, metrics = free_port(), free_port()
    log = folder / "ray.log"
    words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}"]
    words += [f"--node-ip-address={HOST}", f"--metrics-export-port={metrics}", f"--temp-dir={short}"]
    words += ["--object-store-memory=200000000", "--include-dashboard=true", f"--dashboard-host={HOST}"]
    words += [f"--dashboard-port={free_port()}"]
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, short, ignore_errors=True)
        # Ray gives its raylet 30 s, which a busy machine can exceed, and then ends
        for again in (True, True, False):
            with contextlib.ExitStack() as attempt:
                started = attempt.enter_context(process(words, log, environment))
                try:
                    wait_for(f"http://{HOST}:{metrics}/metrics", started, log)
                except NotStarted:
                    if again:
                        continue
                    raise
                stack.enter_context(attempt.pop_all())
                break
        yield RayNode(f"{HOST}:{port}", environment, _targets(short, metrics, started, log))


def _targets(short: Path, port: int, started: subprocess.Popen, log: Path) -> Path:
    file = short / "prom_metrics_service_discovery.json"
    end = time.monotonic() + _STARTS_WITHIN_S
    while not (file.exists() and f"{HOST}:{port}" in file.read_text(encoding="utf-8")):
        if started.poll() is not None or time.monotonic() > end:
            raise NotStarted(f"Ray did not write this node into {file}; {log} says why")
        time.sleep(0.1)
    return file
