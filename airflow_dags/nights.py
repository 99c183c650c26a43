"""Which night a run is of, and the deployment as that run sees it."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from airflow_dags.deployment import Deployment, deployment_path, load_deployment, of_night


def night_of(context: Any, deployment: Deployment) -> date:
    """The night of a run: its parameter `night`, else the day on which its data interval begins, by local time.

    A run that was triggered without a logical date takes the day before it was triggered.
    """
    given = context["params"].get("night")
    if given:
        return date.fromisoformat(given)
    start = context.get("data_interval_start")
    if start is None:
        start = context["dag_run"].run_after - timedelta(days=1)
    return date.fromisoformat(start.astimezone(ZoneInfo(deployment.timezone)).date().isoformat())


def deployment_of(context: Any) -> Deployment:
    """The deployment of a run, its night filled in. Raises DeploymentError."""
    deployment = load_deployment(deployment_path())
    return of_night(deployment, night_of(context, deployment))
