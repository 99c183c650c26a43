"""One ROS 1 bag from its first record to its last whole one: messages to their topics, and what is lost of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from transforms.sources import rosbag1_records as records
from transforms.sources.guess_topics import TRANSFORMS
from transforms.sources.ros_collect import Batch, Collected, TopicCollector
from transforms.sources.rosbag1_losses import Losses
from transforms.sources.rosbag1_messages import Messages, messages_in
from transforms.sources.rosbag1_records import Connection, DamagedRecord, Record

_BATCH_BYTES = 8 << 20
"""Messages that are in no chunk are read together up to so many bytes."""
_ALIASES = {"tf/tfMessage": TRANSFORMS}
"""Types that were renamed and are laid out as before."""


class BagReading:
    """Reads one file into `bag`; `connections` says afterwards which connections a topic had."""

    def __init__(self, path: Path, bag: Collected) -> None:
        self.path = path
        self.bag = bag
        self.connections: dict[int, Connection] = {}
        self.losses = Losses(path.name, path.stat().st_size)
        self._where: dict[int, TopicCollector | str] = {}
        self._last_chunk = 0

    def run(self, chunks: int | None = None) -> None:
        """Read every whole record; of `chunks` chunks alone where so many suffice. What is lost becomes findings."""
        size, read = self.losses.size, 0
        with self.path.open("rb") as file:
            self._read_summary(file, size)
            at = len(records.MAGIC)
            bare: list[Record] = []
            while at < size and (chunks is None or read < chunks):
                try:
                    record = records.record_at(file, at, size)
                except DamagedRecord as error:
                    at = self._after_damage(at, str(error))
                    continue
                whole = record.end <= size
                alone = whole and record.op in (records.MESSAGE, records.CONNECTION)
                if bare and not (alone and record.end - bare[0].at <= _BATCH_BYTES):
                    self._bare(file, bare)
                    bare = []
                if record.op == records.CHUNK:
                    self._chunk(file, record, whole)
                    read += 1
                elif not whole:
                    self.losses.cut = f"a record that begins at byte {at}"
                elif alone:
                    bare.append(record)
                elif record.op == records.INDEX and (info := records.index_info(records.content(file, record))):
                    self.losses.expect_more(self._last_chunk, info)
                at = record.end
            if bare:
                self._bare(file, bare)
        for number in self.connections:
            self.place(number)  # a topic without a message is known all the same
        if chunks is None:
            self.bag.findings += self.losses.findings()

    def _read_summary(self, file: BinaryIO, size: int) -> None:
        """Connections and chunks by the index at the end, so that damage before it is told from what is whole."""
        try:
            head = records.record_at(file, len(records.MAGIC), size)
            self.losses.index_pos = head.number("index_pos")
            if not 0 < self.losses.index_pos <= size:
                began = f"it would begin at byte {self.losses.index_pos}"
                self.losses.why_no_index = began if self.losses.index_pos else "the bag was never closed"
                return
            connections, infos = records.read_summary(file, self.losses.index_pos, size)
        except DamagedRecord as error:
            self.losses.why_no_index = str(error)
            return
        self.losses.ended = True
        self.losses.expect(infos)
        self.connections = {one.number: one for one in connections}

    def _after_damage(self, at: int, why: str) -> int:
        """Where to go on after bytes that are no record: at the next chunk that the index names, else nowhere."""
        following = [place for place in self.losses.chunks if place > at]
        if not following:
            self.losses.cut = f"a record that begins at byte {at} ({why})"
            return self.losses.size
        self.losses.damage.append(f"the bytes from {at} to {min(following)} are no record: {why}")
        return min(following)

    def _chunk(self, file: BinaryIO, record: Record, whole: bool) -> None:
        where = f"the chunk at byte {record.at}"
        self._last_chunk = record.at
        data = records.content(file, record)
        try:
            unpacked, why = records.chunk_records(record, data)
        except DamagedRecord as error:
            unpacked, why = b"", str(error)
        found = messages_in(unpacked)
        if not why and found.spare:
            why = f"{found.spare} bytes at its end are no whole record"
        elif not why and found.unknown:
            why = f"{found.unknown} of its records have a header that cannot be read"
        self._take(found, Batch(str(self.path), record.at))
        self.losses.took(record.at, found)
        if not whole:
            self.losses.cut = f"{where}: {why}"
            self.losses.chunk_cut(record.at, record.end, int.from_bytes(record.fields.get("size", b""), "little"))
        elif why:
            self.losses.damage.append(f"{where}, of which {len(found.log_ns)} messages are whole: {why}")

    def _bare(self, file: BinaryIO, run: Sequence[Record]) -> None:
        batch = Batch(str(self.path), run[0].at, run[-1].end - run[0].at)
        file.seek(batch.at)
        found = messages_in(file.read(batch.size))
        self._take(found, batch)
        if len(found.log_ns):
            self.losses.took(batch.at, found)

    def _take(self, found: Messages, batch: Batch) -> None:
        """Hand the messages of a batch to their topics."""
        for record in found.others:
            if record.op == records.CONNECTION:
                self._declare(record, found.buffer[record.data_at : record.end].data, batch)
        self.bag.hand_out(found, found.connection, batch, self)

    def _declare(self, record: Record, data: memoryview, batch: Batch) -> None:
        try:
            connection = records.connection_of(record, data)
        except DamagedRecord as error:
            self.losses.damage.append(f"a connection of the records at byte {batch.at}: {error}")
            return
        if self.connections.get(connection.number) != connection:
            self.connections[connection.number] = connection
            self._where.pop(connection.number, None)

    def topic_of(self, number: int) -> str:
        """The topic of a connection, or its number where it is not declared."""
        return self.connections[number].topic if number in self.connections else f"connection {number}"

    def place(self, number: int) -> TopicCollector | str:
        """Where the messages of a connection go, or why they are not read."""
        if number not in self._where:
            connection = self.connections.get(number)
            if connection is None:
                return "its connection is not declared"
            if not connection.definition.strip():
                return f"its connection holds no definition of {connection.kind}"
            kind = _ALIASES.get(connection.kind, connection.kind)
            said = ("ros1msg", connection.definition)
            self._where[number] = self.bag.place_for(connection.topic, kind, "ros1", said)
        return self._where[number]
