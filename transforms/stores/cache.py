"""Objects as far as they were read, in sparse files of this machine: every process reads each byte once.

Which blocks are there stands behind the bytes, a byte a block. What is fetched is what is asked for; a reader that goes
on in a row is read ahead of, by a sixteenth of what it has read so far, so that no more than that is fetched in vain.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import lru_cache
from pathlib import Path

import xxhash

from transforms.stores.access import Entry, fetch

FOLDER_VARIABLE, BYTES_VARIABLE = "DEMOSIFT_OBJECT_CACHE", "DEMOSIFT_OBJECT_CACHE_BYTES"
_DEFAULT_BYTES = 16 << 30
BLOCK = 1 << 12
_LEAST = 4
"""Blocks of the smallest request."""
_SMALL_BYTES = 1 << 16
"""An object of at most this is fetched at once."""
_PART_BYTES = 1 << 22
"""A long range comes in parts of this, several at a time."""
_AT_ONCE = 8
_AHEAD_SHARE = 16
_AHEAD_BLOCKS = (1 << 24) // BLOCK
_since_trim = 0


def cache_folder() -> Path:
    """Where objects are kept; only this user may look into it."""
    given = os.environ.get(FOLDER_VARIABLE)
    folder = Path(given) if given else Path(tempfile.gettempdir()) / f"demosift-objects-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user; set {FOLDER_VARIABLE} to a folder of yours")
    return folder


class CachedObject:
    """One version of an object: `pread` gives its bytes, from this machine where they are here already."""

    def __init__(self, url: str, entry: Entry) -> None:
        self.url, self.size, self._version = url, entry.size, entry.version
        # what a machine wrote before it went down may be there in part
        told = f"{_boot()}\0{url}\0{entry.version}\0{entry.mtime_ns}\0{entry.size}"
        path = cache_folder() / xxhash.xxh3_128_hexdigest(told.encode())
        _trim()
        self._blocks = -(-self.size // BLOCK)
        behind = -(-self.size // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        self._data = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        with ExitStack() as undone:
            undone.callback(os.close, self._data)
            os.utime(self._data)
            if os.fstat(self._data).st_size == 0:
                os.truncate(self._data, behind + max(1, self._blocks))
            self._known = mmap.mmap(self._data, max(1, self._blocks), offset=behind)
            undone.pop_all()

    def close(self) -> None:
        self._known.close()
        os.close(self._data)

    def pread(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes at `offset`; fewer at the end. Raises as `access.fetch` does."""
        end = min(self.size, offset + length)
        if offset >= end:
            return b""
        self.hold(offset, end)
        parts = []
        while offset < end and (part := os.pread(self._data, end - offset, offset)):
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def hold(self, start: int, end: int) -> None:
        """Have the bytes `[start, end)` on this machine."""
        if self.size <= _SMALL_BYTES:
            start, end = 0, self.size
        ranges = [part for run in self._missing(start // BLOCK, -(-end // BLOCK)) for part in _parts(*run)]
        if len(ranges) == 1:
            self._get(*ranges[0])
        elif ranges:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                for _ in pool.map(lambda part: self._get(*part), ranges):
                    pass

    def _missing(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Runs of blocks to fetch so that `[first, last)` is here, the last one read ahead of."""
        known, at = self._known, first
        while (begin := known.find(b"\0", at, last)) >= 0:
            end = known.find(b"\1", begin, last)
            if end < 0:
                before = begin - 1 - known.rfind(b"\0", 0, begin)
                ahead = min(before // _AHEAD_SHARE, _AHEAD_BLOCKS)
                want = min(self._blocks, max(last + ahead, begin + _LEAST))
                end = known.find(b"\1", last, want)
                end = want if end < 0 else end
            yield begin, end
            at = end

    def _get(self, begin: int, end: int) -> None:
        global _since_trim
        start, stop = begin * BLOCK, min(end * BLOCK, self.size)
        data = fetch(self.url, self._version, start, stop)
        view, at = memoryview(data), start
        while view:
            written = os.pwrite(self._data, view, at)
            view, at = view[written:], at + written
        self._known[begin:end] = b"\1" * (end - begin)
        _since_trim += stop - start


def _parts(begin: int, end: int) -> Iterator[tuple[int, int]]:
    step = _PART_BYTES // BLOCK
    for at in range(begin, end, step):
        yield at, min(end, at + step)


@lru_cache(maxsize=1)
def _boot() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text() if boot.exists() else ""


def _trim() -> None:
    """Remove what was opened longest ago where more than the budget is kept; open files stay readable."""
    global _since_trim
    budget = int(os.environ.get(BYTES_VARIABLE, _DEFAULT_BYTES))
    if _since_trim < budget // 20:
        return
    _since_trim = 0
    kept = []
    for entry in os.scandir(cache_folder()):
        with suppress(FileNotFoundError):
            found = entry.stat()
            kept.append((found.st_mtime_ns, entry.path, found.st_blocks * 512))
    total = sum(size for _, _, size in kept)
    for _, path, size in sorted(kept):
        if total <= budget:
            return
        Path(path).unlink(missing_ok=True)
        total -= size
