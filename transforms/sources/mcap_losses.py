"""What is lost of an MCAP file: in messages and seconds where the file says so, and otherwise that it does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from transforms.arrays import rounded
from transforms.episode import Finding
from transforms.sources.mcap_declared import Statistics
from transforms.sources.mcap_records import ChunkHead

STAGE = "load"


@dataclass
class Losses:
    """One file's: `seconds` and `messages` of damaged or cut chunks, `about` so many by the size of what is missing."""

    name: str
    seconds: float = 0.0
    messages: int = 0
    about: int = 0
    damage: list[str] = field(default_factory=list)
    cut: str = ""
    ended: bool = False
    _open: bool = False
    _seen: tuple[int, int] = (0, 0)

    def chunk_damaged(self, at: int, head: ChunkHead, why: str) -> None:
        """A whole chunk that cannot be used; the message indexes that follow say how many messages it had."""
        lasts = (head.end_ns - head.start_ns) / 1e9
        span = f"{head.start_ns} to {head.end_ns} ns, {lasts:.6g} s"
        self.damage.append(f"the chunk at byte {at} ({span}) is left out: {why}")
        self.seconds += lasts
        self._open = True

    def chunk_whole(self, size: int, messages: int) -> None:
        """A chunk that was read: its bytes and messages tell how many others hold."""
        self._open = False
        self._seen = (self._seen[0] + size, self._seen[1] + messages)

    def chunk_cut(self, at: int, head: ChunkHead, last_ns: int | None, got: int, messages: int) -> None:
        """The file ends in a chunk, of which `got` bytes and so many messages are there, the last at `last_ns`."""
        missing = max(0.0, (head.end_ns - (head.start_ns if last_ns is None else last_ns)) / 1e9)
        self.cut = f"the chunk at byte {at}, whose last {missing:.6g} s are lost"
        self.seconds += missing
        seen_bytes, seen = self._seen[0] + got, self._seen[1] + messages
        if seen:
            self.about = round(seen * max(0, head.size - got) / seen_bytes)

    def index_of(self, size: int) -> None:
        """A message index of `size` bytes: 16 a message after a channel and a length."""
        if self._open:
            self.messages += max(0, size - 6) // 16

    def findings(self, size: int, whole: int, said: Statistics | None) -> Iterator[Finding]:
        """For a file of `size` bytes and so many whole messages, of which its summary says `said`."""
        name = self.name
        if not self.ended:
            where = f"; it is cut in {self.cut}" if self.cut else ""
            detail = f"{name}: {size} bytes without a summary at the end{where}"
            yield Finding(STAGE, "integrity.no_summary", 1.0, "files", detail=detail)
        for detail in self.damage:
            yield Finding(STAGE, "integrity.chunk", 1.0, "chunks", detail=f"{name}: {detail}")
        missing = said.messages - whole if said is not None else self.messages + self.about
        if said is not None and missing < 0:
            detail = f"{name}: {said.messages} messages declared, {whole} are there"
            yield Finding(STAGE, "metadata.message_count", float(-missing), "messages", detail=detail)
        elif missing > 0:
            if said is not None:
                how = f"{said.messages} messages declared, {whole} are whole"
            elif self.about:
                how = f"about {self.about} of the chunk that is cut, by its size; what followed it is not known"
            else:
                how = f"by the index of chunks that are damaged; {whole} are whole"
            yield Finding(STAGE, "integrity.lost_messages", float(missing), "messages", detail=f"{name}: {how}")
        elif not self.ended:
            detail = f"{name}: without a summary, how many messages are lost is not known; {whole} are whole"
            yield Finding(STAGE, "integrity.lost_messages", unit="messages", detail=detail, status="not_run")
        if self.seconds:
            detail = f"{name}: of chunks that are damaged or cut" + (
                "" if self.ended else "; what followed is not known"
            )
            yield Finding(STAGE, "integrity.lost_s", rounded(self.seconds), "s", detail=detail)
        elif not self.ended:
            detail = f"{name}: without a summary, how long it went on after its last message is not known"
            yield Finding(STAGE, "integrity.lost_s", unit="s", detail=detail, status="not_run")
        elif missing > 0:
            detail = f"{name}: the file does not say when the messages that are lost were logged"
            yield Finding(STAGE, "integrity.lost_s", unit="s", detail=detail, status="not_run")
