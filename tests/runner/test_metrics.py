"""What bundles report adds up to the job's metrics, whatever its kind, order and number of rounds."""

from __future__ import annotations

import itertools
import struct
import threading
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.utils.histogram import Histogram, LinearBucket

from beam_pipeline.runner.beam_internals import (
    beam_fn_api_pb2,
    cells,
    coder_impl,
    common_urns,
    metrics_pb2,
    monitoring_infos,
)
from beam_pipeline.runner.metrics import CommittedMetrics, RayMetrics

USER = {"ptransform": "Step"}


def _response(*infos: metrics_pb2.MonitoringInfo) -> bytes:
    encoded: bytes = beam_fn_api_pb2.ProcessBundleResponse(monitoring_infos=infos).SerializeToString()
    return encoded


def _committed(*bundles: Sequence[metrics_pb2.MonitoringInfo], stage: str = "s1") -> CommittedMetrics:
    metrics = CommittedMetrics()
    for infos in bundles:
        metrics.commit(stage, _response(*infos))
    return metrics


def _query(metrics: CommittedMetrics, only: MetricsFilter | None = None) -> dict[str, list[Any]]:
    return RayMetrics(metrics.monitoring_infos_by_stage(), user_metrics_only=True).query(only)


def _one(metrics: CommittedMetrics, kind: str) -> Any:
    (found,) = _query(metrics)[kind]
    assert found.key.step == "Step"
    assert (found.key.metric.namespace, found.key.metric.name) == ("here", "name")
    assert found.attempted == found.committed
    return found.committed


def _counter(value: int, name: str = "name", step: str = "Step") -> metrics_pb2.MonitoringInfo:
    return monitoring_infos.int64_user_counter("here", name, value, ptransform=step)


def _distribution(*values: int) -> metrics_pb2.MonitoringInfo:
    cell = cells.DistributionCell()
    for value in values:
        cell.update(value)
    return monitoring_infos.int64_user_distribution("here", "name", cell.get_cumulative(), **USER)


def _gauge(value: int, time_s: float) -> metrics_pb2.MonitoringInfo:
    return monitoring_infos.int64_user_gauge("here", "name", cells.GaugeData(value, time_s), **USER)


def _strings(*values: str) -> metrics_pb2.MonitoringInfo:
    return monitoring_infos.user_set_string("here", "name", set(values), **USER)


def _trie(*paths: tuple[str, ...]) -> metrics_pb2.MonitoringInfo:
    data = cells.BoundedTrieData()
    for path in paths:
        data.add(path)
    return monitoring_infos.user_bounded_trie("here", "name", data, **USER)


def _histogram(*values: int, buckets: int = 10) -> metrics_pb2.MonitoringInfo:
    histogram = Histogram(LinearBucket(0, 10, buckets))
    histogram.record(*values)
    return monitoring_infos.user_histogram("here", "name", cells.HistogramData(histogram), **USER)


def _double(kind: str, payload: bytes) -> metrics_pb2.MonitoringInfo:
    labels = {"PTRANSFORM": "Step", "NAMESPACE": "here", "NAME": "name"}
    return monitoring_infos.create_monitoring_info(
        f"beam:metric:user:{kind}:v1", f"beam:metrics:{kind}:v1", payload, labels
    )


def _doubles(*values: float) -> bytes:
    return struct.pack(f">{len(values)}d", *values)


def test_counters_add_up_over_bundles_and_rounds() -> None:
    assert _one(_committed([_counter(3)], [_counter(0)], [_counter(-5)]), "counters") == -2


def test_counters_of_a_step_that_two_stages_ran_are_one() -> None:
    metrics = _committed([_counter(3)], stage="s1")
    metrics.commit("s2", _response(_counter(4)))
    assert _one(metrics, "counters") == 7


def test_bundles_at_different_times_are_the_same_metric() -> None:
    early, late = _counter(1), _counter(2)
    early.start_time.FromSeconds(5)
    late.start_time.FromSeconds(6)
    assert _one(_committed([early], [late]), "counters") == 3


def test_distributions_merge_and_empty_ones_do_not_count() -> None:
    found = _one(_committed([_distribution(4, -2)], [_distribution()], [_distribution(9)]), "distributions")
    assert (found.sum, found.count, found.min, found.max) == (11, 3, -2, 9)


def test_a_distribution_that_was_never_updated_has_no_bounds() -> None:
    found = _one(_committed([_distribution()]), "distributions")
    assert (found.sum, found.count, found.min, found.max) == (0, 0, None, None)


@pytest.mark.parametrize("order", itertools.permutations([(7, 100.5), (-8, 100.25), (9, 99.0), (0, 0)]))
def test_a_gauge_has_its_latest_value_in_whatever_order_bundles_come(order: Sequence[tuple[int, float]]) -> None:
    found = _one(_committed(*[[_gauge(*pair)] for pair in order]), "gauges")
    assert (found.value, found.timestamp) == (7, 100.5)


def test_a_negative_gauge_is_not_hidden_by_bundles_that_set_none() -> None:
    assert _one(_committed([_gauge(0, 0)], [_gauge(-3, 50.0)], [_gauge(0, 0)]), "gauges").value == -3


def test_string_sets_unite() -> None:
    assert _one(_committed([_strings("a", "ü")], [_strings()], [_strings("a", "c")]), "string_sets") == {"a", "ü", "c"}


def test_bounded_tries_unite_and_stay_bounded() -> None:
    found = _one(_committed([_trie(("a", "b"))], [_trie()], [_trie(("a", "c"), ("d",))]), "bounded_tries")
    assert set(found.flattened()) == {("a", "b", False), ("a", "c", False), ("d", False)}
    many = _one(_committed(*[[_trie(("x", str(i)), ("y", str(i)))] for i in range(90)]), "bounded_tries")
    assert many.size() <= 100
    assert many.contains(("x", "17"))


def test_histograms_add_up_bucket_by_bucket() -> None:
    found = _one(_committed([_histogram(5, 15)], [_histogram(16, 95)]), "histograms")
    expected = Histogram(LinearBucket(0, 10, 10))
    expected.record(5, 15, 16, 95)
    assert found.histogram == expected


def test_doubles_keep_their_fractions() -> None:
    assert _one(
        _committed([_double("sum_double", _doubles(0.25))], [_double("sum_double", _doubles(1.5))]), "counters"
    ) == pytest.approx(1.75)
    first, second = b"\x02" + _doubles(0.75, 0.25, 0.5), b"\x01" + _doubles(1.5, 1.5, 1.5)
    bundles = [[_double("distribution_double", p)] for p in (first, second, b"\x00" + _doubles(0, 0, 0))]
    found = _one(_committed(*bundles), "distributions")
    assert (found.sum, found.count, found.min, found.max, found.mean) == (2.25, 3, 0.25, 1.5, 0.75)
    times = [coder_impl.VarIntCoderImpl().encode(ms) + _doubles(value) for ms, value in ((9000, 0.5), (8000, 2.5))]
    latest = _one(_committed(*[[_double("latest_double", p)] for p in times]), "gauges")
    assert (latest.value, latest.timestamp) == (0.5, 9.0)


def test_of_a_type_without_a_sum_the_last_report_is_kept() -> None:
    urn, kind = monitoring_infos.WORK_COMPLETED_URN, common_urns.monitoring_info_types.PROGRESS_TYPE.urn
    reports = [[monitoring_infos.create_monitoring_info(urn, kind, payload)] for payload in (b"first", b"second")]
    (info,) = _committed(*reports).monitoring_infos_by_stage()["s1"]
    assert info.payload == b"second"


def test_what_the_runner_measures_is_kept_per_stage_and_out_of_the_user_metrics() -> None:
    def measured(pcollection: str, elements: int) -> list[metrics_pb2.MonitoringInfo]:
        size = cells.DistributionData(8 * elements, elements, 8, 8)
        return [
            monitoring_infos.int64_counter(monitoring_infos.ELEMENT_COUNT_URN, elements, pcollection=pcollection),
            monitoring_infos.int64_distribution(monitoring_infos.SAMPLED_BYTE_SIZE_URN, size, pcollection=pcollection),
            monitoring_infos.int64_counter(monitoring_infos.TOTAL_MSECS_URN, 30, ptransform="Step"),
        ]

    metrics = _committed(measured("p1", 2), measured("p1", 3), measured("p2", 5))
    count, size, total, count2, _ = metrics.monitoring_infos_by_stage()["s1"]
    assert monitoring_infos.extract_counter_value(count) == 5
    assert monitoring_infos.extract_distribution(size) == (5, 40, 8, 8)
    assert monitoring_infos.extract_counter_value(total) == 90
    assert dict(count2.labels) == {"PCOLLECTION": "p2"}
    assert not any(_query(metrics).values())
    everything = RayMetrics(metrics.monitoring_infos_by_stage(), user_metrics_only=False)
    counts = {
        m.key.labels["PCOLLECTION"]: m.committed
        for m in everything.query()["counters"]
        if m.key.metric.name == "metric:element_count:v1"
    }
    assert counts == {"p1": 5, "p2": 5}
    assert len(everything.monitoring_infos()) == 6


def test_a_filter_selects_by_name_and_step() -> None:
    metrics = _committed([_counter(1), _counter(2, name="other"), _counter(4, step="Outer/Inner")])
    by_name = _query(metrics, MetricsFilter().with_name("other"))["counters"]
    assert [m.committed for m in by_name] == [2]
    by_step = _query(metrics, MetricsFilter().with_step("Inner"))["counters"]
    assert [m.committed for m in by_step] == [4]


def test_a_result_is_not_changed_by_later_commits() -> None:
    metrics = _committed([_strings("a"), _counter(1, name="count")])
    before = RayMetrics(metrics.monitoring_infos_by_stage(), user_metrics_only=True)
    metrics.commit("s1", _response(_strings("b"), _counter(1, name="count")))
    assert before.query()["string_sets"][0].committed == {"a"}
    assert before.query()["counters"][0].committed == 1


def test_queries_while_bundles_are_committed_see_whole_bundles() -> None:
    metrics = CommittedMetrics()
    response = _response(_counter(1, name="one"), _counter(1, name="two"))
    committing = threading.Thread(target=lambda: [metrics.commit("s1", response) for _ in range(3000)])
    committing.start()
    seen = []
    while committing.is_alive():
        seen.append([m.committed for m in _query(metrics)["counters"]])
    committing.join()
    assert all(not pair or pair[0] == pair[1] for pair in seen)
    assert len({tuple(pair) for pair in seen}) > 1, "no query fell between two commits: the test tests nothing"
    assert [m.committed for m in _query(metrics)["counters"]] == [3000, 3000]


class _Measures(beam.DoFn):
    def process(self, element: int) -> None:
        Metrics.counter("here", "name").inc(element)
        Metrics.distribution("here", "name").update(element)
        Metrics.gauge("here", "name").set(element)
        Metrics.string_set("here", "name").add(str(element))
        Metrics.bounded_trie("here", "name").add(("path", str(element)))


def test_what_beams_workers_report_gives_what_beams_own_runner_tells() -> None:
    pipeline = beam.Pipeline("FnApiRunner")
    pipeline | beam.Create([1, 5, 3], reshuffle=False) | "Step" >> beam.ParDo(_Measures())
    result = pipeline.run()
    metrics = CommittedMetrics()
    for stage, infos in result._monitoring_infos_by_stage.items():
        metrics.commit(stage, _response(*infos))
    assert _one(metrics, "counters") == 9
    ours, theirs = _query(metrics), result.metrics().query()
    assert {kind: found for kind, found in ours.items() if kind != "histograms"} == theirs
