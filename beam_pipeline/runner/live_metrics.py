"""What a running job tells Ray's metrics, once a second, by the driver: Ray's agent exports it to Prometheus.

Gauges of the job so far, set by one process that lives as long as the job: counters of workers would be lost with them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from beam_pipeline.runner.driver.graph import StageState
from beam_pipeline.runner.progress import JobProgress

if TYPE_CHECKING:
    from ray.util.metrics import Gauge

EXPORTED_AS = "ray_"
"""Ray puts this before every name."""


@dataclass(frozen=True, slots=True)
class LiveMetric:
    """A gauge by its name in code; Prometheus sees it with Ray's prefix, and Ray's tags beside ours."""

    name: str
    unit: str
    help: str
    tags: tuple[str, ...]

    @property
    def exported(self) -> str:
        return EXPORTED_AS + self.name


_STAGE = ("pipeline", "stage", "gpus")
BUNDLES_DONE = LiveMetric("beam_stage_bundles_done", "bundles", "Bundles committed.", _STAGE)
BUNDLES_KNOWN = LiveMetric("beam_stage_bundles_known", "bundles", "Bundles given out so far.", _STAGE)
BUNDLES_RUNNING = LiveMetric("beam_stage_bundles_running", "bundles", "Bundles that workers have now.", _STAGE)
ELEMENTS = LiveMetric("beam_stage_elements", "elements", "Elements of committed bundles.", _STAGE)
BYTES_OUT = LiveMetric("beam_stage_output_bytes", "bytes", "Encoded output of committed bundles.", _STAGE)
WORKER_SECONDS = LiveMetric("beam_stage_worker_seconds", "s", "Time in committed bundles, over all workers.", _STAGE)
QUEUED_BYTES = LiveMetric("beam_stage_queued_bytes", "bytes", "Encoded input that waits for a worker.", _STAGE)
STAGE_DONE = LiveMetric("beam_stage_done", "1 or 0", "Whether the stage is done.", _STAGE)
WORKERS = LiveMetric("beam_workers", "workers", "Workers that the job's session has.", ("pipeline",))
LIVE: tuple[LiveMetric, ...] = (
    BUNDLES_DONE,
    BUNDLES_KNOWN,
    BUNDLES_RUNNING,
    ELEMENTS,
    BYTES_OUT,
    WORKER_SECONDS,
    QUEUED_BYTES,
    STAGE_DONE,
    WORKERS,
)


class LiveMetrics:
    """The gauges of one job; `pipeline` is its id. Ray must be connected when it is made."""

    def __init__(self, pipeline: str) -> None:
        from ray.util.metrics import Gauge

        self._pipeline = pipeline
        self._gauges: dict[str, Gauge] = {
            metric.name: Gauge(metric.name, metric.help, tag_keys=metric.tags) for metric in LIVE
        }

    def tell(self, stages: Iterable[StageState], job: JobProgress) -> None:
        """Set every gauge to what is known now."""
        committed = {stage.name: stage for stage in job.stages}
        for state in stages:
            so_far = committed[state.plan.name]
            tags = {"pipeline": self._pipeline, "stage": so_far.label, "gpus": f"{state.plan.request.gpus:g}"}
            for metric, value in (
                (BUNDLES_DONE, so_far.bundles_done),
                (BUNDLES_KNOWN, so_far.bundles_known),
                (BUNDLES_RUNNING, state.running),
                (ELEMENTS, so_far.elements),
                (BYTES_OUT, so_far.bytes_out),
                (WORKER_SECONDS, so_far.seconds),
                (QUEUED_BYTES, state.waiting_bytes()),
                (STAGE_DONE, float(so_far.done)),
            ):
                self._gauges[metric.name].set(value, tags)
        self._gauges[WORKERS.name].set(job.workers, {"pipeline": self._pipeline})
