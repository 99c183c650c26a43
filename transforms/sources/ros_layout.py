"""How one serialised ROS message is laid out: a walk over its bytes along its definition.

CDR as ROS 2 writes it (OMG DDS-XTypes 1.3, 7.4: a 4-byte encapsulation header, then primitives aligned to their size
counted from after it, at most 8 bytes in XCDR1 and 4 in plain XCDR2), and ROS 1's own (packed, little-endian).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from transforms.sources.ros_definition import PRIMITIVES, ROS1_TIMES, SEQUENCE, TEXT, Definition, Field

Wire = Literal["cdr", "ros1"]
Bytes = NDArray[np.uint8]
Rows = NDArray[np.int64]
_HEADER = 4
_CDR: Mapping[int, tuple[str, int]] = {0: (">", 8), 1: ("<", 8), 6: (">", 4), 7: ("<", 4)}
"""Byte order and largest alignment by the encapsulation's second byte."""


class MalformedMessage(ValueError):
    """Bytes that are no message of the type: a length runs past the end, or the encapsulation is unknown."""


@dataclass(frozen=True)
class Slot:
    """Numbers at `offset` of a message: `count` of them, None for a single one."""

    path: str
    dtype: str
    offset: int
    count: int | None


@dataclass(frozen=True)
class Layout:
    """Where everything lies in messages that agree on `fixed`: the lengths, the texts, the byte order.

    `head` is the size of what is read; `end` that of the whole message, or None where it ends in a byte sequence
    whose length, at `head - 4`, is each message's own.
    """

    wire: Wire
    order: str
    head: int
    end: int | None
    slots: tuple[Slot, ...]
    labels: Mapping[str, tuple[str, ...]]
    fixed: tuple[tuple[int, bytes], ...]

    def tail_sizes(self, rows: Bytes) -> Rows:
        """(M,) bytes of the byte sequence that ends each message."""
        words = np.ascontiguousarray(rows[:, self.head - 4 : self.head]).view(f"{self.order}u4")
        return words.reshape(-1).astype(np.int64)


@dataclass
class _Walk:
    """One message on its way: `at` counts from the message's first byte."""

    data: memoryview
    wire: Wire
    types: Mapping[str, tuple[Field, ...]]
    order: str = "<"
    limit: int = 8
    at: int = 0
    slots: list[Slot] = field(default_factory=list)
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    fixed: list[tuple[int, bytes]] = field(default_factory=list)

    def begin(self) -> None:
        if self.wire == "cdr":
            if len(self.data) < _HEADER or self.data[0] != 0 or self.data[1] not in _CDR:
                raise MalformedMessage(f"the encapsulation {bytes(self.data[:_HEADER]).hex()} is no plain CDR")
            self.order, self.limit = _CDR[self.data[1]]
            self.fixed.append((0, bytes(self.data[:2])))
            self.at = _HEADER

    def align(self, size: int) -> None:
        if self.wire == "cdr":
            step = min(size, self.limit)
            self.at += -(self.at - _HEADER) % step

    def need(self, size: int, path: str) -> None:
        if self.at + size > len(self.data):
            raise MalformedMessage(f"{path} needs {self.at + size} bytes, the message has {len(self.data)}")

    def length(self, path: str) -> int:
        self.align(4)
        self.need(4, path)
        word = bytes(self.data[self.at : self.at + 4])
        self.fixed.append((self.at, word))
        self.at += 4
        return int.from_bytes(word, "little" if self.order == "<" else "big")

    def text(self, path: str) -> str:
        size = self.length(path)
        self.need(size, path)
        raw = bytes(self.data[self.at : self.at + size])
        self.fixed.append((self.at, raw))
        self.at += size
        return raw.removesuffix(b"\0").decode("utf-8", "replace")

    def numbers(self, path: str, dtype: str, count: int | None) -> None:
        size = int(dtype[1:])
        many = 1 if count is None else count
        if many:  # an empty sequence is followed by no padding
            self.align(size)
        self.need(size * many, path)
        self.slots.append(Slot(path, self.order + dtype, self.at, count))
        self.at += size * many

    def one(self, path: str, kind: str) -> None:
        if kind in PRIMITIVES:
            self.numbers(path, PRIMITIVES[kind], None)
        elif kind == TEXT:
            self.labels[path] = (self.text(path),)
        elif kind in ROS1_TIMES:
            self.numbers(f"{path}.sec", "u4", None)
            self.numbers(f"{path}.nanosec", "u4", None)
        elif not self.types[kind] and self.wire == "cdr":
            self.at += 1  # ROS 2 puts one byte in a type without fields, which IDL does not allow
        else:
            for inner in self.types[kind]:
                self.field(f"{path}.{inner.name}", inner)

    def field(self, path: str, one: Field) -> None:
        if one.count is None:
            self.one(path, one.kind)
            return
        count = self.length(path) if one.count == SEQUENCE else one.count
        if one.kind in PRIMITIVES:
            self.numbers(path, PRIMITIVES[one.kind], count)
            return
        self.need(count, path)
        if one.kind == TEXT:
            self.labels[path] = tuple(self.text(path) for _ in range(count))
            return
        self.labels[f"{path}#"] = (str(count),)
        for index in range(count):
            self.one(f"{path}[{index}]", one.kind)


def _joined(fixed: Sequence[tuple[int, bytes]]) -> tuple[tuple[int, bytes], ...]:
    """Pieces that touch, as one."""
    out: list[tuple[int, bytes]] = []
    for at, piece in fixed:
        if out and out[-1][0] + len(out[-1][1]) == at:
            out[-1] = (out[-1][0], out[-1][1] + piece)
        elif piece:
            out.append((at, piece))
    return tuple(out)


def layout_of(data: memoryview, definition: Definition, wire: Wire) -> Layout:
    """The layout of one message (its bytes, encapsulation included). Raises MalformedMessage."""
    walk = _Walk(data, wire, definition.types)
    walk.begin()
    for one in definition.fields:
        if one is definition.fields[-1] and one.count == SEQUENCE and PRIMITIVES.get(one.kind) == "u1":
            size = walk.length(one.name)
            walk.need(size, one.name)
            walk.fixed.pop()
            fixed = _joined(walk.fixed)
            return Layout(wire, walk.order, walk.at, None, tuple(walk.slots), walk.labels, fixed)
        walk.field(one.name, one)
    return Layout(wire, walk.order, walk.at, walk.at, tuple(walk.slots), walk.labels, _joined(walk.fixed))
