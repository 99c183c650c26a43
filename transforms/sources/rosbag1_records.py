"""The records of a ROS 1 bag, format 2.0 (http://wiki.ros.org/Bags/Format/2.0): one after another, no index needed."""

from __future__ import annotations

import bz2
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

MAGIC = b"#ROSBAG V2.0\n"
FAMILY = b"#ROSBAG V"
MESSAGE, BAG, INDEX, CHUNK, CHUNK_INFO, CONNECTION = 2, 3, 4, 5, 6, 7
NS = 1_000_000_000
_WORD = struct.Struct("<I")
_MAX_HEADER = 1 << 24
_MAX_CHUNK = 1 << 30
_STEP = 1 << 20
_INDEX_ENTRY = np.dtype([("sec", "<u4"), ("nsec", "<u4"), ("offset", "<u4")])


class DamagedRecord(ValueError):
    """Bytes that are no record; the message says what is wrong with them."""


@dataclass(frozen=True)
class Record:
    """A record's header fields and the place of its data, which may reach past the end of what is there."""

    at: int
    op: int
    fields: Mapping[str, bytes]
    data_at: int
    data_size: int

    @property
    def end(self) -> int:
        return self.data_at + self.data_size

    def number(self, name: str) -> int:
        """A little-endian number. Raises DamagedRecord where the header lacks it."""
        if name not in self.fields:
            raise DamagedRecord(f"its header has no {name!r}, it has {', '.join(sorted(self.fields)) or 'nothing'}")
        return int.from_bytes(self.fields[name], "little")


@dataclass(frozen=True)
class Connection:
    """A topic as one node published it; `md5` is of the definition."""

    number: int
    topic: str
    kind: str
    definition: str
    md5: str


@dataclass(frozen=True)
class ChunkInfo:
    """What an index says of a chunk: its messages and the log times of the first and last of them."""

    count: int
    start_ns: int
    end_ns: int


def has_magic(path: Path) -> bool:
    """Whether a file begins as ROS bags of any version do."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(FAMILY)) == FAMILY


def fields_of(header: bytes | memoryview) -> dict[str, bytes]:
    """The `name=value` fields of a header. Raises DamagedRecord."""
    fields: dict[str, bytes] = {}
    at, size = 0, len(header)
    while at < size:
        if at + 4 > size:
            raise DamagedRecord(f"a field's length at byte {at} of its header's {size}")
        end = at + 4 + _WORD.unpack_from(header, at)[0]
        name, equals, value = bytes(header[at + 4 : end]).partition(b"=")
        if end > size or not equals:
            raise DamagedRecord(f"a field at byte {at} of its header's {size} bytes is no NAME=VALUE")
        fields[name.decode("utf-8", "replace")] = value
        at = end
    return fields


def record_at(file: BinaryIO, at: int, size: int) -> Record:
    """The record that begins at a byte of a file of `size` bytes; its data is not read. Raises DamagedRecord."""
    file.seek(at)
    head = file.read(4)
    length = _WORD.unpack(head)[0] if len(head) == 4 else 0
    if len(head) < 4 or length > min(_MAX_HEADER, size - at):
        raise DamagedRecord(f"{size - at} bytes are left for a header of {length}")
    header = file.read(length)
    word = file.read(4)
    if len(word) < 4:
        raise DamagedRecord("the file ends in its header")
    fields = fields_of(header)
    if len(fields.get("op", b"")) != 1:
        raise DamagedRecord("its header has no operation code")
    return Record(at, fields["op"][0], fields, at + 8 + length, _WORD.unpack(word)[0])


def content(file: BinaryIO, record: Record) -> bytes:
    """The data of a record, or what the file still holds of it."""
    file.seek(record.data_at)
    return file.read(record.data_size)


def connection_of(record: Record, data: bytes | memoryview) -> Connection:
    """A connection record. Raises DamagedRecord."""
    about = {name: value.decode("utf-8", "replace") for name, value in fields_of(data).items()}
    topic = record.fields.get("topic", b"").decode("utf-8", "replace") or about.get("topic", "")
    if "type" not in about or not topic:
        raise DamagedRecord(f"connection {record.number('conn')} names no topic or no type")
    definition = about.get("message_definition", "")
    return Connection(record.number("conn"), topic, about["type"], definition, about.get("md5sum", ""))


def time_ns(value: int) -> int:
    """Nanoseconds of a `time` field: seconds in the lower word, nanoseconds in the upper."""
    return (value & 0xFFFFFFFF) * NS + (value >> 32)


def read_summary(file: BinaryIO, index_pos: int, size: int) -> tuple[list[Connection], dict[int, ChunkInfo]]:
    """What the end of a file says: its connections, and what is in its chunks by their place. Raises DamagedRecord."""
    connections: list[Connection] = []
    infos: dict[int, ChunkInfo] = {}
    at = index_pos
    while at < size:
        record = record_at(file, at, size)
        if record.end > size:
            raise DamagedRecord(f"it ends {record.end - size} bytes early")
        if record.op == CONNECTION:
            connections.append(connection_of(record, content(file, record)))
        elif record.op == CHUNK_INFO:
            counts = np.frombuffer(content(file, record), "<u4")[1 : 2 * record.number("count") : 2]
            start, end = (time_ns(record.number(name)) for name in ("start_time", "end_time"))
            infos[record.number("chunk_pos")] = ChunkInfo(int(counts.sum(dtype=np.int64)), start, end)
        at = record.end
    return connections, infos


def index_info(data: bytes) -> ChunkInfo | None:
    """What an index record behind a chunk says of one connection's messages in it; None of none."""
    entries = np.frombuffer(data[: len(data) // _INDEX_ENTRY.itemsize * _INDEX_ENTRY.itemsize], _INDEX_ENTRY)
    if not len(entries):
        return None
    times = entries["sec"].astype(np.int64) * NS + entries["nsec"]
    return ChunkInfo(len(entries), int(times.min()), int(times.max()))


def joined(first: ChunkInfo | None, more: ChunkInfo) -> ChunkInfo:
    """Both together."""
    if first is None:
        return more
    start, end = min(first.start_ns, more.start_ns), max(first.end_ns, more.end_ns)
    return ChunkInfo(first.count + more.count, start, end)


def chunk_records(record: Record, data: bytes) -> tuple[bytes, str]:
    """The records in a chunk's data, as many as can be had, and what is wrong with the rest of them, if anything."""
    compression = record.fields.get("compression", b"none").decode("utf-8", "replace")
    size = record.number("size")
    if size > _MAX_CHUNK:
        return b"", f"it claims {size} bytes, more than the limit of {_MAX_CHUNK}"
    if compression not in ("none", "bz2", "lz4"):
        return b"", f"it is compressed by {compression!r}, not bz2, lz4 or nothing"
    records, why = data, ""
    if compression != "none":
        pieces, left = [], size
        try:
            for piece in _unpacked(compression, data):
                pieces.append(piece)
                left -= len(piece)
                if left < 0:
                    break
        except (pa.ArrowException, OSError, EOFError, ValueError) as error:
            why = f"{compression} cannot be decompressed ({error})"
        records = b"".join(pieces)
    cut = len(data) < record.data_size
    if cut:
        why = f"{len(data)} of its {record.data_size} stored bytes are there"
    elif not why and len(records) != size:
        more = "at least " if len(records) > size and compression != "none" else ""
        why = f"it holds {more}{len(records)} bytes where {size} are declared"
    return records, why


def _unpacked(compression: str, data: bytes) -> Iterator[bytes]:
    """Decompressed pieces in order, as far as they go."""
    if compression == "bz2":
        unpack = bz2.BZ2Decompressor()
        yield unpack.decompress(data, _STEP)
        while not (unpack.eof or unpack.needs_input):
            yield unpack.decompress(b"", _STEP)
        return
    with pa.CompressedInputStream(pa.BufferReader(data), "lz4") as stream:
        while piece := stream.read(_STEP):
            yield piece
