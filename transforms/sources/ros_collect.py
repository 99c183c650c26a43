"""Messages of a bag, collected topic by topic as they are met: decoded in batches, counted where they cannot be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from transforms.episode import Finding
from transforms.sources.guess_topics import CAMERA_INFO, IMAGE_KINDS, JOINTS, TEXT_KIND, TRANSFORMS
from transforms.sources.ros_definition import Definition, UnknownDefinition, is_known, parse_definition
from transforms.sources.ros_topics import FIELDS, Topic, in_log_order
from transforms.sources.ros_wire import Decoder, Part, Rows, Wire, merged

STAGE = "load"
WIRES: Mapping[tuple[str, str], Wire] = {
    ("cdr", "ros2msg"): "cdr",
    ("cdr", ""): "cdr",
    ("ros1", "ros1msg"): "ros1",
}
"""How messages are serialised, by the encodings of message and schema; a schema of no encoding is a standard type."""
READ_KINDS = frozenset((*FIELDS, *IMAGE_KINDS, CAMERA_INFO, JOINTS, TEXT_KIND, TRANSFORMS))
"""Types that are read unasked; others where the configuration names their topic."""


@dataclass(frozen=True)
class Batch:
    """Where messages were read in one go: in a file, from byte `at` or row `at`, over `size` of them."""

    file: str
    at: int
    size: int = 0


@dataclass
class TopicCollector:
    """One topic's messages: decoded `parts`, log times of all, images hashed as they pass.

    `batches` says where each batch came from, and `sizes` how many of its messages are whole.
    """

    name: str
    kind: str
    definition: Definition
    wire: Wire
    definition_text: str = ""
    decoder: Decoder = field(init=False)
    log_ns: list[Rows] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    count: int = 0
    malformed: int = 0
    why: str = ""
    spare: int = 0
    spare_messages: int = 0
    digest: xxhash.xxh3_128 = field(default_factory=xxhash.xxh3_128)
    image_bytes: int = 0
    batches: list[Batch] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.decoder = Decoder(self.definition, self.wire)

    def add(self, batch: Batch, buffer: NDArray[np.uint8], starts: Rows, sizes: Rows, log_ns: Rows) -> None:
        """Messages at `starts` (N,) of `sizes` (N,) bytes in a buffer that need not stay."""
        parts, bad, why = self.decoder.decode(buffer, starts, sizes, self.count)
        for part in parts:
            spare = part.spare
            if spare.any():
                self.spare += int(spare.sum())
                self.spare_messages += int(np.count_nonzero(spare))
        self.batches.append(batch)
        self.sizes.append(len(starts) - len(bad))
        if self.kind in IMAGE_KINDS:
            self._hash(buffer, starts, parts)
        self.parts += parts
        self.log_ns.append(log_ns)
        self.count += len(starts)
        self.malformed += len(bad)
        self.why = self.why or why

    def _hash(self, buffer: NDArray[np.uint8], starts: Rows, parts: Iterable[Part]) -> None:
        spans = [(row - self.count, *tail) for p in parts for row, tail in zip(p.rows, p.tails.tolist(), strict=True)]
        for row, offset, size in sorted(spans):
            begin = int(starts[row]) + offset
            self.digest.update(buffer[begin : begin + size].data)
            self.image_bytes += size

    def topic(self) -> Topic:
        """Everything that was decoded, in order of log time."""
        times = np.concatenate(self.log_ns) if self.log_ns else np.zeros(0, np.int64)
        return in_log_order(self.name, self.kind, times, merged(self.parts))

    def ordinals(self) -> Rows:
        """For each whole message in order of log time, its number among all of the topic in the order of the files."""
        times = np.concatenate(self.log_ns) if self.log_ns else np.zeros(0, np.int64)
        kept = np.sort(np.concatenate([part.rows for part in self.parts])) if self.parts else np.zeros(0, np.int64)
        return kept[np.argsort(times[kept], kind="stable")]

    def file_order(self) -> tuple[int, ...]:
        """The same among whole messages alone; empty where the files are in order of log time."""
        order = np.argsort(np.argsort(self.ordinals()))
        return () if np.array_equal(order, np.arange(len(order))) else tuple(order.tolist())

    def findings(self) -> list[Finding]:
        """Messages that could not be decoded, and bytes that follow the messages."""
        found = []
        if self.malformed:
            detail = f"{self.name}: {self.malformed} of {self.count} messages are no {self.kind}; the first: {self.why}"
            found.append(Finding(STAGE, "integrity.malformed", float(self.malformed), "messages", detail=detail))
        if self.spare_messages:
            many = self.spare / self.spare_messages
            detail = (
                f"{self.name}: {self.spare_messages} of {self.count} messages go on for {many:g} bytes after their end"
            )
            found.append(
                Finding(STAGE, "metadata.trailing_bytes", float(self.spare_messages), "messages", detail=detail)
            )
        return found


class Stored(Protocol):
    """Messages of a batch as they lie in a buffer: first byte, size and log time of each (N,)."""

    @property
    def buffer(self) -> NDArray[np.uint8]: ...
    @property
    def starts(self) -> Rows: ...
    @property
    def sizes(self) -> Rows: ...
    @property
    def log_ns(self) -> Rows: ...


class Publishers(Protocol):
    """Who publishes in a file, by the number that its messages carry (a channel, a connection)."""

    def place(self, number: int) -> TopicCollector | str:
        """Where its messages go, or why they are not read."""
        ...

    def topic_of(self, number: int) -> str:
        """Its topic's name, or what it is called where it is not declared."""
        ...


@dataclass
class Collected:
    """What the files of one bag come to. `named` are the topics that the configuration names, None where none are.

    `skipped` are topics that cannot be read: why, and how many messages they have; `unread` those not asked for.
    """

    named: frozenset[str] | None = None
    topics: dict[str, TopicCollector] = field(default_factory=dict)
    skipped: dict[str, tuple[str, int]] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)
    metadata: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def place_for(self, topic: str, kind: str, encoding: str, schema: tuple[str, str]) -> TopicCollector | str:
        """Where a topic's messages go, or why they cannot be read; an empty text where nobody asked for them.

        `schema` is the encoding of the message's definition and its text.
        """
        wire = WIRES.get((encoding, schema[0]))
        if wire is None:
            return f"messages of encoding {encoding!r} with a schema of {schema[0]!r}; cdr with ros2msg is read"
        known = self.topics.get(topic)
        if known is not None:
            return known if known.kind == kind else f"it is published as {known.kind} and as {kind}"
        if (topic not in self.named) if self.named is not None else kind not in READ_KINDS:
            return ""
        try:
            definition = parse_definition(kind, schema[1])
        except UnknownDefinition as error:
            return str(error)
        text = "" if is_known(definition) else schema[1]
        self.topics[topic] = TopicCollector(topic, kind, definition, wire, text)
        return self.topics[topic]

    def hand_out(self, found: Stored, numbers: Rows, batch: Batch, publishers: Publishers) -> None:
        """Hand the messages of a batch to their topics; `numbers` (N,) say who published each."""
        for number in np.unique(numbers).tolist():
            rows = np.flatnonzero(numbers == number)
            into = publishers.place(number)
            if isinstance(into, TopicCollector):
                into.add(batch, found.buffer, found.starts[rows], found.sizes[rows], found.log_ns[rows])
            else:
                self.skip(publishers.topic_of(number), into, len(rows))

    def skip(self, topic: str, why: str, count: int) -> None:
        """Count messages that are not read."""
        if why:
            self.skipped[topic] = (why, self.skipped.get(topic, ("", 0))[1] + count)
        else:
            self.unread.add(topic)

    def all_findings(self) -> tuple[Finding, ...]:
        """Those of the files, of every topic, and of topics that were skipped."""
        found = [*self.findings, *(one for topic in self.topics.values() for one in topic.findings())]
        for topic, (why, count) in sorted(self.skipped.items()):
            detail = f"{topic}: {count} messages are left out: {why}"
            found.append(Finding(STAGE, "metadata.message_encoding", float(count), "messages", detail=detail))
        return tuple(found)
