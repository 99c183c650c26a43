"""TFRecord framing against Beam's own reader, and every way a file can be damaged."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from apache_beam.io.tfrecordio import _TFRecordUtil
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.sources.tfrecord import (
    index_records,
    iter_records,
    masked_crc32c,
    read_record,
    write_record,
)
from transforms.stage import Unreadable

PAYLOADS = [b"first", b"", b"x" * 300, b"last"]


def write(path: Path, payloads: list[bytes]) -> list[int]:
    offsets = []
    with path.open("wb") as stream:
        for payload in payloads:
            offsets.append(stream.tell())
            write_record(stream, payload)
    return offsets


@given(st.lists(st.binary(max_size=200), max_size=6))
@settings(max_examples=60, deadline=None)
def test_beam_reads_what_is_written(payloads: list[bytes]) -> None:
    stream, oracle = io.BytesIO(), io.BytesIO()
    for payload in payloads:
        write_record(stream, payload)
        _TFRecordUtil.write_record(oracle, payload)
    assert stream.getvalue() == oracle.getvalue()
    stream.seek(0)
    assert [_TFRecordUtil.read_record(stream) for _ in payloads] == payloads


def test_crc_of_the_rfc() -> None:
    # RFC 3720 B.4: CRC-32C of 32 zero bytes is 0x8a9136aa; rotated right by 15 and offset by 0xa282ead8.
    crc = 0x8A9136AA
    assert masked_crc32c(bytes(32)) == (((crc >> 15) | (crc << 17 & 0xFFFFFFFF)) + 0xA282EAD8) & 0xFFFFFFFF


def test_index_of_a_whole_file(tmp_path: Path) -> None:
    offsets = write(tmp_path / "a", PAYLOADS)
    records = index_records(tmp_path / "a")
    assert [(r.offset, r.length, r.problem) for r in records] == [
        (offset, len(payload), None) for offset, payload in zip(offsets, PAYLOADS, strict=True)
    ]
    assert list(iter_records(tmp_path / "a")) == PAYLOADS


@pytest.mark.parametrize(
    ("keep", "said"), [(5, "5 bytes into the 12-byte header"), (14, "needs 20 bytes"), (18, "has 18")]
)
def test_truncation_keeps_what_is_whole(tmp_path: Path, keep: int, said: str) -> None:
    path = tmp_path / "cut"
    offsets = write(path, PAYLOADS)
    path.write_bytes(path.read_bytes()[: offsets[3] + keep])
    *whole, tail = index_records(path)
    assert [r.problem for r in whole] == [None] * 3
    assert tail.problem is not None and tail.problem.rule == "truncated"
    assert said in tail.problem.detail and "copy it again" in tail.problem.detail
    with pytest.raises(Unreadable, match="cut"):
        list(iter_records(path))


@pytest.mark.parametrize("place", [0, 3, 7, 8, 11])
def test_a_flipped_header_costs_one_record(tmp_path: Path, place: int) -> None:
    path = tmp_path / "flipped"
    offsets = write(path, PAYLOADS)
    data = bytearray(path.read_bytes())
    data[offsets[2] + place] ^= 0x10
    path.write_bytes(data)
    records = index_records(path)
    assert [r.problem.rule if r.problem else None for r in records] == [None, None, "corrupt", None]
    assert [r.offset for r in records] == offsets
    assert records[2].problem is not None and f"checksum fails at offset {offsets[2]}" in records[2].problem.detail


@pytest.mark.parametrize("back", [5, 1])
def test_a_flipped_payload_or_footer_fails_when_read(tmp_path: Path, back: int) -> None:
    path = tmp_path / "flipped"
    offsets = write(path, PAYLOADS)
    data = bytearray(path.read_bytes())
    data[offsets[3] - back] ^= 1
    path.write_bytes(data)
    records = index_records(path)
    assert [r.problem for r in records] == [None] * 4
    with path.open("rb") as file:
        with pytest.raises(
            Unreadable, match=f"payload's checksum fails for the 300 bytes at offset {offsets[2]}"
        ) as info:
            read_record(file, records[2].offset, records[2].length, path.name)
        assert info.value.problem.rule == "corrupt"
        assert read_record(file, records[3].offset, records[3].length, path.name) == b"last"


def test_read_of_a_place_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "gone"
    write(path, PAYLOADS)
    with path.open("rb") as file:
        with pytest.raises(Unreadable, match="states 5 bytes, indexed as 6"):
            read_record(file, 0, 6, path.name)
        with pytest.raises(Unreadable, match="ends inside the header") as info:
            read_record(file, path.stat().st_size - 3, 6, path.name)
        assert info.value.problem.rule == "truncated"


def test_an_absurd_length_is_never_allocated(tmp_path: Path) -> None:
    path = tmp_path / "absurd"
    length = struct.pack("<Q", 2**60)
    head = length + struct.pack("<I", masked_crc32c(length))
    whole = io.BytesIO()
    write_record(whole, b"sound")
    path.write_bytes(whole.getvalue() + head + b"abc" + whole.getvalue())
    first, absurd, last = index_records(path)
    assert (first.problem, last.problem) == (None, None)
    assert absurd.problem is not None and absurd.problem.rule == "absurd_size"
    assert "declares 1152921504606846976 bytes" in absurd.problem.detail
    with pytest.raises(Unreadable, match="declares 1152921504606846976"):
        list(iter_records(path))


@pytest.mark.parametrize("content", [b"\x89HDF\r\n\x1a\n" + bytes(900), b"just some text\n" * 9, bytes(64), b"short"])
def test_another_format_is_one_problem(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.tfrecord"
    path.write_bytes(content)
    (record,) = index_records(path)
    assert record.problem is not None
    if content != b"short":
        assert record.problem.rule == "wrong_format"
        assert "no TFRecord header" in record.problem.detail


def test_one_damaged_record_is_no_other_format(tmp_path: Path) -> None:
    path = tmp_path / "one"
    write(path, [b"all there is"])
    for place in (1, 9):
        data = bytearray(path.read_bytes())
        data[place] ^= 4
        (tmp_path / "bad").write_bytes(data)
        (record,) = index_records(tmp_path / "bad")
        assert record.problem is not None and record.problem.rule == "corrupt"


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (record,) = index_records(tmp_path / "empty")
    assert record.problem is not None and record.problem.rule == "empty" and "0 bytes" in record.problem.detail


@given(st.lists(st.binary(min_size=1, max_size=60), min_size=2, max_size=6), st.data())
@settings(max_examples=80, deadline=None)
def test_any_flip_harms_at_most_one_record(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("flip") / "file"
    offsets = write(path, payloads)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    hit = max(i for i, offset in enumerate(offsets) if offset <= place)
    read = {}
    with path.open("rb") as file:
        for record in index_records(path):
            if record.problem is None:
                try:
                    read[record.offset] = read_record(file, record.offset, record.length, "file")
                except Unreadable:
                    continue
    assert read == {o: p for i, (o, p) in enumerate(zip(offsets, payloads, strict=True)) if i != hit}
