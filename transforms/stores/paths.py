"""ObjectPath: a URL that readers use as a Path; its files are read a range at a time, and kept on this machine."""

from __future__ import annotations

import errno
import fnmatch
import io
import os
import shutil
import stat
import time
from collections import OrderedDict
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PosixPath
from typing import Any, BinaryIO, cast

import xxhash

from transforms.stores.access import Entry, look_into, look_up
from transforms.stores.files import ObjectFile
from transforms.stores.urls import SCHEMES, is_url

_KNOWN_S = 60.0
_KNOWN_FOLDERS = 4096
_HEADS = tuple(f"{scheme}:/" for scheme in SCHEMES)


def located(text: str | os.PathLike[str]) -> Path:
    """A path as it is, a URL of an object store as an ObjectPath."""
    if isinstance(text, Path):
        return text
    written = os.fspath(text)
    return ObjectPath(written) if is_url(written) else Path(written)


def opened(path: Path) -> Any:
    """What a library opens by itself: a path as it is, an object as a file of bytes."""
    return path.open("rb") if isinstance(path, ObjectPath) else path


@contextmanager
def failing_loudly(path: Path) -> Iterator[Path | ObjectFile]:
    """What a library opens that swallows errors: where a read of a store failed, that is raised at the end."""
    if not isinstance(path, ObjectPath) or not path.is_file():
        yield path
        return
    with ObjectFile(str(path), path.entry()) as file:
        try:
            yield file
        finally:
            if file.failure is not None:
                raise file.failure


def open_bytes(text: str) -> BinaryIO:
    """A file or object, open for reading without a buffer."""
    if is_url(text):
        return cast(BinaryIO, ObjectPath(text).open("rb"))
    return open(text, "rb", buffering=0)  # noqa: PTH123 the caller closes it


def copy_file(text: str, to: Path) -> None:
    """A whole file or object, copied to a file of this machine."""
    if not is_url(text):
        shutil.copyfile(text, to)
        return
    with open_bytes(text) as found, to.open("wb") as file:
        shutil.copyfileobj(found, file, 1 << 24)


def stat_of(text: str) -> os.stat_result:
    """`os.stat` of a path or URL."""
    return ObjectPath(text).stat() if is_url(text) else os.stat(text)  # noqa: PTH116 a Path costs as much as the call


class _Known:
    """What was found lately, so that a reader that asks often asks the store once; a minute later it asks again."""

    def __init__(self) -> None:
        self._found: OrderedDict[tuple[str, bool], tuple[float, dict[str, Entry] | Entry | None]] = OrderedDict()

    def get(self, url: str, folder: bool) -> tuple[bool, Any]:
        told = self._found.get((url, folder))
        if told is None or time.monotonic() - told[0] > _KNOWN_S:
            return False, None
        return True, told[1]

    def put(self, url: str, folder: bool, found: dict[str, Entry] | Entry | None) -> None:
        self._found[url, folder] = (time.monotonic(), found)
        while len(self._found) > _KNOWN_FOLDERS:
            self._found.popitem(last=False)

    def clear(self) -> None:
        self._found.clear()


_known = _Known()


def forget() -> None:
    """Ask the stores anew what lies where."""
    _known.clear()


class ObjectPath(PosixPath):
    """`gs://BUCKET/KEY` or `s3://BUCKET/KEY`, read-only; what readers ask of a Path, answered by the store.

    Raises FileNotFoundError, and Unreadable where the store cannot be reached or refuses.
    """

    def __str__(self) -> str:
        text = super().__str__()
        return text.replace(":/", "://", 1) if text.startswith(_HEADS) else text

    def __fspath__(self) -> str:
        return str(self)

    def __reduce__(self) -> tuple[type[ObjectPath], tuple[str, ...]]:
        return type(self), (str(self),)

    def absolute(self) -> ObjectPath:
        return self

    def resolve(self, strict: bool = False) -> ObjectPath:
        return self

    def expanduser(self) -> ObjectPath:
        return self

    def is_absolute(self) -> bool:
        return super().__str__().startswith(_HEADS)

    def entry(self) -> Entry:
        """What lies here, as it was at most a minute ago. Raises FileNotFoundError."""
        url = str(self)
        known, beside = _known.get(str(self.parent), folder=True)
        if known:
            found = None if beside is None else beside.get(self.name)
        else:
            known, found = _known.get(url, folder=False)
            if not known:
                try:
                    found = look_up(url)
                except FileNotFoundError:
                    found = None
                _known.put(url, False, found)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), url)
        entry: Entry = found
        return entry

    def checksum(self) -> str:
        """32 hex digits that tell contents apart by what the store keeps of them: MD5 or ETag, and size."""
        found = self.entry()
        return xxhash.xxh3_128_hexdigest(f"{found.checksum}\0{found.size}".encode())

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        found = self.entry()
        mode = stat.S_IFDIR | 0o555 if found.is_folder else stat.S_IFREG | 0o444
        seconds = found.mtime_ns // 1_000_000_000
        return os.stat_result(
            (mode, 0, 0, 1, 0, 0, found.size, seconds, seconds, seconds), {"st_mtime_ns": found.mtime_ns}
        )

    def iterdir(self) -> Generator[ObjectPath, None, None]:
        url = str(self)
        known, entries = _known.get(url, folder=True)
        if not known:
            try:
                entries = look_into(url)
            except FileNotFoundError:
                entries = None
            _known.put(url, True, entries)
        if entries is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), url)
        for name in entries:
            yield self / name

    def glob(self, pattern: str) -> Generator[ObjectPath, None, None]:
        seen = set()
        for found in _matching(self, pattern.split("/")):
            if found not in seen:
                seen.add(found)
                yield found

    def rglob(self, pattern: str) -> Generator[ObjectPath, None, None]:
        return self.glob(f"**/{pattern}")

    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Any:
        if set(mode) & set("wax+"):
            raise OSError(errno.EROFS, "objects are only read", str(self))
        found = self.entry()
        if found.is_folder:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self))
        file = ObjectFile(str(self), found)
        return file if "b" in mode else io.TextIOWrapper(io.BufferedReader(file), encoding, errors, newline)


def _matching(folder: ObjectPath, pattern: Sequence[str]) -> Iterator[ObjectPath]:
    """Paths below a folder that match a pattern's parts; `**` stands for any number of folders."""
    if not pattern:
        yield folder
        return
    head, rest = pattern[0], pattern[1:]
    if head == "**":
        yield from _matching(folder, rest)
        for child in folder.iterdir() if folder.is_dir() else ():
            if child.is_dir():
                yield from _matching(child, pattern)
            elif not rest:
                yield child
    elif not set(head) & set("*?["):
        if (folder / head).exists():
            yield from _matching(folder / head, rest)
    elif folder.is_dir():
        for child in folder.iterdir():
            if fnmatch.fnmatchcase(child.name, head):
                yield from _matching(child, rest)
