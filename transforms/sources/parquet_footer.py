"""The number of rows that a Parquet footer states, read from its first bytes: row groups by the thousand stay unread.

A footer is Thrift's compact protocol: FileMetaData {1: version, 2: schema, 3: num_rows, 4: row groups, ...}
(https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift).
"""

from __future__ import annotations

from pathlib import Path

from transforms.stores.files import pread, size_of
from transforms.unreadable import Unreadable

_MAGIC = b"PAR1"
_TAIL_BYTES = 8
_HEAD_BYTES = 1 << 16
_NUM_ROWS = 3
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_WHOLE = (4, 5, 6)
"""Compact types of 16, 32 and 64 bit integers, all zigzag varints."""


class _Compact:
    """A cursor over bytes of Thrift's compact protocol; IndexError where they end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def byte(self) -> int:
        value = self._data[self._at]
        self._at += 1
        return value

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def zigzag(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def field(self, last: int) -> tuple[int, int]:
        """(number, type) of the next field; type 0 where the struct ends."""
        head = self.byte()
        if head == 0:
            return last, 0
        return (last + (head >> 4) if head >> 4 else self.zigzag()), head & 15

    def skip(self, kind: int, in_list: bool = False) -> None:
        """Step over one value."""
        if kind in (_TRUE, _FALSE):
            self._at += in_list
        elif kind == _BYTE:
            self._at += 1
        elif kind in _WHOLE:
            self.varint()
        elif kind == _DOUBLE:
            self._at += 8
        elif kind == _BINARY:
            length = self.varint()
            self._at += length
        elif kind in (_LIST, _SET):
            head = self.byte()
            for _ in range(self.varint() if head >> 4 == 15 else head >> 4):
                self.skip(head & 15, in_list=True)
        elif kind == _STRUCT:
            number, inner = self.field(0)
            while inner:
                self.skip(inner)
                number, inner = self.field(number)
        else:
            raise ValueError(f"type {kind} at byte {self._at}")


def _num_rows(footer: bytes) -> int:
    cursor = _Compact(footer)
    number, kind = cursor.field(0)
    while kind:
        if number == _NUM_ROWS:
            return cursor.zigzag()
        cursor.skip(kind)
        number, kind = cursor.field(number)
    raise ValueError("it states no num_rows")


def stated_rows(path: Path) -> int:
    """`num_rows` of a Parquet file's footer.

    Raises Unreadable: `absent`, `unreadable`, `truncated` without a footer, `wrong_format`, `corrupt`.
    """
    try:
        with path.open("rb", buffering=0) as file:
            size = size_of(file)
            tail = pread(file, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
            length = int.from_bytes(tail[:4], "little")
            if tail[4:] != _MAGIC or size < _TAIL_BYTES + len(_MAGIC):
                head = pread(file, 4, 0)
                if size and head != _MAGIC:
                    raise Unreadable("wrong_format", f"{path}: starts with {head!r}, not {_MAGIC!r}: no Parquet file")
                raise Unreadable("truncated", f"{path}: {size} bytes without a Parquet footer; copy it again")
            start = size - _TAIL_BYTES - length
            if start < len(_MAGIC):
                raise Unreadable("corrupt", f"{path}: a footer of {length} bytes in a file of {size}; copy it again")
            try:
                return _num_rows(pread(file, min(length, _HEAD_BYTES), start))
            except IndexError:  # a schema longer than the head
                return _num_rows(pread(file, length, start))
    except FileNotFoundError as error:
        raise Unreadable("absent", f"{path} is absent; restore it or take it out of the metadata") from error
    except OSError as error:
        raise Unreadable("unreadable", f"{path}: {error.strerror}; check the file's permissions") from error
    except (IndexError, ValueError) as error:
        raise Unreadable("corrupt", f"{path}: its footer cannot be read ({error}); copy it again") from error
