"""Jobs on a Ray cluster by its job server's REST interface (the one of `ray job submit`), without importing Ray."""

from __future__ import annotations

import json
import shlex
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from airflow_dags.deployment import RayJobsCluster
from airflow_dags.jobs import Job, JobState, Status, SubmissionError, exit_status_in

_TIMEOUT_S = 60.0
_STATUS = {
    "PENDING": Status.RUNNING,
    "RUNNING": Status.RUNNING,
    "SUCCEEDED": Status.SUCCEEDED,
    "STOPPED": Status.FAILED,
    "FAILED": Status.FAILED,
}


@dataclass(frozen=True)
class RayJobs:
    """A job is a submission of Ray's job server; its submission id is our name."""

    cluster: RayJobsCluster

    def look(self, name: str) -> JobState | None:
        found = self._call("GET", f"/api/jobs/{name}", missing_is_none=True)
        if found is None:
            return None
        status = _STATUS.get(found["status"])
        if status is None:
            raise SubmissionError(f"{self.cluster.address} gives job {name} the unknown status {found['status']!r}")
        message = found.get("message") or ""
        exit_status = found.get("driver_exit_code")
        return JobState(status, exit_status if exit_status is not None else exit_status_in(message), message)

    def submit(self, name: str, job: Job) -> bool:
        words = shlex.join([self.cluster.python, "-m", "beam_pipeline", *job.arguments])
        request = {
            "submission_id": name,
            "entrypoint": f"cd {shlex.quote(self.cluster.working_directory)} && exec {words}",
            "runtime_env": {"env_vars": dict(job.environment)},
            "metadata": {"demosift_job": job.name},
        }
        try:
            self._call("POST", "/api/jobs/", request)
        except SubmissionError:
            if self.look(name) is None:
                raise
            return False
        return True

    def logs(self, name: str) -> str:
        found = self._call("GET", f"/api/jobs/{name}/logs", missing_is_none=True)
        return "" if found is None else str(found["logs"])

    def stop(self, name: str) -> None:
        self._call("POST", f"/api/jobs/{name}/stop", missing_is_none=True)

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, missing_is_none: bool = False
    ) -> dict[str, Any] | None:
        headers = {"Content-Type": "application/json", **self._authorization()}
        data = None if body is None else json.dumps(body).encode()
        url = urllib.parse.urljoin(self.cluster.address, path)
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
                found = json.load(response)
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.NOT_FOUND and missing_is_none:
                return None
            said = error.read().decode(errors="replace").strip()
            last = said.splitlines()[-1] if said else error.reason
            remedy = "; name its token's file as `token_file`" if error.code == HTTPStatus.UNAUTHORIZED else ""
            raise SubmissionError(f"{method} {url} was answered {error.code}: {last}{remedy}") from error
        except (OSError, json.JSONDecodeError) as error:
            raise SubmissionError(f"{method} {url} failed: {error}; is Ray's dashboard there?") from error
        return dict(found) if isinstance(found, dict) else {"answer": found}

    def _authorization(self) -> dict[str, str]:
        if self.cluster.token_file is None:
            return {}
        try:
            token = Path(self.cluster.token_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SubmissionError(f"cannot read the token of {self.cluster.address}: {error}") from error
        return {"Authorization": f"Bearer {token}"}
