"""Topics as streams of step columns: which fields stand side by side, on whose stamps, and what the clocks say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.arrays import list_column, matrix, rounded
from transforms.clocks import period_ns, usable
from transforms.conventions import TopicField, Topics
from transforms.episode import TIMESTAMP, CameraModel, Finding, Utterance
from transforms.sources.guess_topics import CAMERA_INFO, TEXT_KIND, TopicInfo, guess_topics
from transforms.sources.ros_topics import Topic, Values, field_values, filled_fields, header_stamps, texts
from transforms.sources.ros_wire import Part, Rows
from transforms.stream_columns import resample_stream

STAGE = "load"
LOG_TIME = "log_time_ns"
MANY = 8


@dataclass(frozen=True, eq=False)
class Streams:
    """What topics became: streams by name, camera models, instructions; `used` names the topics that had a part."""

    batches: Mapping[str, pa.RecordBatch]
    cameras: Mapping[str, CameraModel]
    utterances: tuple[Utterance, ...]
    used: frozenset[str]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class BagStart:
    """What the start of a bag suggests: a mapping, and the rate in Hz of each topic by the median step of its clock."""

    topics: Topics
    rates_hz: Mapping[str, float]


def described(topics: Mapping[str, Topic]) -> tuple[TopicInfo, ...]:
    """What a guess needs to know of the topics."""
    return tuple(TopicInfo(one.name, one.kind, filled_fields(one)) for one in topics.values())


def guessed(topics: Mapping[str, Topic], videos: Sequence[str], metadata: Sequence[str]) -> Topics:
    """`guess_topics` of topics that have been read; those without a message are not guessed at."""
    return guess_topics([one for one in described(topics) if topics[one.name].count], videos, metadata)


def start_of_bag(topics: Mapping[str, Topic], videos: Sequence[str], metadata: Sequence[str]) -> BagStart:
    """`guessed`, and the rates of the topics that have two stamps or more."""
    periods_ns = {name: period_ns(clock_of(topic)[0]) for name, topic in topics.items()}
    rates_hz = {name: 1e9 / period for name, period in periods_ns.items() if np.isfinite(period)}
    return BagStart(guessed(topics, videos, metadata), rates_hz)


def clock_of(topic: Topic) -> tuple[Rows, list[Finding]]:
    """(T,) ns: header stamps where messages have them, else log times; and how far the two are apart."""
    stamps = header_stamps(topic)
    if stamps is None or not topic.count:
        return topic.log_ns, []
    unset = int((stamps == 0).sum())
    if unset == topic.count:
        detail = f"{topic.name}: no header stamp is set; the log times are used"
        return topic.log_ns, [Finding(STAGE, "timestamps.header_unset", float(unset), "messages", detail=detail)]
    found = []
    if unset:
        detail = f"{topic.name}: {unset} of {topic.count} header stamps are not set"
        found.append(Finding(STAGE, "timestamps.header_unset", float(unset), "messages", detail=detail))
    late_ms = (topic.log_ns - stamps)[stamps != 0] / 1e6
    detail = f"{topic.name}: logged {late_ms.min():.6g} to {late_ms.max():.6g} ms after the header stamp"
    widest = float(late_ms[np.abs(late_ms).argmax()])
    found.append(Finding(STAGE, "timestamps.log_delay_ms", rounded(widest), "ms", detail=detail))
    return stamps, found


def _column(values: NDArray[np.generic]) -> pa.Array:
    """(T, D) as a list column, null where a row is NaN throughout."""
    if values.dtype.kind != "f" or not np.isnan(values).any():
        return list_column(values)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=pa.array(np.isnan(values).all(axis=1)))


class _Builder:
    """The streams in the making."""

    def __init__(self, topics: Mapping[str, Topic], wanted: Topics) -> None:
        self.topics = topics
        self.wanted = wanted
        self.findings: list[Finding] = []
        self.used: set[str] = set()
        self._clocks: dict[str, Rows] = {}

    def clock(self, name: str) -> Rows:
        if name not in self._clocks:
            self._clocks[name], found = clock_of(self.topics[name])
            self.findings += found
        return self._clocks[name]

    def present(self, column: str, topic: str) -> bool:
        """Whether a topic has messages; otherwise a finding that it is not there."""
        if topic in self.topics and self.topics[topic].count:
            return True
        what = "has no message" if topic in self.topics else "is not in the file"
        detail = f"{column}: topic {topic} {what}; topics with messages: {some(self._filled())}"
        self.findings.append(Finding(STAGE, "metadata.topic_absent", 1.0, "topics", detail=detail))
        return False

    def _filled(self) -> list[str]:
        return sorted(name for name, topic in self.topics.items() if topic.count)

    def values(self, column: str, part: TopicField) -> Values | None:
        """The field's values; a finding where there are none, or where the joints change."""
        topic = self.topics[part.topic]
        found = field_values(topic, part.field, part.joints)
        if found is None:
            known = some(filled_fields(topic))
            detail = f"{column}: no message of {part.topic} holds {part.field!r}; they hold {known}"
            self.findings.append(Finding(STAGE, "metadata.topic_absent", 1.0, "topics", detail=detail))
            return None
        for count, what in ((found.other_names, "names other joints"), (found.lacking, f"lacks {part.field!r}")):
            if count:
                detail = f"{column}: {part.topic} {what} in {count} of {topic.count} messages"
                self.findings.append(Finding(STAGE, "metadata.joint_names", float(count), "messages", detail=detail))
        return found

    def stream(self, columns: Mapping[str, Sequence[TopicField]]) -> pa.RecordBatch | None:
        """One batch of columns that are made of the same topics, on the stamps of the first."""
        made: dict[str, list[tuple[str, Values]]] = {}
        for column, parts in columns.items():
            there = [self.present(column, part.topic) for part in parts]
            if not all(there):
                continue
            values = [(part.topic, found) for part in parts if (found := self.values(column, part)) is not None]
            if len(values) == len(parts):
                made[column] = values
        if not made:
            return None
        order = list(dict.fromkeys(topic for values in made.values() for topic, _ in values))
        self.used |= set(order)
        name, first = next(iter(made)), order[0]
        times = self.clock(first)
        paired = {first: True, **{other: self._paired(name, times, other) for other in order[1:]}}
        arrays = [pa.array(times, mask=times == 0 if (times == 0).any() else None)]
        for column, values in made.items():
            arrays.append(_column(np.hstack([self._moved(column, t, v, times, paired[t]) for t, v in values])))
        arrays.append(pa.array(self.topics[first].log_ns))
        return pa.RecordBatch.from_arrays(arrays, [TIMESTAMP, *made, f"{LOG_TIME}.{name}"])

    def _paired(self, column: str, times: Rows, other: str) -> bool:
        """Whether another topic goes row by row with a clock: as many stamps, all within half a period."""
        theirs = self.clock(other)
        if len(theirs) != len(times):
            return False
        apart = int(np.abs(theirs - times).max(initial=0))
        if not apart < period_ns(times) / 2:
            return False
        detail = f"{column}: {other} goes row by row with the stream's first topic"
        self.findings.append(Finding(STAGE, "alignment.topic_skew_ms", rounded(apart / 1e6), "ms", detail=detail))
        return True

    def _moved(self, column: str, topic: str, values: Values, times: Rows, paired: bool) -> NDArray[np.generic]:
        if paired:
            return values.array
        theirs = self.clock(topic)
        everywhere = np.ones(len(theirs), np.bool_)
        if not (usable(theirs, everywhere) and usable(times, np.ones(len(times), np.bool_))):
            detail = f"{column}: {topic} or the stream's first topic has stamps that are equal or run backward"
            self.findings.append(Finding(STAGE, "alignment.stream_left_out", 1.0, "streams", detail=detail))
            return np.full((len(times), values.array.shape[1]), np.nan)
        batch = pa.RecordBatch.from_arrays([_column(values.array)], [column])
        moved = matrix(resample_stream(batch, theirs, times, {}).columns[column])
        assert moved is not None
        return moved

    def camera_models(self) -> Iterator[tuple[str, CameraModel]]:
        """The first CameraInfo of each camera; a finding where later ones differ."""
        for camera, name in sorted(self.wanted.camera_info.items()):
            if not self.present(f"camera_info {camera}", name) or self.topics[name].kind != CAMERA_INFO:
                continue
            self.used.add(name)
            models = [m for part in self.topics[name].parts for m in _models(part)]
            models.sort(key=lambda one: one[0])
            if others := sum(model != models[0][1] for _, model in models):
                detail = f"{camera}: {others} of {len(models)} CameraInfo differ from the first"
                self.findings.append(Finding(STAGE, "metadata.camera_info", float(others), "messages", detail=detail))
            yield camera, models[0][1]

    def utterances(self, metadata: Mapping[str, str]) -> Iterator[Utterance]:
        """Texts of the instruction topics, each until the next; a single one holds throughout, as does metadata."""
        for name in self.wanted.instruction:
            if name in metadata:
                yield Utterance(metadata[name])
            elif self.present("instruction", name) and self.topics[name].kind == TEXT_KIND:
                self.used.add(name)
                yield from _spoken(texts(self.topics[name], "data"), self.clock(name))


def _models(part: Part) -> list[tuple[int, CameraModel]]:
    """Row and camera of each CameraInfo; ROS 1 writes D and K in capitals."""
    columns = {path.lower(): values for path, values in part.columns.items()}
    rows = zip(part.rows, columns["width"], columns["height"], columns["k"], columns["d"], strict=True)
    return [(int(row), CameraModel(int(w), int(h), tuple(k.tolist()), tuple(d.tolist()))) for row, w, h, k, d in rows]


def _spoken(said: Sequence[str], times: Rows) -> list[Utterance]:
    starts = [i for i in range(len(said)) if i == 0 or said[i] != said[i - 1]]
    if len(starts) == 1:
        return [Utterance(said[0])] if said[0].strip() else []
    ends = [int(times[i]) for i in starts[1:]] + [None]
    return [Utterance(said[i], int(times[i]), end) for i, end in zip(starts, ends, strict=True) if said[i].strip()]


def some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:MANY]) or "none"
    return f"{shown} and {len(names) - MANY} more" if len(names) > MANY else shown


def camera_frames(topic: Topic) -> tuple[pa.RecordBatch, list[Finding]]:
    """The stream of an image topic: stamp, index among its images, log time."""
    times, found = clock_of(topic)
    arrays = [pa.array(times), pa.array(np.arange(topic.count)), pa.array(topic.log_ns)]
    return pa.RecordBatch.from_arrays(arrays, [TIMESTAMP, "index", LOG_TIME]), found


def build_streams(topics: Mapping[str, Topic], wanted: Topics, metadata: Mapping[str, str]) -> Streams:
    """Streams of the wanted columns: those of the same topics together. `metadata` is texts by `metadata.NAME.KEY`.

    A topic or field that is not there is a finding, and its column is left out.
    """
    work = _Builder(topics, wanted)
    groups: dict[tuple[str, ...], dict[str, Sequence[TopicField]]] = {}
    for column, parts in wanted.columns.items():
        groups.setdefault(tuple(dict.fromkeys(part.topic for part in parts)), {})[column] = parts
    batches: dict[str, pa.RecordBatch] = {}
    for columns in groups.values():
        batch = work.stream(columns)
        if batch is not None:
            batches[batch.schema.names[1]] = batch
    cameras = dict(work.camera_models())
    utterances = tuple(work.utterances(metadata))
    return Streams(batches, cameras, utterances, frozenset(work.used), tuple(work.findings))
