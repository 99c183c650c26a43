"""Alerts arrive at a real HTTP server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace

import pytest

from tests.airflow.conftest import ABSENT
from tests.airflow.test_deployment import GOOD, write

pytest.importorskip("airflow", reason=ABSENT)

from pathlib import Path

from airflow_dags.alerts import deadline_missed, run_failed


@pytest.fixture
def received(serve: Callable[..., str]) -> tuple[str, list[str]]:
    """The address of a webhook, and the texts that it was sent."""
    texts: list[str] = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            texts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    return serve(Webhook), texts


def test_a_missed_deadline(received: tuple[str, list[str]]) -> None:
    address, texts = received
    asyncio.run(deadline_missed(address, 90.0, {"dag_run": {"dag_run_id": "scheduled__1"}}))
    assert texts == ["nightly_curation: scheduled__1 has not ended within 90 minutes"]


def test_a_failed_run(received: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, texts = received
    path = write(tmp_path, GOOD + f"alert_webhook: {address}\n")
    monkeypatch.setenv("DEMOSIFT_DEPLOYMENT", str(path))
    run_failed({"dag_run": SimpleNamespace(run_id="manual__2")})
    assert texts == ["nightly_curation: manual__2 failed, nothing was published"]


def test_without_a_webhook_the_log_has_it(caplog: pytest.LogCaptureFixture) -> None:
    asyncio.run(deadline_missed(None, 90.0))
    assert "has not ended within 90 minutes" in caplog.text
