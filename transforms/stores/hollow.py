"""An mp4 on a store without what its pictures hold: enough to demux it, for the price of its index."""

from __future__ import annotations

from bisect import bisect_right

from transforms.stores.files import ObjectFile
from transforms.stores.paths import ObjectPath, located

_MEDIA = b"mdat"
_SHOWN_BYTES = 1 << 19
"""The first pictures stay: FFmpeg decodes one to learn what the stream is."""


class HollowMp4(ObjectFile):
    """An object whose top-level `mdat` boxes read as zeros, but for the first pictures; what is zero is never fetched.

    Stamps and sizes of an mp4's packets stand in its other boxes, and so do its keyframes, in the index (ISO/IEC
    14496-12); a parser that looks at zeros finds other ones. What is no mp4 has no such box, and is read as it is.
    """

    def __init__(self, path: ObjectPath) -> None:
        super().__init__(str(path), path.entry())
        self._starts: list[int] = []
        self._ends: list[int] = []
        at = 0
        while at + 8 <= self.size:
            head = self.pread(16, at)
            length, kind = int.from_bytes(head[:4], "big"), head[4:8]
            skip = 8
            if at == 0 and kind != b"ftyp":
                return
            if length == 1:
                length, skip = int.from_bytes(head[8:16], "big"), 16
            end = self.size if length == 0 else at + max(length, 8)
            if kind == _MEDIA:
                shown = 0 if self._starts else _SHOWN_BYTES
                self._starts.append(min(end, at + skip + shown))
                self._ends.append(min(end, self.size))
            at = end

    @property
    def is_hollow(self) -> bool:
        """Whether anything reads as zeros."""
        return bool(self._starts)

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self.size - self.tell())
        end = self.tell() + (left if size is None or size < 0 else min(size, left))
        parts = []
        while (at := self.tell()) < end:
            box = bisect_right(self._starts, at) - 1
            if box >= 0 and at < self._ends[box]:
                stop = min(end, self._ends[box])
                parts.append(bytes(stop - at))
                self.seek(stop)
            else:
                following = self._starts[box + 1] if box + 1 < len(self._starts) else end
                parts.append(super().read(min(end, following) - at))
        return b"".join(parts)


def hollow_of(uri: str) -> HollowMp4 | None:
    """An object without its pictures, to look at its packets alone; None for a local file, and where nothing lies."""
    path = located(uri)
    return HollowMp4(path) if isinstance(path, ObjectPath) and path.is_file() else None
