"""A corpus of ROS 1 bags as a two-armed robot records them, built chunk by chunk as arrays."""

from __future__ import annotations

import bz2
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.corpora import SEED, Corpus

MAGIC = b"#ROSBAG V2.0\n"
JOINTS = tuple(f"arm_{i}_joint" for i in range(7))
TOPICS = ("/left/joint_states", "/right/joint_states", "/left/command", "/right/command")
CYCLES_PER_CHUNK = 600
CHUNKS_PER_FILE = 50
PERIOD_NS = 10_000_000
START_NS = 1_700_000_000_000_000_000
COMPRESSIONS = ("none", "lz4", "bz2")
DEFINITION = """Header header
string[] name
float64[] position
float64[] velocity
float64[] effort
================================================================================
MSG: std_msgs/Header
uint32 seq
time stamp
string frame_id
"""
_MD5 = b"3066dcd76a6cfaef579bd0f34173e9fd"


def _text(value: str) -> bytes:
    return struct.pack("<I", len(value)) + value.encode()


def _fields(**fields: bytes) -> bytes:
    parts = [name.encode() + b"=" + value for name, value in fields.items()]
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


def _record(data: bytes, **fields: bytes) -> bytes:
    header = _fields(**fields)
    return struct.pack("<I", len(header)) + header + struct.pack("<I", len(data)) + data


def _word(value: int) -> bytes:
    return struct.pack("<I", value)


def _time(ns: int) -> bytes:
    return struct.pack("<II", *divmod(ns, 1_000_000_000))


def _connections() -> bytes:
    return b"".join(
        _record(
            _fields(
                topic=topic.encode(),
                type=b"sensor_msgs/JointState",
                md5sum=_MD5,
                message_definition=DEFINITION.encode(),
            ),
            conn=_word(number),
            op=b"\x07",
            topic=topic.encode(),
        )
        for number, topic in enumerate(TOPICS)
    )


def _template(number: int) -> tuple[NDArray[np.uint8], int]:
    """A whole message record of one connection, and where its data begins."""
    values = _word(len(JOINTS)) + bytes(8 * len(JOINTS))
    names = _word(len(JOINTS)) + b"".join(map(_text, JOINTS))
    data = bytes(12) + _word(0) + names + 3 * values
    record = _record(data, conn=_word(number), op=b"\x02", time=bytes(8))
    return np.frombuffer(record, np.uint8), len(record) - len(data)


def _stamped(rows: NDArray[np.uint8], at: int, ns: NDArray[np.int64]) -> None:
    pairs = np.stack([ns // 1_000_000_000, ns % 1_000_000_000], axis=1).astype("<u4")
    rows[:, at : at + 8] = pairs.view(np.uint8).reshape(len(ns), 8)


def _chunk(cycle: int, rng: np.random.Generator) -> tuple[bytes, list[NDArray[np.int64]], NDArray[np.int64]]:
    """Records of a chunk in turns of topics, the log times of each connection, and their offsets (C, N)."""
    stamps = START_NS + (cycle + np.arange(CYCLES_PER_CHUNK)) * PERIOD_NS
    parts, logged = [], []
    for number in range(len(TOPICS)):
        one, begin = _template(number)
        rows = np.repeat(one[None], len(stamps), axis=0)
        logged.append(stamps + 100_000 * number + rng.integers(2_000_000, 6_000_000, len(stamps)))
        _stamped(rows, begin - 12, logged[-1])
        rows[:, begin : begin + 4] = (cycle + np.arange(len(stamps), dtype="<u4")).view(np.uint8).reshape(-1, 4)
        _stamped(rows, begin + 4, stamps + 100_000 * number)
        for field in range(3):
            at = len(one) - (3 - field) * (4 + 8 * len(JOINTS)) + 4
            values = rng.standard_normal((len(stamps), len(JOINTS)))
            rows[:, at : at + 8 * len(JOINTS)] = values.view(np.uint8).reshape(len(stamps), -1)
        parts.append(rows)
    size = parts[0].shape[1]
    offsets = (np.arange(len(stamps))[None] * len(TOPICS) + np.arange(len(TOPICS))[:, None]) * size
    return np.concatenate(parts, axis=1).tobytes(), logged, offsets


def _index(logged: NDArray[np.int64], offsets: NDArray[np.int64], number: int) -> bytes:
    entries = np.stack([logged // 1_000_000_000, logged % 1_000_000_000, offsets], axis=1).astype("<u4")
    return _record(entries.tobytes(), conn=_word(number), count=_word(len(logged)), op=b"\x04", ver=_word(1))


def _packed(records: bytes, compression: str) -> bytes:
    if compression == "bz2":
        return bz2.compress(records, 9)
    return pa.compress(records, codec="lz4", asbytes=True) if compression == "lz4" else records


def _bag_header(index_pos: int, chunks: int) -> bytes:
    fields = {"chunk_count": _word(chunks), "conn_count": _word(len(TOPICS))}
    header = _fields(**fields, index_pos=struct.pack("<Q", index_pos), op=b"\x03")
    padding = 4096 - 8 - len(header)
    return _word(len(header)) + header + _word(padding) + b" " * padding


def _write_file(out: BinaryIO, rng: np.random.Generator, compression: str, chunks: int) -> int:
    """One recording; returns its messages."""
    out.write(MAGIC + _bag_header(0, chunks))
    infos = b""
    for chunk in range(chunks):
        records, logged, offsets = _chunk(chunk * CYCLES_PER_CHUNK, rng)
        declared = _connections() if chunk == 0 else b""
        at = out.tell()
        data = _packed(declared + records, compression)
        size = _word(len(declared) + len(records))
        out.write(_record(data, compression=compression.encode(), op=b"\x05", size=size))
        for number, times in enumerate(logged):
            out.write(_index(times, offsets[number] + len(declared), number))
        ends = (min(int(times.min()) for times in logged), max(int(times.max()) for times in logged))
        counts = b"".join(_word(number) + _word(CYCLES_PER_CHUNK) for number in range(len(TOPICS)))
        infos += _record(
            counts,
            chunk_pos=struct.pack("<Q", at),
            count=_word(len(TOPICS)),
            end_time=_time(ends[1]),
            op=b"\x06",
            start_time=_time(ends[0]),
            ver=_word(1),
        )
    index_pos = out.tell()
    out.write(_connections() + infos)
    out.seek(len(MAGIC))
    out.write(_bag_header(index_pos, chunks))
    return chunks * CYCLES_PER_CHUNK * len(TOPICS)


def write_rosbags(folder: Path, megabytes: float, chunks: int = CHUNKS_PER_FILE) -> Corpus:
    """Files of five minutes of four JointState topics of seven joints at 100 Hz, in chunks of 1 MB; steps are messages.

    Files are uncompressed, as rosbag records unless asked, but for every third, lz4 and bz2 in turns.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(SEED)
    files: list[Path] = []
    total = messages = 0
    while total < megabytes * 1e6:
        number = len(files)
        compression = COMPRESSIONS[1 + number // 3 % 2] if number % 3 == 2 else "none"
        files.append(folder / f"noise{number:05d}.bag")
        with files[-1].open("wb") as out:
            messages += _write_file(out, rng, compression, chunks)
        total += files[-1].stat().st_size
    return Corpus(folder, tuple(files), len(files), messages)
