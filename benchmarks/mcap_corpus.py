"""A corpus of MCAP files as a bimanual teleoperation rig records them, built chunk by chunk as arrays."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.corpora import SEED, Corpus
from transforms.sources.mcap_records import CHANNEL, CHUNK, DATA_END, FOOTER, HEADER, MAGIC, MESSAGE, SCHEMA, STATISTICS

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper", "gripper_finger")
TOPICS = tuple(
    (f"/robot/arm_{side}_{role}/joint_states", role == "follow")
    for side in ("left", "right")
    for role in ("lead", "follow")
)
"""Topic, and whether its messages hold velocity and effort."""
CYCLES_PER_CHUNK = 900
CHUNKS_PER_FILE = 33
PERIOD_NS = 20_000_000
START_NS = 1_700_000_000_000_000_000
DEFINITION = """std_msgs/Header header
string[] name
float64[] position
float64[] velocity
float64[] effort
================================================================================
MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id
================================================================================
MSG: builtin_interfaces/Time
int32 sec
uint32 nanosec
"""


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<I", len(raw)) + raw


def _record(op: int, content: bytes) -> bytes:
    return struct.pack("<BQ", op, len(content)) + content


class _Cdr:
    """A JointState's bytes and where its numbers are."""

    def __init__(self, full: bool) -> None:
        out = bytearray(b"\0\1\0\0" + bytes(8) + struct.pack("<I", 1) + b"\0")
        for value in (len(JOINTS), *JOINTS):
            out += bytes(-(len(out) - 4) % 4)
            raw = value.encode() + b"\0" if isinstance(value, str) else b""
            out += struct.pack("<I", len(raw) if raw else int(value)) + raw
        self.fields: list[int] = []
        for count in (len(JOINTS), len(JOINTS) if full else 0, len(JOINTS) if full else 0):
            out += bytes(-(len(out) - 4) % 4) + struct.pack("<I", count)
            if count:
                out += bytes(-(len(out) - 4) % 8)
                self.fields.append(len(out))
                out += bytes(8 * count)
        self.template = np.frombuffer(bytes(out), np.uint8)


def _messages(
    channel: int, cdr: _Cdr, stamps: NDArray[np.int64], rng: np.random.Generator, first: int
) -> NDArray[np.uint8]:
    """(N, size) whole message records of one channel."""
    head = struct.pack("<BQH", MESSAGE, 22 + len(cdr.template), channel) + bytes(20)
    one = np.concatenate([np.frombuffer(head, np.uint8), cdr.template])
    rows = np.repeat(one[None], len(stamps), axis=0)
    logged = stamps + rng.integers(4_000_000, 37_000_000, len(stamps)).cumsum() % 1_000_000 + 4_000_000
    sequence = np.arange(first, first + len(stamps), dtype="<u4")
    start = 31
    for at, values in (
        (11, sequence),
        (15, logged.astype("<u8")),
        (23, stamps.astype("<u8")),
        (start + 4, (stamps // 1_000_000_000).astype("<u4")),
        (start + 8, (stamps % 1_000_000_000).astype("<u4")),
    ):
        raw = values.view(np.uint8).reshape(len(stamps), -1)
        rows[:, at : at + raw.shape[1]] = raw
    for at in cdr.fields:
        values = rng.standard_normal((len(stamps), len(JOINTS)))
        rows[:, start + at : start + at + 8 * len(JOINTS)] = values.view(np.uint8).reshape(len(stamps), -1)
    return rows


def _chunk(cycle: int, rng: np.random.Generator) -> tuple[bytes, int]:
    stamps = START_NS + (cycle + np.arange(CYCLES_PER_CHUNK)) * PERIOD_NS
    parts = [
        _messages(number, _Cdr(full), stamps + 70_000 * number, rng, cycle)
        for number, (_, full) in enumerate(TOPICS, 1)
    ]
    records = np.concatenate(parts, axis=1).tobytes()  # one message of each topic a cycle, in turns
    stored = pa.compress(records, codec="zstd", asbytes=True)
    ends = (int(stamps[0]), int(stamps[-1]) + 40_000_000)
    head = struct.pack("<QQQI", *ends, len(records), zlib.crc32(records)) + _text("zstd")
    return head + struct.pack("<Q", len(stored)) + stored, len(stamps) * len(TOPICS)


def _write_file(out: BinaryIO, rng: np.random.Generator, chunks: int) -> int:
    """One recording; returns its messages."""
    declared = _record(
        SCHEMA, struct.pack("<H", 1) + _text("sensor_msgs/msg/JointState") + _text("ros2msg") + _text(DEFINITION)
    )
    for number, (topic, _) in enumerate(TOPICS, 1):
        declared += _record(CHANNEL, struct.pack("<HH", number, 1) + _text(topic) + _text("cdr") + _text(""))
    out.write(MAGIC + _record(HEADER, _text("ros2") + _text("noise")) + declared)
    messages = 0
    indexes = b""
    for number in range(chunks):
        content, count = _chunk(number * CYCLES_PER_CHUNK, rng)
        at = out.tell()
        out.write(_record(CHUNK, content))
        start, end, size, _ = struct.unpack_from("<QQQI", content)
        stored = len(content) - 28 - 8 - 8
        index = (
            struct.pack("<QQQQIQ", start, end, at, len(content) + 9, 0, 0)
            + _text("zstd")
            + struct.pack("<QQ", stored, size)
        )
        indexes += _record(8, index)
        messages += count
    out.write(_record(DATA_END, bytes(4)))
    summary = out.tell()
    each = b"".join(struct.pack("<HQ", n, messages // len(TOPICS)) for n in range(1, len(TOPICS) + 1))
    span = (START_NS, START_NS + chunks * CYCLES_PER_CHUNK * PERIOD_NS)
    said = struct.pack("<QHIIIIQQ", messages, 1, len(TOPICS), 0, 0, chunks, *span)
    out.write(declared + indexes + _record(STATISTICS, said + struct.pack("<I", len(each)) + each))
    out.write(_record(FOOTER, struct.pack("<QQI", summary, 0, 0)) + MAGIC)
    return messages


def write_mcap(folder: Path, megabytes: float, chunks: int = CHUNKS_PER_FILE) -> Corpus:
    """Files of ten minutes of four JointState topics of seven joints at 50 Hz, zstd chunks of 18 s; steps are messages.

    Two topics hold position, velocity and effort, two position alone. Message indexes are left out: no side needs them.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(SEED)
    files: list[Path] = []
    total = messages = 0
    while total < megabytes * 1e6:
        files.append(folder / f"noise{len(files):05d}.mcap")
        with files[-1].open("wb") as out:
            messages += _write_file(out, rng, chunks)
        total += files[-1].stat().st_size
    return Corpus(folder, tuple(files), len(files), messages)
