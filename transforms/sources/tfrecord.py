"""TFRecord framing without TensorFlow: index by headers, read with both checksums, write.

A record is `uint64 length | uint32 masked crc32c(length) | payload | uint32 masked crc32c(payload)`, little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np

from transforms.episode import Problem
from transforms.stores.files import pread
from transforms.stores.paths import open_bytes
from transforms.unreadable import Unreadable

HEADER_BYTES = 12
FOOTER_BYTES = 4
MAX_PAYLOAD_BYTES = 2**31 - 1
"""Protobuf refuses messages of 2 GiB, so no tf.train.Example is longer."""
_SCAN_BYTES = 1 << 24


@dataclass(frozen=True)
class Record:
    """One place in a file that holds a record, or did before it was damaged (then `problem` says how).

    `offset` is where its header starts, `length` its payload's bytes; of a damaged region, all of its bytes.
    """

    offset: int
    length: int
    problem: Problem | None = None


def masked_crc32c(data: bytes) -> int:
    """CRC-32C rotated right by 15 and offset, as TFRecord stores it (tensorflow/core/lib/hash/crc32c.h)."""
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def write_record(stream: BinaryIO, payload: bytes) -> int:
    """Append one record to a binary stream; returns the bytes written."""
    length = struct.pack("<Q", len(payload))
    stream.write(length + struct.pack("<I", masked_crc32c(length)))
    stream.write(payload)
    stream.write(struct.pack("<I", masked_crc32c(payload)))
    return HEADER_BYTES + len(payload) + FOOTER_BYTES


def header_length(header: bytes) -> int | None:
    """The payload length that a header states; None where it is cut short or its checksum fails."""
    if len(header) < HEADER_BYTES or int.from_bytes(header[8:12], "little") != masked_crc32c(header[:8]):
        return None
    return int.from_bytes(header[:8], "little")


def index_records(path: Path) -> list[Record]:
    """Every record of a file in order, found by seeking from header to header; no payload is read.

    Behind a header that fails, the next header whose checksum holds is searched, so that one flipped bit costs one
    record. Problems: `truncated` (the file ends inside a record), `corrupt` (a header fails), `absurd_size` (a length
    that no Example can have), `wrong_format` (no header at all), `empty` (no bytes).
    """
    size = path.stat().st_size
    if size == 0:
        problem = Problem("empty", f"{path.name} has 0 bytes; copy the file again or remove it from the source")
        return [Record(0, 0, problem)]
    records: list[Record] = []
    name = path.name
    with path.open("rb", buffering=0) as file:
        offset = 0
        while offset < size:
            record = _at(name, pread(file, HEADER_BYTES, offset), offset, size)
            if record.problem is not None and record.problem.rule != "truncated":
                following = find_header(file, offset + 1, size)
                if following is None and not records and not _is_framed(file, offset, size):
                    record = Record(0, size, _foreign(name, size))
                else:
                    record = Record(offset, (following or size) - offset, record.problem)
                offset = following or size
            else:
                offset = size if record.problem else offset + HEADER_BYTES + record.length + FOOTER_BYTES
            records.append(record)
    return records


def _at(name: str, header: bytes, offset: int, size: int) -> Record:
    left = size - offset
    if len(header) < HEADER_BYTES:
        detail = f"{name} ends {left} bytes into the {HEADER_BYTES}-byte header at offset {offset}; copy it again"
        return Record(offset, left, Problem("truncated", detail))
    length = header_length(header)
    if length is None:
        return Record(
            offset, left, Problem("corrupt", f"{name}: the header's checksum fails at offset {offset}; copy it again")
        )
    if length > MAX_PAYLOAD_BYTES:
        detail = (
            f"{name}: the record at offset {offset} declares {length} bytes; the file has {size}, "
            f"and an Example at most {MAX_PAYLOAD_BYTES}"
        )
        return Record(offset, left, Problem("absurd_size", detail))
    needed = HEADER_BYTES + length + FOOTER_BYTES
    if needed > left:
        detail = f"{name}: the record at offset {offset} needs {needed} bytes and the file has {left}; copy it again"
        return Record(offset, left, Problem("truncated", detail))
    return Record(offset, length)


def _foreign(name: str, size: int) -> Problem:
    return Problem("wrong_format", f"{name}: no TFRecord header in its {size} bytes; is it a file of another format?")


def _is_framed(file: BinaryIO, offset: int, size: int) -> bool:
    """True where one record fills the rest of the file but for a damaged header or length."""
    left = size - offset
    if left < HEADER_BYTES + FOOTER_BYTES or left > MAX_PAYLOAD_BYTES:
        return False
    file.seek(offset)
    header = file.read(HEADER_BYTES)
    length = left - HEADER_BYTES - FOOTER_BYTES
    if int.from_bytes(header[:8], "little") == length or header_length(header) is not None:
        return True
    payload = file.read(length)
    return file.read(FOOTER_BYTES) == struct.pack("<I", masked_crc32c(payload))


def find_header(file: BinaryIO, start: int, size: int) -> int | None:
    """The first offset at or after `start` where a plausible header's checksum holds; None where there is none."""
    while start + HEADER_BYTES <= size:
        file.seek(start)
        chunk = file.read(min(_SCAN_BYTES, size - start))
        if len(chunk) < HEADER_BYTES:
            return None
        zero = np.frombuffer(chunk, np.uint8)[4:-4] == 0
        plausible = zero[:-3] & zero[1:-2] & zero[2:-1] & zero[3:]  # a payload is under 4 GiB
        for place in np.flatnonzero(plausible).tolist():
            length = header_length(chunk[place : place + HEADER_BYTES])
            if length is not None and start + place + HEADER_BYTES + length + FOOTER_BYTES <= size:
                return int(start + place)
        start += len(chunk) - HEADER_BYTES + 1
    return None


def read_record(file: BinaryIO, offset: int, length: int, name: str) -> bytes:
    """One payload of known place in an open file, with both checksums verified; the file's position stays.

    Raises Unreadable: `truncated` where the file ends before it does, `corrupt` where a checksum fails or the header
    states another length than the index.
    """
    return _read(file, offset, length, name)


def read_record_at(path: str, offset: int, length: int) -> bytes:
    """`read_record` of a file opened for it: a descriptor kept from record to record could be of a replaced file."""
    with open_bytes(path) as file:
        return _read(file, offset, length, path)


def _read(file: BinaryIO, offset: int, length: int, path: str) -> bytes:
    header = pread(file, HEADER_BYTES, offset)
    stated = header_length(header)
    if stated != length:
        name = Path(path).name
        if len(header) < HEADER_BYTES:
            raise Unreadable("truncated", f"{name} ends inside the header at offset {offset}; copy it again")
        raise Unreadable(
            "corrupt", f"{name}: the header at offset {offset} fails or states {stated} bytes, indexed as {length}"
        )
    start = offset + HEADER_BYTES
    payload = pread(file, length, start)
    if len(payload) < length:  # one system call gives at most 2 GiB less a page
        payload += pread(file, length - len(payload), start + len(payload))
    footer = pread(file, FOOTER_BYTES, start + length)
    if len(payload) < length or len(footer) < FOOTER_BYTES:
        raise Unreadable("truncated", f"{Path(path).name} ends inside the record at offset {offset}; copy it again")
    if int.from_bytes(footer, "little") != masked_crc32c(payload):
        detail = f"the payload's checksum fails for the {length} bytes at offset {offset}; copy it again"
        raise Unreadable("corrupt", f"{Path(path).name}: {detail}")
    return payload


def iter_records(path: Path) -> Iterator[bytes]:
    """Every payload of a whole file in order; raises Unreadable at the first damage."""
    size = path.stat().st_size
    with path.open("rb") as file:
        offset = 0
        while offset < size:
            record = _at(path.name, pread(file, HEADER_BYTES, offset), offset, size)
            if record.problem is not None:
                raise Unreadable(record.problem.rule, record.problem.detail)
            yield read_record(file, offset, record.length, path.name)
            offset += HEADER_BYTES + record.length + FOOTER_BYTES
