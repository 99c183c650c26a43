"""ObjectFile: an object of a store, open for reading, of which no more is fetched than is read."""

from __future__ import annotations

import errno
import io
import os
from typing import IO, Any

from transforms.stores.access import Entry
from transforms.stores.cache import CachedObject
from transforms.unreadable import Unreadable


def size_of(file: IO[bytes]) -> int:
    """Bytes of an open file, local or of a store."""
    return file.size if isinstance(file, ObjectFile) else os.fstat(file.fileno()).st_size


def pread(file: IO[bytes], length: int, offset: int) -> bytes:
    """`os.pread` of an open file, local or of a store."""
    return file.pread(length, offset) if isinstance(file, ObjectFile) else os.pread(file.fileno(), length, offset)


class ObjectFile(io.RawIOBase):
    """An object, open for reading: seekable, and no more of it is fetched than is read."""

    def __init__(self, url: str, entry: Entry) -> None:
        super().__init__()
        self._object: CachedObject | None = None
        self._object = CachedObject(url, entry)
        self._at = 0
        self.name = url
        self.failure: Unreadable | None = None

    @property
    def size(self) -> int:
        return self._held.size

    @property
    def _held(self) -> CachedObject:
        if self._object is None:
            raise ValueError("I/O operation on closed file")
        return self._object

    def __repr__(self) -> str:
        return self.name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._at = base + offset
        return self._at

    def pread(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes at `offset`; the position stays. What it raises is kept in `failure`."""
        try:
            return self._held.pread(length, offset)
        except Unreadable as error:
            self.failure = error
            raise

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self.size - self._at)
        data = self.pread(left if size is None or size < 0 else min(size, left), self._at)
        self._at += len(data)
        return data

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if self._object is not None:
            self._object.close()
            self._object = None
        super().close()
