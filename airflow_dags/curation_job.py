"""Runs a command of the pipeline as a job on the deployment's cluster, and waits for it in the triggerer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_dags.deployment import Deployment, deployment_path, load_deployment
from airflow_dags.jobs import (
    Job,
    Status,
    SubmissionError,
    Submitter,
    arguments_of,
    attach_or_submit,
    job_name,
    submitter_for,
)
from airflow_dags.nights import deployment_of

BAD_USAGE, GATE_FAILED = 2, 3
"""Exit statuses of the command that no retry mends."""
_BUSY = "another run (process"
"""What the command says, with status 2, where another run holds the folder: that one ends, so a retry helps."""
_SILENT_S = 900.0
_SHOWN_LINES = 400


class ReportLink(BaseOperatorLink):
    """The button that opens the page about the set."""

    name = "Curation report"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        return str(getattr(operator, "links", {}).get(self.name, ""))


def report_url(deployment: Deployment) -> str:
    """Where the report of a deployment's set is opened."""
    if deployment.report_url is not None:
        return deployment.report_url
    output = deployment.output if "://" in deployment.output else f"file://{deployment.output}"
    return f"{output.rstrip('/')}/report.html"


class JobTrigger(BaseTrigger):
    """Asks the cluster how a job is until it has ended; a user who ends the task ends the job."""

    def __init__(self, deployment_file: str, job: str) -> None:
        super().__init__()
        self.deployment_file, self.job = deployment_file, job

    def serialize(self) -> tuple[str, dict[str, Any]]:
        own = {"deployment_file": self.deployment_file, "job": self.job}
        return f"{type(self).__module__}.{type(self).__qualname__}", own

    async def run(self) -> AsyncIterator[TriggerEvent]:
        deployment = await asyncio.to_thread(self._deployment)
        submitter = submitter_for(deployment.cluster)
        answered_s = time.monotonic()
        while True:
            try:
                state = await asyncio.to_thread(submitter.look, self.job)
            except SubmissionError as error:
                if time.monotonic() - answered_s > _SILENT_S:
                    yield self._event("unknown", None, str(error))
                    return
                self.log.warning("%s; asked again", error)
            else:
                answered_s = time.monotonic()
                if state is None:
                    yield self._event("gone", None, "the cluster knows it no more")
                    return
                if state.status is not Status.RUNNING:
                    yield self._event(state.status.value, state.exit_status, state.message)
                    return
            await asyncio.sleep(min(deployment.poll_seconds, 10.0))

    async def on_kill(self) -> None:
        deployment = await asyncio.to_thread(self._deployment)
        await asyncio.to_thread(submitter_for(deployment.cluster).stop, self.job)

    def _event(self, status: str, exit_status: int | None, message: str) -> TriggerEvent:
        return TriggerEvent({"job": self.job, "status": status, "exit_status": exit_status, "message": message})

    def _deployment(self) -> Deployment:
        from pathlib import Path

        return load_deployment(Path(self.deployment_file))


class CurationJob(BaseOperator):
    """`python -m beam_pipeline COMMAND` for the whole deployment or one source, on its cluster.

    The job's name comes from the run and the arguments: a retry finds the job that the task before it has submitted,
    and waits for it instead of starting another. Status 2 and 3 are not tried again.
    """

    template_fields = ("source",)
    operator_extra_links = (ReportLink(),)

    def __init__(self, *, command: str, source: str | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.command, self.source = command, source
        self.links: dict[str, str] = {}
        self._running: tuple[Submitter, str] | None = None

    def execute(self, context: Any) -> str:
        deployment = deployment_of(context)
        job = self._job(context, deployment)
        try:
            submitter = submitter_for(deployment.cluster)
            submitted = attach_or_submit(submitter, job)
        except SubmissionError as error:
            raise AirflowException(str(error)) from error
        self._running = (submitter, submitted.name)
        self.log.info("%s %s: python -m beam_pipeline %s", submitted.how, submitted.name, " ".join(job.arguments))
        self.defer(
            trigger=JobTrigger(str(deployment_path().resolve()), submitted.name),
            method_name="resume",
        )

    def resume(self, context: Any, event: dict[str, Any]) -> str:
        """Show what the job printed and fail as it failed; returns the job's name."""
        deployment, job = deployment_of(context), str(event["job"])
        printed = submitter_for(deployment.cluster).logs(job)
        for line in printed.splitlines()[-_SHOWN_LINES:]:
            self.log.info("%s", line)
        if event["status"] == Status.SUCCEEDED.value:
            if self.command == "decide":
                self.links[ReportLink.name] = report_url(deployment)
            return job
        status = event["exit_status"]
        said = f"{self.command} failed as job {job}, exit status {status}: {event['message']}".rstrip(": ")
        if status == GATE_FAILED:
            raise AirflowFailException(f"{said}\na gate failed and nothing was published; the numbers stand above")
        if status == BAD_USAGE and _BUSY not in printed:
            raise AirflowFailException(f"{said}\nit would fail again: mend what is said above")
        raise AirflowException(said)

    def on_kill(self) -> None:
        """End the job of a task that a user ends before it waits in the triggerer."""
        if self._running is not None:
            submitter, name = self._running
            submitter.stop(name)

    def _job(self, context: Any, deployment: Deployment) -> Job:
        arguments = arguments_of(deployment, self.command, self.source)
        run, logical = context["dag_run"], context.get("logical_date")
        # Retries leave max_tries as it is; clearing the task, which asks to run it anew, raises it.
        cleared = str(context["ti"].max_tries)
        which = (run.dag_id, logical.isoformat() if logical else run.run_id, cleared)
        name = job_name(which, self.command, self.source, arguments)
        return Job(name, arguments, deployment.environment)
