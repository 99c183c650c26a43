"""One MCAP file from its first record to its last whole one: messages to their topics, and what is lost of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from transforms.episode import Finding
from transforms.sources import mcap_declared as declared
from transforms.sources import mcap_records as records
from transforms.sources.mcap_declared import Channel, DamagedRecord, Schema, Statistics
from transforms.sources.mcap_losses import Losses
from transforms.sources.mcap_records import Extent, Messages
from transforms.sources.ros_collect import STAGE, Batch, Collected, TopicCollector
from transforms.sources.ros_definition import type_name

_BATCH_BYTES = 8 << 20
"""Messages that are in no chunk are read together up to so many bytes."""
_DECLARATIONS = (records.SCHEMA, records.CHANNEL, records.METADATA, records.STATISTICS, records.FOOTER)


class McapReading:
    """Reads one file into `bag`; `channels` says afterwards which channels a topic had."""

    def __init__(self, path: Path, bag: Collected) -> None:
        self.path = path
        self.bag = bag
        self.channels: dict[int, Channel] = {}
        self.messages = 0
        self.span_ns: tuple[int, ...] = ()
        self._schemas: dict[int, Schema] = {}
        self._statistics: Statistics | None = None
        self._losses = Losses(path.name)
        self._where: dict[int, TopicCollector | str] = {}

    @property
    def ended(self) -> bool:
        """Whether the file has its footer."""
        return self._losses.ended

    def run(self, chunks: int | None = None) -> None:
        """Read every whole record; of `chunks` chunks alone where so many suffice. What is lost becomes findings."""
        size = self.path.stat().st_size
        read = 0
        with self.path.open("rb") as file:
            self._summarise(file, size)
            bare: list[Extent] = []
            for extent in records.walk(file, size):
                whole = extent.end <= size and extent.op != 0
                if bare and not (whole and extent.op == records.MESSAGE and extent.end - bare[0].at <= _BATCH_BYTES):
                    self._bare(file, bare)
                    bare = []
                if extent.op == records.CHUNK and (chunks is None or read < chunks):
                    self._chunk(file, extent, whole)
                    read += 1
                elif not whole:
                    self._losses.cut = f"a record that begins at byte {extent.at}"
                elif extent.op == records.MESSAGE:
                    bare.append(extent)
                elif extent.op == records.MESSAGE_INDEX:
                    self._losses.index_of(extent.size)
                elif extent.op in _DECLARATIONS:
                    self._declare(extent.op, records.content(file, extent), f"the record at byte {extent.at}")
            if bare:
                self._bare(file, bare)
        for number in self.channels:
            self.place(number)  # a topic without a message is known all the same
        if chunks is None:
            self.bag.findings += self._losses.findings(size, self.messages, self._statistics)

    def _summarise(self, file: BinaryIO, size: int) -> None:
        """Channels and schemas as the summary repeats them, since those in a damaged chunk are lost with it."""
        start = records.summary_at(file, size)
        for extent in records.walk(file, size, start) if start is not None else ():
            if extent.op in (records.SCHEMA, records.CHANNEL) and extent.end <= size:
                self._declare(extent.op, records.content(file, extent), f"the record at byte {extent.at}")

    def _declare(self, op: int, data: bytes | memoryview, where: str) -> None:
        try:
            if op == records.SCHEMA:
                schema = declared.read_schema(data)
                self._schemas[schema.schema_id] = schema
            elif op == records.CHANNEL:
                channel = declared.read_channel(data)
                if self.channels.get(channel.channel_id) != channel:
                    self.channels[channel.channel_id] = channel
                    self._where.pop(channel.channel_id, None)
            elif op == records.METADATA:
                name, texts = declared.read_metadata(bytes(data))
                self.bag.metadata.update({".".join(("metadata", name, key)): value for key, value in texts.items()})
            elif op == records.STATISTICS:
                self._statistics = declared.read_statistics(bytes(data))
            elif op == records.FOOTER:
                self._losses.ended = True
        except DamagedRecord as error:
            self._losses.damage.append(f"{where} (op {op}): {error}")

    def _chunk(self, file: BinaryIO, extent: Extent, whole: bool) -> None:
        data = records.content(file, extent)
        try:
            head = records.read_chunk_head(data)
        except DamagedRecord as error:
            self._losses.cut = f"the chunk at byte {extent.at}, of which {error}"
            return
        batch = Batch(str(self.path), extent.at)
        if not whole:
            left = records.partial_records(head, data)
            found = records.messages_in(left)
            self._take(found, batch)
            last = int(found.log_ns.max()) if len(found.log_ns) else None
            self._losses.chunk_cut(extent.at, head, last, len(left), len(found.log_ns))
            return
        try:
            found = records.messages_in(records.chunk_records(head, data))
        except DamagedRecord as error:
            self._losses.chunk_damaged(extent.at, head, str(error))
            return
        self._losses.chunk_whole(head.size, len(found.channel))
        self._take(found, batch)

    def _bare(self, file: BinaryIO, run: Sequence[Extent]) -> None:
        batch = Batch(str(self.path), run[0].at, run[-1].end - run[0].at)
        file.seek(batch.at)
        self._take(records.messages_in(file.read(batch.size)), batch)

    def _take(self, found: Messages, batch: Batch) -> None:
        """Hand the messages of a batch to their topics."""
        for extent in found.others:
            begin = extent.at + records.RECORD_HEAD
            data = found.buffer[begin : begin + extent.size].data
            self._declare(extent.op, data, f"a record in the chunk at byte {batch.at}")
        self.messages += len(found.channel)
        if len(found.log_ns):
            edges = (*self.span_ns, int(found.log_ns.min()), int(found.log_ns.max()))
            self.span_ns = (min(edges), max(edges))
        self.bag.hand_out(found, found.channel, batch, self)

    def topic_of(self, number: int) -> str:
        """The topic of a channel, or its number where it is not declared."""
        return self.channels[number].topic if number in self.channels else f"channel {number}"

    def place(self, number: int) -> TopicCollector | str:
        """Where the messages of a channel go, or why they are not read."""
        if number not in self._where:
            channel = self.channels.get(number)
            schema = self._schemas.get(channel.schema_id) if channel else None
            if channel is None or schema is None:
                return "its channel or schema is not declared"
            kind = type_name(schema.name)
            said = (schema.encoding, schema.text)
            self._where[number] = self.bag.place_for(channel.topic, kind, channel.encoding, said)
        return self._where[number]


def duplicated(reading: McapReading) -> list[Finding]:
    """Topics that several channels publish: their messages are read as one stream."""
    topics = [channel.topic for channel in reading.channels.values()]
    repeated = sorted({topic for topic in topics if topics.count(topic) > 1})
    return [
        Finding(
            STAGE,
            "metadata.topic_repeated",
            float(topics.count(topic)),
            "channels",
            detail=f"{reading.path.name}: {topic} is published on {topics.count(topic)} channels, read as one",
        )
        for topic in repeated
    ]
