"""The metrics of a job: what committed bundles reported, once each, summed as they come."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from apache_beam.metrics.metric import MetricResults, MetricsFilter
from apache_beam.metrics.metricbase import MetricName

from beam_pipeline.runner.beam_internals import (
    MetricKey,
    MetricResult,
    beam_fn_api_pb2,
    metrics_pb2,
    monitoring_infos,
)
from beam_pipeline.runner.metric_totals import MetricTotal, new_total

_USER_URNS = "beam:metric:user:"
_FUSED_STAGES_URN = "internal:__num_fused_stages"
_KINDS = (
    MetricResults.COUNTERS,
    MetricResults.DISTRIBUTIONS,
    MetricResults.GAUGES,
    MetricResults.STRINGSETS,
    MetricResults.BOUNDED_TRIES,
    MetricResults.HISTOGRAMS,
)

InfosByStage = Mapping[str, Sequence[metrics_pb2.MonitoringInfo]]


class CommittedMetrics:
    """Totals per stage. One thread commits; any thread may ask while it does.

    Every bundle is added as it comes, in a few microseconds per monitoring info: a backlog would make the driver pause.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: dict[str, dict[bytes, MetricTotal]] = {}

    def commit(self, stage_name: str, response: bytes) -> None:
        """Add the monitoring infos of a serialized ProcessBundleResponse; called once for each round of a bundle."""
        infos = beam_fn_api_pb2.ProcessBundleResponse.FromString(response).monitoring_infos
        with self._lock:
            totals = self._stages.setdefault(stage_name, {})
            for info in infos:
                payload = info.payload
                _add(totals, _identity(info), info.type, payload)

    def monitoring_infos_by_stage(self) -> dict[str, list[metrics_pb2.MonitoringInfo]]:
        """One info per stage, metric and labels, as committed so far; those of the whole job under the empty name."""
        with self._lock:
            payloads = {
                stage: [(identity, total.payload()) for identity, total in totals.items()]
                for stage, totals in self._stages.items()
            }
        infos = {stage: [_info(*pair) for pair in pairs] for stage, pairs in payloads.items()}
        infos[""] = [monitoring_infos.int64_counter(_FUSED_STAGES_URN, len(payloads))]
        return infos


class RayMetrics(MetricResults):
    """Metrics as they were when they were asked for; attempted values are the committed ones."""

    def __init__(self, infos_by_stage: InfosByStage, user_metrics_only: bool) -> None:
        self._infos = [info for infos in infos_by_stage.values() for info in infos]
        self._user_metrics_only = user_metrics_only

    def monitoring_infos(self) -> list[metrics_pb2.MonitoringInfo]:
        """All infos, those of the runner included."""
        return list(self._infos)

    def query(self, filter: MetricsFilter | None = None) -> dict[str, list[MetricResult]]:
        """Results by kind (`counters`, `distributions`, `gauges`, `string_sets`, `bounded_tries`, `histograms`).

        A step that several stages ran has one result. Counters are int (float where summed as doubles).
        """
        keys: dict[bytes, MetricKey] = {}
        totals: dict[bytes, MetricTotal] = {}
        for info in self._infos:
            if self._user_metrics_only and not info.urn.startswith(_USER_URNS):
                continue
            key = _key(info)
            if not self.matches(filter, key):
                continue
            identified = metrics_pb2.MonitoringInfo()
            identified.CopyFrom(info)
            identity = _identity(identified)
            keys[identity] = key
            _add(totals, identity, info.type, info.payload)
        results: dict[str, list[MetricResult]] = {kind: [] for kind in _KINDS}
        for identity, total in totals.items():
            if total.kind is not None:
                value: Any = total.result()
                results[total.kind].append(MetricResult(keys[identity], value, value))
        return results


def _identity(info: metrics_pb2.MonitoringInfo) -> bytes:
    """What tells a metric from others: all but its value and its time, which are taken off the info."""
    info.ClearField("payload")
    info.ClearField("start_time")
    identity: bytes = info.SerializeToString(deterministic=True)
    return identity


def _add(totals: dict[bytes, MetricTotal], identity: bytes, type_urn: str, payload: bytes) -> None:
    total = totals.get(identity)
    if total is None:
        total = totals[identity] = new_total(type_urn)
    total.add(payload)


def _info(identity: bytes, payload: bytes) -> metrics_pb2.MonitoringInfo:
    info = metrics_pb2.MonitoringInfo.FromString(identity)
    info.payload = payload
    return info


def _key(info: metrics_pb2.MonitoringInfo) -> MetricKey:
    labels = dict(info.labels)
    step = labels.pop(monitoring_infos.PTRANSFORM_LABEL, None)
    namespace = labels.pop(monitoring_infos.NAMESPACE_LABEL, None)
    name = labels.pop(monitoring_infos.NAME_LABEL, None)
    if not (namespace and name):
        namespace, name = info.urn.split(":", 1)
    return MetricKey(step, MetricName(namespace, name), labels)
