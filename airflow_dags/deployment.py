"""The deployment file: what runs each night, where and by whose rules; typed, and checked when it is loaded."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import field, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

DEPLOYMENT_VARIABLE = "DEMOSIFT_DEPLOYMENT"
DEFAULT_DEPLOYMENT = Path(__file__).parent / "deployments" / "local.yaml"
NIGHT = "{night}"
"""Stands in paths and variables for the night that a run is of, as 2026-11-26."""

_STRICT = ConfigDict(extra="forbid")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_FLAGS_OF_OURS = ("--config", "--output", "--source", "--publish")
_STORES = ("gs://", "s3://")


class DeploymentError(Exception):
    """A deployment that cannot be used; the message names the file, the line, the key and what is wrong."""


@dataclass(frozen=True, config=_STRICT)
class WatchedSource:
    """A source of the pipeline's configuration, and the file, folder or glob in which its recordings arrive."""

    name: str
    watch: str


@dataclass(frozen=True, config=_STRICT)
class LocalCluster:
    """Jobs are processes of this machine; `jobs` keeps their logs, `python` is an interpreter that has DemoSift."""

    kind: Literal["local"]
    python: str
    jobs: str
    working_directory: str


@dataclass(frozen=True, config=_STRICT)
class RayJobsCluster:
    """Jobs go to a Ray cluster's job server; paths are those of its head node.

    `token_file` holds the token of a cluster with RAY_AUTH_MODE=token.
    """

    kind: Literal["ray_jobs"]
    address: str
    python: str
    working_directory: str
    token_file: str | None = None

    def __post_init__(self) -> None:
        if not self.address.startswith(("http://", "https://")):
            raise ValueError(f"address {self.address!r} is no http:// or https:// address of Ray's dashboard")
        if not self.python.startswith("/"):
            raise ValueError(f"python {self.python!r} must be absolute: jobs do not start in a known folder")


@dataclass(frozen=True, config=_STRICT)
class KubeRayCluster:
    """Each job is a RayJob of KubeRay, made of the YAML file `template`.

    Without `context` the pod's own service account is used, else that context of the kubeconfig.
    """

    kind: Literal["kuberay"]
    namespace: str
    template: str
    python: str = "python"
    context: str | None = None
    kubeconfig: str | None = None


Cluster = Annotated[LocalCluster | RayJobsCluster | KubeRayCluster, Field(discriminator="kind")]


@dataclass(frozen=True, config=_STRICT)
class Deployment:
    """One pipeline in production. Relative paths are relative to the deployment file."""

    config: str
    output: str
    sources: tuple[WatchedSource, ...]
    cluster: Cluster
    start: date
    schedule: str | None = None
    timezone: str = "UTC"
    catchup: bool = False
    wait_minutes: Annotated[float, Field(ge=0)] = 360
    poll_seconds: Annotated[float, Field(gt=0)] = 60
    settle_seconds: Annotated[float, Field(ge=0)] = 300
    deadline_minutes: Annotated[float, Field(gt=0)] = 480
    retries: Annotated[int, Field(ge=0)] = 2
    retry_minutes: Annotated[float, Field(ge=0)] = 5
    sources_at_once: Annotated[int, Field(ge=1)] = 2
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    publish: str | None = None
    alert_webhook: str | None = None
    report_url: str | None = None
    asset: str = "curated_set"

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        if not names:
            raise ValueError("sources is empty; name at least one source of the configuration")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"source {twice[0]!r} appears twice")
        if wrong := [name for name in names if not _NAME.fullmatch(name)]:
            raise ValueError(f"source {wrong[0]!r} has other characters than letters, digits, '_', '.' and '-'")
        for argument in self.arguments:
            if argument.partition("=")[0] in _FLAGS_OF_OURS:
                raise ValueError(f"argument {argument!r} is given by the DAG; remove it, its key says it")
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"timezone {self.timezone!r} is unknown; write one such as Europe/Zurich") from error
        if self.publish is not None and not self.publish.startswith(_STORES):
            raise ValueError(f"publish {self.publish!r} is no URL of a store; write gs://... or s3://...")
        self._check_nights()
        if self.schedule is not None:
            from croniter import croniter  # as Airflow reads it; 20 ms that a DAG without a schedule does without

            if not croniter.is_valid(self.schedule):
                raise ValueError(f"schedule {self.schedule!r} is no cron expression, such as '0 2 * * *'")

    @property
    def published(self) -> str:
        """Where the newest manifest lies: on the store to which is published, else in the output folder."""
        return self.output if self.publish is None else self.publish

    def _check_nights(self) -> None:
        by_night = NIGHT in self.output
        if by_night and not any(NIGHT in value for value in self.environment.values()):
            raise ValueError(
                f"output has {NIGHT} but no variable of environment has it: every night would curate the same "
                f"recordings; give the configuration its night, such as `environment: {{NIGHT: '{NIGHT}'}}`"
            )
        if self.publish is not None and by_night != (NIGHT in self.publish):
            raise ValueError(
                f"{NIGHT} stands in {'output' if by_night else 'publish'} alone: write it in both, a set a night, or "
                "in neither"
            )
        if self.catchup and not by_night:
            raise ValueError(
                f"catchup needs {NIGHT} in output: without it each run takes all recordings there are, and one "
                "run makes up for every night that was missed"
            )


def at_night(text: str, night: date) -> str:
    """A path or variable with its night filled in."""
    return text.replace(NIGHT, night.isoformat())


def of_night(deployment: Deployment, night: date) -> Deployment:
    """A deployment with its night filled in wherever {night} stands."""
    return replace(
        deployment,
        config=at_night(deployment.config, night),
        output=at_night(deployment.output, night),
        publish=None if deployment.publish is None else at_night(deployment.publish, night),
        sources=tuple(WatchedSource(s.name, at_night(s.watch, night)) for s in deployment.sources),
        environment={
            "DEMOSIFT_NIGHT": night.isoformat(),
            **{name: at_night(value, night) for name, value in deployment.environment.items()},
        },
        report_url=None if deployment.report_url is None else at_night(deployment.report_url, night),
        catchup=False,  # belongs to the schedule, and is checked against the {night} that is filled in now
    )


def deployment_path() -> Path:
    """The deployment file that this Airflow runs."""
    return Path(os.environ.get(DEPLOYMENT_VARIABLE, DEFAULT_DEPLOYMENT))


def load_deployment(path: Path) -> Deployment:
    """A deployment file, its paths made absolute. Raises DeploymentError for what cannot be used."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DeploymentError(f"{path}:1: cannot read the deployment: {error}") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", error)
        raise DeploymentError(f"{path}:{mark.line + 1 if mark else 1}: not YAML: {problem}") from error
    if not isinstance(found, dict):
        raise DeploymentError(f"{path}:1: need keys such as `config:` and `sources:`")
    try:
        deployment = TypeAdapter(Deployment).validate_python(found)
    except ValidationError as error:
        raise DeploymentError("\n".join(_messages(path, node, error))) from error
    return _absolute(deployment, path.resolve().parent)


def _messages(path: Path, node: yaml.Node, error: ValidationError) -> list[str]:
    said = []
    for problem in error.errors():
        keys = [key for key in problem["loc"] if key not in ("local", "ray_jobs", "kuberay")]
        name = ".".join(str(key) for key in keys)
        kind, message = problem["type"], problem["msg"]
        if kind == "unexpected_keyword_argument":
            message = f"unknown key {keys[-1]!r}{_nearest(str(keys[-1]))}"
        elif kind == "missing":
            message = f"key {keys[-1]!r} is missing"
        elif kind == "value_error":
            message = message.removeprefix("Value error, ")
        elif not isinstance(problem["input"], dict | list):
            message = f"{message}, found {problem['input']!r}"
        where = f" at `{name}`" if name else ""
        said.append(f"{path}:{_line(node, keys)}: {message}{where}")
    return said


def _nearest(word: str) -> str:
    kinds = (Deployment, WatchedSource, LocalCluster, RayJobsCluster, KubeRayCluster)
    known = {name for kind in kinds for name in kind.__dataclass_fields__}
    close = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def _line(node: yaml.Node, keys: list[int | str]) -> int:
    line = node.start_mark.line + 1
    for key in keys:
        if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            pair = next(((name, value) for name, value in node.value if name.value == key), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
    return line


def _absolute(deployment: Deployment, folder: Path) -> Deployment:
    def absolute(text: str) -> str:
        return text if "://" in text else str(Path(os.path.abspath(folder / text)))  # noqa: PTH100 keeps links

    cluster = deployment.cluster
    if isinstance(cluster, LocalCluster):
        cluster = replace(
            cluster,
            python=absolute(cluster.python),
            jobs=absolute(cluster.jobs),
            working_directory=absolute(cluster.working_directory),
        )
    elif isinstance(cluster, KubeRayCluster):
        kubeconfig = None if cluster.kubeconfig is None else absolute(cluster.kubeconfig)
        cluster = replace(cluster, template=absolute(cluster.template), kubeconfig=kubeconfig)
    elif cluster.token_file is not None:
        cluster = replace(cluster, token_file=absolute(cluster.token_file))
    remote = isinstance(cluster, KubeRayCluster)  # its pods have other folders: what is written is theirs
    return replace(
        deployment,
        config=deployment.config if remote else absolute(deployment.config),
        output=absolute(deployment.output),
        sources=tuple(WatchedSource(s.name, absolute(s.watch)) for s in deployment.sources),
        cluster=cluster,
    )
