"""Waits for new recordings without a worker: the triggerer lists what lies there until something is new and settled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowSkipException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_dags.deployment import Deployment, deployment_path, load_deployment, of_night
from airflow_dags.new_data import Listing, Published, Readiness, Seen, look, read_record, readiness
from airflow_dags.nights import deployment_of, night_of


def check(deployment: Deployment, only: tuple[str, ...], regardless: bool) -> tuple[Readiness, Seen, Published]:
    """What lies there, what was published, and whether that makes a run due. Raises OSError, RecordError."""
    before = read_record(deployment)
    seen = look(deployment, only)
    if regardless:
        return Readiness(True, (), "asked for, whatever is new"), seen, before
    return readiness(seen, before, deployment.settle_seconds), seen, before


def seen_as_json(seen: Seen) -> dict[str, Any]:
    """What one task saw, for the next."""
    return asdict(seen)


def seen_from_json(found: dict[str, Any]) -> Seen:
    """The reverse of `seen_as_json`."""
    return Seen({name: Listing(**listing) for name, listing in found["sources"].items()}, found["config"])


class NewDataTrigger(BaseTrigger):
    """Fires once there is something to do, or when `until_s` (seconds since 1970) has come."""

    def __init__(self, deployment_file: str, night: str, only: list[str], until_s: float) -> None:
        super().__init__()
        self.deployment_file, self.night, self.only, self.until_s = deployment_file, night, only, until_s

    def serialize(self) -> tuple[str, dict[str, Any]]:
        own = ("deployment_file", "night", "only", "until_s")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in own}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        from datetime import date
        from pathlib import Path

        deployment = of_night(load_deployment(Path(self.deployment_file)), date.fromisoformat(self.night))
        said = ""
        while True:
            try:
                found, seen, _ = await asyncio.to_thread(check, deployment, tuple(self.only), False)
            except OSError as error:  # a store that does not answer now may do so at the next look
                found, why = None, f"cannot list the recordings: {error}"
            else:
                why = found.why
            if why != said:
                self.log.info("%s", why)
                said = why
            if found is not None and found.ready:
                yield TriggerEvent({"why": why, "seen": seen_as_json(seen)})
                return
            if time.time() >= self.until_s:
                yield TriggerEvent({"why": why, "seen": None})
                return
            await asyncio.sleep(max(0.0, min(deployment.poll_seconds, self.until_s - time.time())))


class NewDataSensor(BaseSensorOperator):
    """Succeeds with what it saw once there are new recordings; skips the run where none came in time.

    Parameters of the run: `force` and `decide_only` wait for nothing, `sources` are those that are looked at.
    """

    def execute(self, context: Any) -> dict[str, Any]:
        params, deployment = context["params"], deployment_of(context)
        only = tuple(params["sources"])
        found, seen, _ = check(deployment, only, params["force"] or params["decide_only"])
        self.log.info("%s", found.why)
        if found.ready:
            return seen_as_json(seen)
        minutes = deployment.wait_minutes if params["wait_minutes"] is None else params["wait_minutes"]
        if minutes == 0:
            raise AirflowSkipException(found.why)
        night = night_of(context, deployment).isoformat()
        until_s = time.time() + 60 * minutes
        self.defer(
            trigger=NewDataTrigger(str(deployment_path().resolve()), night, list(only), until_s), method_name="resume"
        )

    def resume(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        """What the trigger saw; skips where it waited in vain."""
        self.log.info("%s", event["why"])
        if event["seen"] is None:
            raise AirflowSkipException(f"waited in vain: {event['why']}")
        return dict(event["seen"])
