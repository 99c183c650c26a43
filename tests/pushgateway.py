"""A real Pushgateway on the loopback, and what it holds, as a scrape would see it."""

from __future__ import annotations

import contextlib
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.observe.servers import HOST, free_port, process, pushgateway_command, wait_for

ABSENT = "Prometheus is not installed: apt-get install prometheus prometheus-pushgateway"
Held = dict[tuple[str, frozenset[tuple[str, str]]], float]
"""Value by name and labels."""


@contextlib.contextmanager
def pushgateway(folder: Path) -> Iterator[str]:
    """Its HOST:PORT; the test is skipped where there is none."""
    if shutil.which("prometheus-pushgateway") is None:
        pytest.skip(ABSENT)
    address, log = f"{HOST}:{free_port()}", folder / "pushgateway.log"
    with process(pushgateway_command(address), log) as started:
        wait_for(f"http://{address}/-/ready", started, log)
        yield address


def held(address: str) -> Held:
    """Our metrics, without the label `instance` that it adds empty."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        (sample.name, frozenset((k, v) for k, v in sample.labels.items() if k != "instance")): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("demosift_")
    }


def value(found: Held, name: str, **labels: str) -> float | None:
    """One value, None where there is none."""
    return found.get((name, frozenset({"job": "demosift", **labels}.items())))
