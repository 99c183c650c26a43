"""Worker processes for Beam's local job service, which by itself starts none for `--environment_type=PROCESS`."""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
from typing import Any

from beam_pipeline.runner.beam_internals import beam_fn_api_pb2, beam_runner_api_pb2, common_urns, worker_handlers

_PROCESS_URN = common_urns.environments.PROCESS.urn
_LOOK_S = 0.2
_END_S = 10.0


class ProcessWorkerHandler(worker_handlers.GrpcWorkerHandler):
    """One worker process, started by the payload's command with the flags of Beam's container contract.

    A process that ends before its pipeline fails the pipeline; Beam's own handlers would wait for it for ever.
    """

    def __init__(self, payload: Any, state: Any, provision_info: Any, grpc_server: Any) -> None:
        super().__init__(state, provision_info, grpc_server)
        self._payload = payload
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()

    def start_worker(self) -> None:
        """Start the process; raises OSError where there is no such command."""
        control = self.control_api_service_descriptor().url
        command = [
            *shlex.split(self._payload.command),
            f"--id={self.worker_id}",
            f"--logging_endpoint={self.logging_api_service_descriptor().url}",
            f"--artifact_endpoint={control}",
            f"--provision_endpoint={control}",
            f"--control_endpoint={control}",
        ]
        # of a session of its own: Ctrl-C is for the launcher, which closes the connections of its workers
        self._process = subprocess.Popen(
            command, env={**os.environ, **self._payload.env}, stdin=subprocess.DEVNULL, start_new_session=True
        )
        threading.Thread(target=self._watch, args=(self._process,), name="process-worker-watch", daemon=True).start()

    def stop_worker(self) -> None:
        """Wait for the process to end by itself, at most 10 s, then end it."""
        self._stopping.set()
        if self._process is None:
            return
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        status = process.wait()
        error = (
            f"the worker process {self._payload.command!r} ended with status {status} before its pipeline; "
            "what it wrote to standard error says why"
        )
        # answered in its place: the runner looks at answers alone, and may ask again while it learns of the end
        asked = self.control_conn._futures_by_id
        while not self._stopping.wait(_LOOK_S):
            for name in list(asked):
                asked.pop(name).set(beam_fn_api_pb2.InstructionResponse(instruction_id=name, error=error))


def offer_process_workers() -> None:
    """Let Beam's local job service in this process run PROCESS environments."""
    worker_handlers.WorkerHandler.register_environment(_PROCESS_URN, beam_runner_api_pb2.ProcessPayload)(
        ProcessWorkerHandler
    )
