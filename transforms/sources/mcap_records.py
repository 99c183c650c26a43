"""The records of an MCAP file (https://mcap.dev/spec), walked from the front: a file without an end is read too."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.sources.mcap_declared import Cursor, DamagedRecord

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX = 1, 2, 3, 4, 5, 6, 7
STATISTICS, METADATA, DATA_END = 0x0B, 0x0C, 0x0F
RECORD_HEAD = 9
MESSAGE_HEAD = RECORD_HEAD + 22
_LENGTH = struct.Struct("<Q").unpack_from
_CHUNK = struct.Struct("<QQQI")
_MESSAGE = np.dtype(
    {
        "names": ["op", "size", "channel", "log_ns"],
        "formats": ["u1", "<u8", "<u2", "<u8"],
        "offsets": [0, 1, 9, 15],
        "itemsize": MESSAGE_HEAD,
    }
)
_MAX_CHUNK = 1 << 32
_STEP = 512
"""Bytes that are asked of a cut chunk at once: of a read that meets its end, none come."""


@dataclass(frozen=True)
class Extent:
    """A record's place in the file: `at` is its first byte, `size` the bytes of its content."""

    op: int
    at: int
    size: int

    @property
    def end(self) -> int:
        return self.at + RECORD_HEAD + self.size


@dataclass(frozen=True)
class ChunkHead:
    """A chunk without its records."""

    start_ns: int
    end_ns: int
    size: int
    crc: int
    compression: str
    stored: int
    head: int


@dataclass(frozen=True, eq=False)
class Messages:
    """The messages in a run of records: `channel`, `log_ns`, first byte and size of the data of each (N,)."""

    buffer: NDArray[np.uint8]
    channel: NDArray[np.int64]
    log_ns: NDArray[np.int64]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    others: tuple[Extent, ...]
    spare: int


def walk(file: BinaryIO, size: int, at: int = len(MAGIC)) -> Iterator[Extent]:
    """Records of the file in order, up to the footer or the first that does not end within `size` bytes (yielded too).

    Fewer than nine bytes that are left at the end are a record of op 0.
    """
    while at < size:
        file.seek(at)
        head = file.read(RECORD_HEAD)
        if len(head) < RECORD_HEAD or head[0] == 0:
            yield Extent(0, at, size - at)
            return
        found = Extent(head[0], at, _LENGTH(head, 1)[0])
        yield found
        if found.end > size or found.op == FOOTER:
            return
        at = found.end


def summary_at(file: BinaryIO, size: int) -> int | None:
    """Where the summary begins, by the footer at the end of a whole file; None where there is none."""
    footer = RECORD_HEAD + 20 + len(MAGIC)
    if size < footer + len(MAGIC):
        return None
    file.seek(size - footer)
    data = file.read(footer)
    if data[0] != FOOTER or not data.endswith(MAGIC):
        return None
    start: int = _LENGTH(data, RECORD_HEAD)[0]
    return start if len(MAGIC) <= start < size else None


def content(file: BinaryIO, extent: Extent) -> bytes:
    """The content of a record, or what the file still holds of it."""
    file.seek(extent.at + RECORD_HEAD)
    return file.read(extent.size)


def read_chunk_head(data: bytes) -> ChunkHead:
    """The head of a chunk's content. Raises DamagedRecord where it is not whole."""
    if len(data) < _CHUNK.size + 12:
        raise DamagedRecord(f"{len(data)} bytes of its head are left")
    start, end, size, crc = _CHUNK.unpack_from(data)
    at = Cursor(data)
    at.at = _CHUNK.size
    compression = at.text()
    stored = at.number(8)
    return ChunkHead(start, end, size, crc, compression, stored, at.at)


def chunk_records(head: ChunkHead, data: bytes) -> bytes:
    """The records of a whole chunk, decompressed and checked. Raises DamagedRecord."""
    stored = memoryview(data)[head.head : head.head + head.stored]
    if len(stored) < head.stored:
        raise DamagedRecord(f"{len(stored)} of its {head.stored} stored bytes are there")
    if head.compression not in ("", "zstd", "lz4"):
        raise DamagedRecord(f"it is compressed by {head.compression!r}, not zstd, lz4 or nothing")
    if head.size > _MAX_CHUNK:
        raise DamagedRecord(f"it claims {head.size} bytes, more than the limit of {_MAX_CHUNK}")
    if head.compression:
        try:
            records: bytes = pa.decompress(stored, head.size, codec=head.compression, asbytes=True)
        except (pa.ArrowException, OSError) as error:
            raise DamagedRecord(f"it cannot be decompressed ({error})") from error
    else:
        records = bytes(stored)
    if len(records) != head.size:
        raise DamagedRecord(f"it holds {len(records)} bytes where {head.size} are declared")
    if head.crc and zlib.crc32(records) != head.crc:
        raise DamagedRecord(f"its CRC is {zlib.crc32(records):08x}, declared {head.crc:08x}")
    return records


def partial_records(head: ChunkHead, data: bytes) -> bytes:
    """As much of a cut chunk as can be decompressed."""
    stored = data[head.head :]
    if not head.compression:
        return stored
    parts: list[bytes] = []
    try:
        with pa.CompressedInputStream(pa.BufferReader(stored), head.compression) as stream:
            while block := stream.read(_STEP):
                parts.append(block)
    except (pa.ArrowException, OSError, ValueError):
        pass  # the stream ends where the file does
    return b"".join(parts)


def messages_in(records: bytes) -> Messages:
    """Where the messages of a run of records are; `spare` bytes at the end are no whole record."""
    offsets: list[int] = []
    at, size = 0, len(records)
    while at + RECORD_HEAD <= size:
        end = at + RECORD_HEAD + _LENGTH(records, at + 1)[0]
        if end > size:
            break
        offsets.append(at)
        at = end
    buffer = np.frombuffer(records, np.uint8)
    places = np.array(offsets, np.int64)
    ops = buffer[places] if len(places) else np.zeros(0, np.uint8)
    others = tuple(
        Extent(int(ops[i]), offsets[i], _LENGTH(records, offsets[i] + 1)[0]) for i in np.flatnonzero(ops != MESSAGE)
    )
    places = places[ops == MESSAGE]
    places = places[places + MESSAGE_HEAD <= size]
    if not len(places):
        none = np.zeros(0, np.int64)
        return Messages(buffer, none, none, none, none, others, size - at)
    every = np.ndarray((size - MESSAGE_HEAD + 1,), _MESSAGE, buffer, strides=(1,))
    heads = every[places]
    sizes = heads["size"].astype(np.int64) - (MESSAGE_HEAD - RECORD_HEAD)
    good = sizes >= 0
    return Messages(
        buffer,
        heads["channel"].astype(np.int64)[good],
        heads["log_ns"].astype(np.int64)[good],
        places[good] + MESSAGE_HEAD,
        sizes[good],
        others,
        size - at,
    )


def is_mcap(path: Path) -> bool:
    """Whether a file begins with MCAP's magic."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def records_at(file: BinaryIO, size: int, at: int, length: int) -> bytes:
    """Records once more, as they were read: `length` bytes of bare ones, or, where it is 0, those of the chunk at `at`.

    Raises DamagedRecord where the chunk is no longer what it was.
    """
    file.seek(at)
    if length:
        return file.read(length)
    head = file.read(RECORD_HEAD)
    if len(head) < RECORD_HEAD or head[0] != CHUNK:
        raise DamagedRecord(f"there is no chunk at byte {at} any more")
    extent = Extent(CHUNK, at, _LENGTH(head, 1)[0])
    data = content(file, extent)
    chunk = read_chunk_head(data)
    return partial_records(chunk, data) if extent.end > size else chunk_records(chunk, data)
