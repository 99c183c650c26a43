"""HDF5 files opened with care: walked within limits, every declared size checked before anything is allocated."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from transforms.stores.files import ObjectFile
from transforms.stores.paths import failing_loudly
from transforms.unreadable import Unreadable

MAGIC = b"\x89HDF\r\n\x1a\n"
FAULTS = (OSError, RuntimeError, KeyError, ValueError, TypeError)
"""What h5py raises on damaged bytes, by where they lie."""
_MAX_DEPTH = 16
_MAX_MEMBERS = 4096
_MAX_EXPANSION = 1100
"""No HDF5 filter in use expands more: deflate stays below 1032:1."""
_SLAB_BYTES = 1 << 30
_PLAIN = tuple(
    (h5py.h5t.py_create(dtype), dtype)
    for dtype in map(np.dtype, ("f4", "f8", "u1", "i8", "i4", "u2", "i2", "u4", "u8"))
)
"""Types that lie in the file as they do in memory; comparing with them costs less than having h5py decode a type."""


def has_magic(path: Path) -> bool:
    """Whether a file begins as HDF5 does."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The file, open for reading.

    Raises Unreadable: `absent`, `empty`, `wrong_format`, `truncated`, `corrupt`, `unreadable` where it is locked, and,
    whatever else that led to, what a store failed by, since HDF5 forgets it.
    """
    with failing_loudly(path) as source, _open_file(path, source) as file:
        yield file


def _open_file(path: Path, source: Path | ObjectFile) -> h5py.File:
    if not path.is_file():
        raise Unreadable("absent", f"{path} is not a file; restore it or correct the source's path")
    size = path.stat().st_size
    if size == 0:
        raise Unreadable("empty", f"{path} is empty (0 bytes); record or copy it again")
    if not has_magic(path):
        raise Unreadable("wrong_format", f"{path} does not begin as HDF5 does; correct the source's path or format")
    try:
        return h5py.File(source, "r")
    except FAULTS as error:
        if "unable to lock file" in str(error):
            detail = f"{path} is open for writing elsewhere ({error}); wait until its writer has closed it"
            raise Unreadable("unreadable", detail) from error
        cut = "truncated" in str(error)
        why = f"is cut off at {size} bytes" if cut else "cannot be opened as HDF5"
        raise Unreadable("truncated" if cut else "corrupt", f"{path} {why} ({error}); copy it again") from error


@dataclass(frozen=True)
class Member:
    """A dataset whose declared size its file can hold; `shape` and `dtype` are read once, as h5py decodes them anew."""

    item: h5py.h5d.DatasetID
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    plain: tuple[int, int] | None = None
    """File descriptor and offset where its bytes lie one after another and as they are in memory; else None."""

    @property
    def dataset(self) -> h5py.Dataset:
        """The dataset as h5py users know it."""
        return h5py.Dataset(self.item)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole dataset in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> NDArray[np.generic]:
        """All of it, in native byte order. Raises Unreadable `corrupt` where its bytes cannot be decoded."""
        try:
            if self.dtype.hasobject or 0 in self.shape:
                values: NDArray[np.generic] = np.asarray(self.dataset[()])
                return values
            out = np.empty(self.shape, self.dtype.newbyteorder("="))
            if self.plain is None:
                self.item.read(h5py.h5s.ALL, h5py.h5s.ALL, out)
            else:
                self._read_plain(out.reshape(-1).view(np.uint8).data)
        except FAULTS as error:
            place = f"{Path(self.dataset.file.filename).name} {self.dataset.name.lstrip('/')}"
            raise Unreadable("corrupt", f"{place}: cannot be read ({error}); copy or record the file again") from error
        return out

    def _read_plain(self, out: memoryview) -> None:
        """Fill `out` from the file itself, many times cheaper than through HDF5's selections."""
        assert self.plain is not None
        descriptor, offset = self.plain
        while out:
            got = os.preadv(descriptor, [out[:_SLAB_BYTES]], offset)
            if got == 0:
                raise OSError(f"the file ends {len(out)} bytes early, at byte {offset}")
            out, offset = out[got:], offset + got


def members(group: h5py.Group, place: str) -> dict[str, Member]:
    """Every dataset below a group by its `/` path, sorted; `place` names it in errors.

    Raises Unreadable: `corrupt` where links leave the file, loop, or cannot be followed, `absurd_size` where a
    dataset declares more bytes than its file can hold.
    """
    found: dict[str, Member] = {}
    file = group.file
    local = file.driver != "fileobj"
    descriptor = file.id.get_vfd_handle() if local and not file.userblock_size else None
    # the name is already a string
    limit = os.stat(file.filename).st_size if local else file.id.get_filesize()  # noqa: PTH116
    _walk(group.id, "", _Within(place, limit, descriptor), found)
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class _Within:
    """What all datasets of a walk share: its name in errors, the file's size and, unless shifted, its descriptor."""

    place: str
    size: int
    descriptor: int | None


def _walk(group: h5py.h5g.GroupID, prefix: str, within: _Within, found: dict[str, Member]) -> None:
    place = within.place
    if prefix.count("/") > _MAX_DEPTH or len(found) > _MAX_MEMBERS:
        detail = f"{place}: its groups loop or nest more than {_MAX_DEPTH} deep or {_MAX_MEMBERS} wide at {prefix!r}"
        raise Unreadable("corrupt", f"{detail}; write the file again")
    links: list[tuple[bytes, int]] = []
    group.links.iterate(lambda name, link: links.append((name, link.type)), info=True)
    for name, kind in links:
        path = f"{prefix}{name.decode('utf-8', 'replace')}"
        if kind not in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT):
            raise Unreadable("corrupt", f"{place}: {path} links to another file; store the data in this one")
        item = h5py.h5o.open(group, name)
        if isinstance(item, h5py.h5g.GroupID):
            _walk(item, f"{path}/", within, found)
        elif isinstance(item, h5py.h5d.DatasetID):
            found[path] = _plain_member(item, within) or _member(item, path, place, within.size)


def _plain_member(item: h5py.h5d.DatasetID, within: _Within) -> Member | None:
    """The member where its bytes lie in the file as in memory, all of them; None where that is not so."""
    offset = item.get_offset()  # only contiguous storage inside this very file has one
    if offset is None or within.descriptor is None:
        return None
    stored = item.get_type()
    dtype = next((dtype for known, dtype in _PLAIN if stored.equal(known)), None)
    if dtype is None:
        return None
    member = Member(item, item.shape, dtype, (within.descriptor, offset))
    return member if offset + member.nbytes <= within.size else None


def _member(item: h5py.h5d.DatasetID, path: str, place: str, file_size: int) -> Member:
    properties = item.get_create_plist()
    layout = properties.get_layout()
    member = Member(item, item.shape, item.dtype)
    if layout == h5py.h5d.VIRTUAL or properties.get_external_count():
        raise Unreadable("corrupt", f"{place}: {path} keeps its data in another file; store the data in this one")
    filtered = layout == h5py.h5d.CHUNKED and properties.get_nfilters() > 0
    limit = file_size * (_MAX_EXPANSION if filtered else 1)
    if member.nbytes > limit:
        size = f"declares {member.shape} of {member.dtype}, {member.nbytes} bytes"
        raise Unreadable("absurd_size", f"{place}: {path} {size}; the file can hold {limit}; write it again")
    return member
