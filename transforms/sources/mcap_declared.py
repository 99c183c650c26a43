"""What records of an MCAP file declare: schemas, channels, metadata, statistics."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass


class DamagedRecord(ValueError):
    """A record that cannot be read; the message says what is wrong with it."""


@dataclass(frozen=True)
class Schema:
    """A message type as its writer declared it."""

    schema_id: int
    name: str
    encoding: str
    text: str


@dataclass(frozen=True)
class Channel:
    """A topic as one writer published it."""

    channel_id: int
    schema_id: int
    topic: str
    encoding: str


@dataclass(frozen=True)
class Statistics:
    """What the summary says of the whole file; `counts` are messages by channel."""

    messages: int
    start_ns: int
    end_ns: int
    counts: Mapping[int, int]


class Cursor:
    """Reads the fields of one record's content."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self.at = 0

    def _take(self, size: int) -> memoryview:
        if self.at + size > len(self._data):
            raise DamagedRecord(f"a field ends at byte {self.at + size} of {len(self._data)}")
        self.at += size
        return self._data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "little")

    def raw(self, prefix: int = 4) -> bytes:
        return bytes(self._take(self.number(prefix)))

    def text(self) -> str:
        return self.raw().decode("utf-8", "replace")

    def texts(self) -> dict[str, str]:
        inner = Cursor(self._take(self.number(4)))
        out: dict[str, str] = {}
        while inner.at < len(inner._data):
            key = inner.text()
            out[key] = inner.text()
        return out


def read_schema(data: bytes | memoryview) -> Schema:
    at = Cursor(data)
    return Schema(at.number(2), at.text(), at.text(), at.raw().decode("utf-8", "replace"))


def read_channel(data: bytes | memoryview) -> Channel:
    at = Cursor(data)
    return Channel(at.number(2), at.number(2), at.text(), at.text())


def read_metadata(data: bytes) -> tuple[str, dict[str, str]]:
    at = Cursor(data)
    return at.text(), at.texts()


def read_statistics(data: bytes) -> Statistics:
    at = Cursor(data)
    messages = at.number(8)
    at.number(2 + 4 * 4)
    start, end = at.number(8), at.number(8)
    pairs = at.raw()
    counts: dict[int, int] = dict(struct.iter_unpack("<HQ", pairs[: len(pairs) // 10 * 10]))
    return Statistics(messages, start, end, counts)
