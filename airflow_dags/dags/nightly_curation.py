"""The nightly DAG: waits for new recordings, measures each source, decides across them, publishes, tells who waits."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Asset, CronDataIntervalTimetable, Param, get_current_context, task
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_dags.alerts import deadline_missed, run_failed
from airflow_dags.curation_job import CurationJob, report_url
from airflow_dags.deployment import Deployment, deployment_path, load_deployment
from airflow_dags.sensor import NewDataSensor, seen_from_json

DOC = """
Waits for new recordings, measures each source that has some (`evidence`), decides across all sources (`decide`:
rules, deduplication, selection, gates) and publishes. A gate that fails publishes nothing. Nothing new: the run is
skipped. What it runs is in the deployment file; see docs/airflow.md.
"""


def parameters(deployment: Deployment) -> dict[str, Param]:
    """What the trigger form asks."""
    names = [source.name for source in deployment.sources]
    return {
        "sources": Param(
            names, type="array", items={"type": "string", "enum": names}, examples=names, title="Sources to look at"
        ),
        "force": Param(
            False, type="boolean", title="Measure anew", description="Measure these sources though nothing is new."
        ),
        "decide_only": Param(
            False,
            type="boolean",
            title="Decide only",
            description="Measure nothing; decide by stored evidence, as after a change of a gate or rule.",
        ),
        "night": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Night",
            description="The night that {night} stands for; by default the start of the run's data interval.",
        ),
        "wait_minutes": Param(
            None,
            type=["null", "number"],
            minimum=0,
            title="Minutes to wait",
            description=f"How long to wait for new recordings; by default {deployment.wait_minutes:g}.",
        ),
    }


def deadline_of(deployment: Deployment) -> DeadlineAlert | None:
    """The alert of a run that takes too long; none under `airflow dags test`, which fails at the end of a run with one.

    Airflow 3.3.2 looks the alert up by what it never stored: 'dict' object has no attribute 'hex'.
    """
    if sys.argv[1:3] == ["dags", "test"]:
        return None
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(minutes=deployment.deadline_minutes),
        callback=AsyncCallback(
            deadline_missed,
            kwargs={"webhook": deployment.alert_webhook, "minutes": deployment.deadline_minutes},
        ),
    )


def build(deployment: Deployment) -> DAG:
    """The DAG of a deployment."""
    schedule = None
    if deployment.schedule is not None:
        schedule = CronDataIntervalTimetable(deployment.schedule, timezone=deployment.timezone)
    asset = Asset(name=deployment.asset, uri=f"demosift://{deployment.asset}", group="demosift")
    started = deployment.start
    with DAG(
        "nightly_curation",
        doc_md=DOC,
        schedule=schedule,
        start_date=datetime(started.year, started.month, started.day, tzinfo=UTC),
        catchup=deployment.catchup,
        max_active_runs=1,
        params=parameters(deployment),
        default_args={"retries": deployment.retries, "retry_delay": timedelta(minutes=deployment.retry_minutes)},
        on_failure_callback=run_failed,
        deadline=deadline_of(deployment),
        tags=["demosift"],
    ) as dag:
        wait = NewDataSensor(task_id="wait_for_recordings")

        @task(task_id="plan")
        def choose(seen: dict[str, Any]) -> list[str]:
            """The sources that are to be measured: those whose recordings are new, or all that a person asked for."""
            from airflow_dags.new_data import read_record
            from airflow_dags.nights import deployment_of

            context = get_current_context()
            params = context["params"]
            if params["force"] and params["decide_only"]:
                raise AirflowFailException("`force` measures and `decide_only` does not: choose one of them")
            if params["decide_only"]:
                return []
            if params["force"]:
                return list(params["sources"])
            return seen_from_json(seen).changed(read_record(deployment_of(context)))

        planned = choose(wait.output)
        evidence = CurationJob.partial(
            task_id="evidence",
            command="evidence",
            map_index_template="{{ task.source }}",
            max_active_tis_per_dagrun=deployment.sources_at_once,
        ).expand(source=planned)
        # runs also where nothing was to be measured, but not where the whole run is skipped
        decide = CurationJob(task_id="decide", command="decide", trigger_rule="none_failed_min_one_success")

        @task(outlets=[asset])
        def announce(seen: dict[str, Any], *, outlet_events: Any = None) -> dict[str, Any]:
            """Remember what was published and tell whoever waits for the asset; skips where no file has changed."""
            from airflow_dags.new_data import Published, newest_manifest, read_record, write_record
            from airflow_dags.nights import deployment_of

            own = deployment_of(get_current_context())
            manifest = newest_manifest(own.published)
            if manifest is None:
                raise AirflowFailException(
                    f"decide ended well, but {own.published} has no manifest; is it another folder?"
                )
            before, now = read_record(own), seen_from_json(seen)
            digests = {**before.sources, **{name: listing.digest for name, listing in now.sources.items()}}
            write_record(own, Published(digests, now.config, manifest.digest))
            if manifest.digest == before.files:
                raise AirflowSkipException("the set has the same files as before: nothing new was published")
            published = {"output": own.published, "manifest": manifest.number, "files": manifest.files}
            outlet_events[asset].extra = {**published, "report": report_url(own)}
            return published

        planned >> decide
        evidence >> decide >> announce(wait.output)
    return dag


dag = build(load_deployment(deployment_path()))
