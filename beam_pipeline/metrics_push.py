"""A run's totals to a Prometheus Pushgateway, once, when the run has ended; the run is the same whether that works."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rich.console import Console

from beam_pipeline.commands.command import FAILED, UsageError, print_plain
from beam_pipeline.gates import GateFailure
from beam_pipeline.metrics import JOB, PUSHED, Sample, ended
from beam_pipeline.options import CurationOptions

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

PUSH_VARIABLE = "DEMOSIFT_PUSH_GATEWAY"
PUSH_FLAGS = ("--push_gateway", "--push_set")
PUSH_USAGE = (
    "  --push_gateway  HOST:PORT of a Prometheus Pushgateway, told at the end how the run went; also by the variable\n"
    "             DEMOSIFT_PUSH_GATEWAY\n"
    "  --push_set  name under which it is told (default: the output folder's)\n"
)
_ANSWER_S = 10.0


class RunReport:
    """Tells a Pushgateway how one run ended; without an address it tells nobody.

    Every group has the labels job, set and command, and source where one source was measured alone. A success
    replaces its group; a failure only what it tells itself, so that the last success stays. What is raised within the
    context before either is told counts as a failure.
    """

    def __init__(self, address: str | None, group: dict[str, str], errors: Console) -> None:
        self._address, self._group, self._errors = address, group, errors
        self._began = time.monotonic()
        self._told = False

    def __enter__(self) -> RunReport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not self._told:
            self.failed(FAILED)

    def succeeded(self, samples: Iterable[Sample]) -> None:
        """The run ended well, with these totals."""
        self._push(0, samples)

    def failed(self, status: int, samples: Iterable[Sample] = (), gates: Sequence[GateFailure] = ()) -> int:
        """The run failed, by gates or otherwise; `samples`: what is known all the same. Returns the status."""
        self._push(status, samples, gates)
        return status

    def _push(self, status: int, samples: Iterable[Sample], gates: Sequence[GateFailure] = ()) -> None:
        self._told = True
        if self._address is None:
            return
        from prometheus_client import push_to_gateway, pushadd_to_gateway

        told = [*ended(status, time.time(), time.monotonic() - self._began, gates), *samples]
        push = pushadd_to_gateway if status else push_to_gateway
        try:
            push(self._address, JOB, _registry(told), self._group, timeout=_ANSWER_S)
        except (OSError, HTTPException) as error:
            print_plain(
                self._errors,
                f"warning: the run's metrics did not reach the Pushgateway at {self._address} ({error}); see that it "
                "answers there, or give --push_gateway another HOST:PORT. The run itself is not touched by this",
            )


def run_report(own: CurationOptions, command: str, errors: Console) -> RunReport:
    """The report of a command's run, by --push_gateway or the variable DEMOSIFT_PUSH_GATEWAY.

    Raises UsageError for what is no address, and where the client's library is absent.
    """
    address = own.push_gateway or os.environ.get(PUSH_VARIABLE) or None
    if address is not None:
        _check(address)
    folder = Path(own.output).name if own.output else Path(own.config or "").stem
    group = {"set": own.push_set or folder or "unnamed", "command": command}
    if own.source:
        group["source"] = own.source
    return RunReport(address, group, errors)


def _check(address: str) -> None:
    given = urlsplit(address if "://" in address else f"http://{address}")
    try:
        port = given.port
    except ValueError:
        port = None
    if given.scheme not in ("http", "https") or not given.hostname or (port is None and "://" not in address):
        raise UsageError(f"--push_gateway {address} is no address; give HOST:PORT or an http:// or https:// URL")
    try:
        import prometheus_client as prometheus_client
    except ModuleNotFoundError as error:
        raise UsageError("--push_gateway needs prometheus_client; pip install 'demosift[metrics]'") from error


def _registry(samples: Iterable[Sample]) -> CollectorRegistry:
    from prometheus_client import CollectorRegistry, Gauge

    registry = CollectorRegistry()
    gauges: dict[str, Gauge] = {}
    for sample in samples:
        metric = sample.metric
        if metric not in PUSHED:
            raise ValueError(f"{metric.name} is not in the registry of beam_pipeline.metrics")
        gauge = gauges.get(metric.name)
        if gauge is None:
            gauge = gauges[metric.name] = Gauge(metric.name, metric.help, metric.labels, registry=registry)
        (gauge.labels(*sample.labels) if metric.labels else gauge).set(sample.value)
    return registry
