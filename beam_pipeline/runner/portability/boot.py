"""`demosift-worker`: boots a Beam SDK worker by Beam's container contract, as PROCESS environments ask.

`--environment_type=PROCESS --environment_config='{"command": "PATH/demosift-worker"}'`. The worker uses the Python
environment that it is installed in: unlike Beam's container image it installs no staged files.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf import json_format, text_format

from beam_pipeline.runner.beam_internals import (
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    beam_runner_api_pb2,
    endpoints_pb2,
    sdk_worker_main,
)

# Beam stages this list of installed packages with every job, for people to read
_FOR_PEOPLE = frozenset({"submission_environment_dependencies.txt"})
_ANSWER_S = 60


def worker_environment(worker_id: str, info: Any) -> dict[str, str]:
    """The environment variables by which Beam's worker is told what the runner provides (a ProvisionInfo).

    Raises ValueError where the job stages files that a worker would have to install.
    """
    staged = {_staged_name(artifact) for artifact in info.dependencies} - _FOR_PEOPLE
    if staged:
        raise ValueError(
            f"the job stages {', '.join(sorted(staged))}, which this worker does not install; install it in the "
            f"environment of {sys.executable} and leave --setup_file, --requirements_file, --extra_package and "
            "--save_main_session out"
        )
    variables = {
        "WORKER_ID": worker_id,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }
    for name, endpoint in (
        ("CONTROL_API_SERVICE_DESCRIPTOR", info.control_endpoint),
        ("LOGGING_API_SERVICE_DESCRIPTOR", info.logging_endpoint),
        ("STATUS_API_SERVICE_DESCRIPTOR", info.status_endpoint),
    ):
        if endpoint.url:
            variables[name] = text_format.MessageToString(endpoint)
    return variables


def main(argv: Sequence[str] | None = None) -> int:
    """Ask the runner for the rest, then work until it closes the connection; 2 where the worker cannot do the job."""
    parser = argparse.ArgumentParser(prog="demosift-worker", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--id", required=True, help="the worker's name at the runner")
    parser.add_argument("--provision_endpoint", required=True, help="HOST:PORT that tells of the job")
    parser.add_argument("--control_endpoint", help="HOST:PORT of the runner (default: what the provision tells)")
    parser.add_argument("--logging_endpoint", help="HOST:PORT that takes log entries (default: likewise)")
    given, _ = parser.parse_known_args(argv)
    with grpc.insecure_channel(given.provision_endpoint) as channel:
        service = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        info = service.GetProvisionInfo(
            beam_provision_api_pb2.GetProvisionInfoRequest(),
            metadata=(("worker_id", given.id),),
            timeout=_ANSWER_S,
            wait_for_ready=True,
        ).info
    for endpoint, url in (
        (info.control_endpoint, given.control_endpoint),
        (info.logging_endpoint, given.logging_endpoint),
    ):
        if url:
            endpoint.CopyFrom(endpoints_pb2.ApiServiceDescriptor(url=url))
    try:
        os.environ.update(worker_environment(given.id, info))
    except ValueError as error:
        print(f"demosift-worker: {error}", file=sys.stderr)
        return 2
    sdk_worker_main.main(sys.argv)
    return 0


def _staged_name(artifact: Any) -> str:
    payload = beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(artifact.role_payload)
    return payload.staged_name or artifact.role_urn


if __name__ == "__main__":
    sys.exit(main())
