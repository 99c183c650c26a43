"""Messages in a run of a ROS 1 bag's records: the lengths are walked one by one, everything else is read as arrays."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from transforms.sources.rosbag1_records import MESSAGE, NS, DamagedRecord, Record, fields_of, time_ns

_WORD = struct.Struct("<I")
_MESSAGE_HEADER = 38
"""Bytes of a message's header: fields `op` (1), `conn` (4) and `time` (8), in any order, nothing else."""
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Messages:
    """The messages in a run of records: connection, log time, first byte and size of the data of each (N,).

    `others` are records of other kinds, `unknown` counts those whose header cannot be read, `spare` bytes at the end
    that are no whole record.
    """

    buffer: NDArray[np.uint8]
    connection: Rows
    log_ns: Rows
    starts: Rows
    sizes: Rows
    others: tuple[Record, ...]
    unknown: int
    spare: int


def messages_in(records: bytes) -> Messages:
    """Where the messages of a run of records are, up to the first that is not whole."""
    offsets: list[int] = []
    data: list[int] = []
    at, size, word = 0, len(records), _WORD.unpack_from
    while at + 4 <= size:
        body = at + 4 + word(records, at)[0]
        if body + 4 > size:
            break
        end = body + 4 + word(records, body)[0]
        if end > size:
            break
        offsets.append(at)
        data.append(body)
        at = end
    run = _Run(records, np.frombuffer(records, np.uint8), np.array(offsets, np.int64), np.array(data, np.int64))
    is_plain = run.bodies - run.heads == 4 + _MESSAGE_HEADER
    left = np.flatnonzero(is_plain)
    while len(left):
        left = run.take_like_first(left)
    for row in np.flatnonzero(~is_plain).tolist():
        run.take_one(row)
    rows, connection, log_ns = run.found()
    starts = run.bodies[rows] + 4
    sizes = _words(run.buffer, starts - 4).astype(np.int64)
    others = tuple(sorted(run.others, key=lambda one: one.at))
    return Messages(run.buffer, connection, log_ns, starts, sizes, others, run.unknown, size - at)


def _words(buffer: NDArray[np.uint8], at: Rows) -> NDArray[np.uint32]:
    """Little-endian words at bytes (N,) of a buffer."""
    if not len(at):
        return np.zeros(0, np.uint32)
    every: NDArray[np.uint32] = np.ndarray((len(buffer) - 3,), "<u4", buffer, strides=(1,))
    return every[at]


@dataclass(eq=False)
class _Run:
    """Records whose headers begin at `heads` and whose data's lengths stand at `bodies` (N,), as they are sorted out.

    `taken` holds row, connection and log time in ns of messages.
    """

    records: bytes
    buffer: NDArray[np.uint8]
    heads: Rows
    bodies: Rows
    taken: list[tuple[Rows, Rows, Rows]] = field(default_factory=list)
    others: list[Record] = field(default_factory=list)
    unknown: int = 0

    def found(self) -> tuple[Rows, Rows, Rows]:
        """Rows of the messages in order, with the connection and the log time of each."""
        none = np.zeros(0, np.int64)
        rows, connection, log_ns = (np.concatenate([none, *(one[part] for one in self.taken)]) for part in range(3))
        order = np.argsort(rows)
        return rows[order], connection[order], log_ns[order]

    def take_one(self, row: int) -> None:
        """A record by itself: a message, something else, or nothing that is known."""
        head, body = int(self.heads[row]), int(self.bodies[row])
        try:
            fields = fields_of(self.records[head + 4 : body])
            (op,) = fields.get("op", b"")
        except (DamagedRecord, ValueError):
            self.unknown += 1
            return
        record = Record(head, op, fields, body + 4, _WORD.unpack_from(self.records, body)[0])
        if op != MESSAGE:
            self.others.append(record)
        elif {"conn", "time"} <= fields.keys():
            stamp = time_ns(record.number("time"))
            self.taken.append((np.array([row]), np.array([record.number("conn")]), np.array([stamp])))
        else:
            self.unknown += 1

    def take_like_first(self, left: Rows) -> Rows:
        """Take the messages among the rows `left` whose header is laid out as the first one's; return the rest."""
        begin = int(self.heads[left[0]]) + 4
        header = self.records[begin : begin + _MESSAGE_HEADER]
        spots = _spots(header)
        if spots is None:
            self.take_one(int(left[0]))
            return left[1:]
        every = np.ndarray((len(self.buffer) - _MESSAGE_HEADER + 1,), f"V{_MESSAGE_HEADER}", self.buffer, strides=(1,))
        rows = every[self.heads[left] + 4].view(np.uint8).reshape(len(left), _MESSAGE_HEADER)
        fixed = np.ones(_MESSAGE_HEADER, np.bool_)
        for at, width in ((spots[0], 4), (spots[1], 8)):
            fixed[at : at + width] = False
        same = (rows[:, fixed] == np.frombuffer(header, np.uint8)[fixed]).all(axis=1)
        chosen = self.heads[left[same]] + 4
        seconds, nanoseconds = (_words(self.buffer, chosen + spots[1] + skip).astype(np.int64) for skip in (0, 4))
        connection = _words(self.buffer, chosen + spots[0]).astype(np.int64)
        self.taken.append((left[same], connection, seconds * NS + nanoseconds))
        return left[~same]


def _spots(header: bytes) -> tuple[int, int] | None:
    """Where the values of `conn` and `time` lie in the header of a plain message; None of any other record."""
    try:
        fields = fields_of(header)
    except DamagedRecord:
        return None
    widths = {name: len(value) for name, value in fields.items()}
    if widths != {"op": 1, "conn": 4, "time": 8} or fields["op"][0] != MESSAGE:
        return None
    spots, at = {}, 0
    for name, value in fields.items():
        at += 4 + len(name) + 1
        spots[name] = at
        at += len(value)
    return spots["conn"], spots["time"]
