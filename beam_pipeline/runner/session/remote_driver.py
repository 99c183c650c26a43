"""The actor that drives a pipeline from within the cluster.

Ray client's server may lack the runner and unpickles what passes through it: so the class is pickled by value, and
takes and gives bytes alone.
"""

from __future__ import annotations

import pickle
from typing import Any


class RemoteDriver:
    """Runs one pipeline with the Ray that its process belongs to."""

    def __init__(self, pipeline: bytes, config: bytes, packed: bytes, is_drain: bool) -> None:
        from beam_pipeline.runner.beam_internals import beam_runner_api_pb2
        from beam_pipeline.runner.ray_runner import RayRunner

        proto = beam_runner_api_pb2.Pipeline.FromString(pipeline)
        self._result = RayRunner(is_drain).start(proto, pickle.loads(config), pickle.loads(packed))

    def poll(self, seconds: float) -> bytes:
        """Wait for the end for so long: pickled (state, serialized metrics by stage, error and its cause, or None)."""
        from beam_pipeline.runner.worker.caught import Caught

        with Caught() as caught:
            self._result.wait_until_finish(seconds * 1000)
        infos = self._result._monitoring_infos_by_stage
        metrics = {stage: [info.SerializeToString() for info in found] for stage, found in infos.items()}
        return pickle.dumps((self._result.state, metrics, self._failure(caught.error)))

    def cancel(self) -> None:
        self._result.cancel()

    @staticmethod
    def _failure(error: Exception | None) -> Any:
        if error is None:
            return None
        from beam_pipeline.runner.worker.caught import Caught

        pickled = []
        for part in (error, error.__cause__):
            # an exception of user code may refuse to be pickled
            with Caught() as refused:
                pickled.append(pickle.dumps(part))
            if refused.error:
                pickled.append(pickle.dumps(RuntimeError(f"{type(part).__name__}: {part}")))
        return tuple(pickled)
