"""How the values of one metric from many bundles become one: a total for each of Beam's monitoring-info types."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from apache_beam.metrics.metric import MetricResults

from beam_pipeline.runner.beam_internals import cells, coder_impl, coders, common_urns, metrics_pb2, monitoring_infos

_TYPES = common_urns.monitoring_info_types
_INT64_MIN = -(1 << 63)
_INT64_MAX = (1 << 63) - 1
_STRINGS = coders.IterableCoder(coders.StrUtf8Coder())


class MetricTotal(ABC):
    """The total over the payloads added. `kind` names its list in MetricResults, None where it has none."""

    kind: str | None = None

    @abstractmethod
    def add(self, payload: bytes) -> None:
        """Add one bundle's value, encoded as Beam's metrics.proto says."""

    @abstractmethod
    def payload(self) -> bytes:
        """The total, encoded in the same way."""

    @abstractmethod
    def result(self) -> Any:
        """The total as MetricResult has it; later additions do not change it."""


class _Sum(MetricTotal):
    kind = MetricResults.COUNTERS

    def __init__(self) -> None:
        self._sum = 0

    def add(self, payload: bytes) -> None:
        self._sum += coder_impl.create_InputStream(payload).read_var_int64()

    def payload(self) -> bytes:
        return _encoded(self._sum)

    def result(self) -> int:
        return self._sum


class _DoubleSum(MetricTotal):
    kind = MetricResults.COUNTERS

    def __init__(self) -> None:
        self._sum = 0.0

    def add(self, payload: bytes) -> None:
        self._sum += coder_impl.create_InputStream(payload).read_bigendian_double()

    def payload(self) -> bytes:
        return _encoded(self._sum)

    def result(self) -> float:
        return self._sum


@dataclass(frozen=True, slots=True)
class DoubleDistribution:
    """What Beam's DistributionData is for integers: that class cuts fractions off."""

    sum: float
    count: int
    min: float
    max: float


class _Distribution(MetricTotal):
    kind = MetricResults.DISTRIBUTIONS

    def __init__(self) -> None:
        self._count, self._sum, self._min, self._max = 0, 0, _INT64_MAX, _INT64_MIN

    def add(self, payload: bytes) -> None:
        read = coder_impl.create_InputStream(payload).read_var_int64
        count = read()
        if count:  # the bounds of an empty distribution mean nothing
            self._count += count
            self._sum += read()
            self._min = min(self._min, read())
            self._max = max(self._max, read())

    def payload(self) -> bytes:
        return _encoded(self._count, self._sum, self._min, self._max)

    def result(self) -> cells.DistributionResult:
        return cells.DistributionResult(cells.DistributionData(self._sum, self._count, self._min, self._max))


class _DoubleDistribution(MetricTotal):
    kind = MetricResults.DISTRIBUTIONS

    def __init__(self) -> None:
        self._count, self._sum, self._min, self._max = 0, 0.0, float("inf"), float("-inf")

    def add(self, payload: bytes) -> None:
        stream = coder_impl.create_InputStream(payload)
        count = stream.read_var_int64()
        if count:
            self._count += count
            self._sum += stream.read_bigendian_double()
            self._min = min(self._min, stream.read_bigendian_double())
            self._max = max(self._max, stream.read_bigendian_double())

    def payload(self) -> bytes:
        return _encoded(self._count, self._sum, self._min, self._max)

    def result(self) -> cells.DistributionResult:
        return cells.DistributionResult(DoubleDistribution(self._sum, self._count, self._min, self._max))


class _Latest(MetricTotal):
    """The value with the latest time in ms; of those set in the same ms the largest, so that any order gives the same.

    A bundle that does not set its gauge reports 0 at the time 0.
    """

    kind = MetricResults.GAUGES

    def __init__(self) -> None:
        self._latest: tuple[int, float] = (0, 0)

    def add(self, payload: bytes) -> None:
        read = coder_impl.create_InputStream(payload).read_var_int64
        latest = (read(), read())
        if latest[0]:
            self._latest = max(self._latest, latest) if self._latest[0] else latest

    def payload(self) -> bytes:
        return _encoded(*self._latest)

    def result(self) -> cells.GaugeResult:
        time_ms, value = self._latest
        return cells.GaugeResult(cells.GaugeData(value, time_ms / 1000))


class _DoubleLatest(_Latest):
    def __init__(self) -> None:
        self._latest: tuple[int, float] = (0, 0.0)

    def add(self, payload: bytes) -> None:
        stream = coder_impl.create_InputStream(payload)
        latest = (stream.read_var_int64(), stream.read_bigendian_double())
        if latest[0]:
            self._latest = max(self._latest, latest) if self._latest[0] else latest


class _Strings(MetricTotal):
    kind = MetricResults.STRINGSETS

    def __init__(self) -> None:
        self._data = cells.StringSetData()

    def add(self, payload: bytes) -> None:
        self._data.add(*_STRINGS.decode(payload))

    def payload(self) -> bytes:
        encoded: bytes = _STRINGS.encode(sorted(self._data.string_set))
        return encoded

    def result(self) -> set[str]:
        return set(self._data.string_set)


class _BoundedTrie(MetricTotal):
    kind = MetricResults.BOUNDED_TRIES

    def __init__(self) -> None:
        self._data = cells.BoundedTrieData()

    def add(self, payload: bytes) -> None:
        trie = metrics_pb2.BoundedTrie.FromString(payload)
        if trie.singleton or trie.HasField("root"):
            self._data = self._data.combine(cells.BoundedTrieData.from_proto(trie))

    def payload(self) -> bytes:
        encoded: bytes = self._data.to_proto().SerializeToString(deterministic=True)
        return encoded

    def result(self) -> cells.BoundedTrieData:
        return self._data.get_cumulative()


class _Histogram(MetricTotal):
    kind = MetricResults.HISTOGRAMS

    def __init__(self) -> None:
        self._data: cells.HistogramData | None = None

    def add(self, payload: bytes) -> None:
        other = cells.HistogramData.from_proto(metrics_pb2.HistogramValue.FromString(payload))
        self._data = other.combine(self._data)

    def payload(self) -> bytes:
        assert self._data is not None
        encoded: bytes = self._data.to_proto().SerializeToString()
        return encoded

    def result(self) -> cells.HistogramResult:
        assert self._data is not None
        return cells.HistogramResult(cells.HistogramData(self._data.histogram.copy()))


class _LastReport(MetricTotal):
    """What has no sum, such as a fraction of work done: the last bundle's report."""

    def __init__(self) -> None:
        self._last = b""

    def add(self, payload: bytes) -> None:
        self._last = payload

    def payload(self) -> bytes:
        return self._last

    def result(self) -> bytes:
        return self._last


_TOTALS: dict[str, type[MetricTotal]] = {
    monitoring_infos.SUM_INT64_TYPE: _Sum,
    _TYPES.SUM_DOUBLE_TYPE.urn: _DoubleSum,
    monitoring_infos.DISTRIBUTION_INT64_TYPE: _Distribution,
    _TYPES.DISTRIBUTION_DOUBLE_TYPE.urn: _DoubleDistribution,
    monitoring_infos.LATEST_INT64_TYPE: _Latest,
    _TYPES.LATEST_DOUBLE_TYPE.urn: _DoubleLatest,
    monitoring_infos.STRING_SET_TYPE: _Strings,
    monitoring_infos.BOUNDED_TRIE_TYPE: _BoundedTrie,
    monitoring_infos.HISTOGRAM_TYPE: _Histogram,
}


def new_total(type_urn: str) -> MetricTotal:
    """An empty total for a monitoring info's type; the last report is kept of a type that has no sum here."""
    return _TOTALS.get(type_urn, _LastReport)()


def _encoded(*values: float) -> bytes:
    stream = coder_impl.create_OutputStream()
    for value in values:
        if isinstance(value, int):
            stream.write_var_int64(value)
        else:
            stream.write_bigendian_double(value)
    encoded: bytes = stream.get()
    return encoded
