"""Alerts: a message to the deployment's webhook, which Slack, Teams and Alertmanager's bridges take, and to the log."""

from __future__ import annotations

import asyncio
import json
import logging
import urllib.request
from collections.abc import Mapping
from typing import Any

from airflow_dags.deployment import deployment_path, load_deployment

_TIMEOUT_S = 20.0
log = logging.getLogger(__name__)


def send(webhook: str | None, text: str) -> None:
    """Log an alert, and post it as JSON `{"text": ...}` where there is a webhook. Raises OSError where that refuses."""
    log.error("%s", text)
    if webhook is None:
        return
    body = json.dumps({"text": text}).encode()
    request = urllib.request.Request(webhook, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S):
        pass


async def deadline_missed(webhook: str | None, minutes: float, context: Mapping[str, Any] | None = None) -> None:
    """A run has not ended in time; called in the triggerer."""
    run = (context or {}).get("dag_run")
    name = run.get("dag_run_id") or run.get("run_id") if isinstance(run, Mapping) else getattr(run, "run_id", "a run")
    text = f"nightly_curation: {name} has not ended within {minutes:g} minutes"
    await asyncio.to_thread(send, webhook, text)


def run_failed(context: Mapping[str, Any]) -> None:
    """A run has failed; nothing of it was published."""
    run = context.get("dag_run")
    name = getattr(run, "run_id", None) or context.get("run_id", "a run")
    send(load_deployment(deployment_path()).alert_webhook, f"nightly_curation: {name} failed, nothing was published")
