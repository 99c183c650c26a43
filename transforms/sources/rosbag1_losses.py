"""What is lost of a ROS 1 bag, in messages and seconds: by its indexes, else by the bytes that are missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from transforms.arrays import rounded
from transforms.episode import Finding
from transforms.sources.ros_collect import STAGE
from transforms.sources.rosbag1_messages import Messages
from transforms.sources.rosbag1_records import ChunkInfo, joined


@dataclass
class _Chunk:
    """What a chunk should hold, where an index says it, and what was found in its `unpacked` bytes."""

    expected: ChunkInfo | None = None
    found: ChunkInfo | None = None
    unpacked: int = 0

    @property
    def count(self) -> int:
        return self.found.count if self.found is not None else 0

    @property
    def lost_s(self) -> float:
        """Time that the chunk's lost messages span, those at its end; 0 where none is lost."""
        if self.expected is None or self.expected.count <= self.count:
            return 0.0
        since = self.expected.start_ns if self.found is None else self.found.end_ns
        return max(0, self.expected.end_ns - since) / 1e9


@dataclass
class Losses:
    """One file's: `index_pos` is where its bag header says that the index begins, 0 where it was never closed."""

    name: str
    size: int
    index_pos: int = 0
    ended: bool = False
    why_no_index: str = ""
    cut: str = ""
    damage: list[str] = field(default_factory=list)
    chunks: dict[int, _Chunk] = field(default_factory=dict)
    _cut_chunk: tuple[int, int, int] | None = None

    def expect(self, infos: Mapping[int, ChunkInfo]) -> None:
        """What the index at the end says of the chunks by their place."""
        for at, info in infos.items():
            self.chunks.setdefault(at, _Chunk()).expected = info

    def expect_more(self, at: int, info: ChunkInfo) -> None:
        """What an index behind a chunk says of one connection's messages, where the end of the file says nothing."""
        if not self.ended:
            chunk = self.chunks.setdefault(at, _Chunk())
            chunk.expected = joined(chunk.expected, info)

    def took(self, at: int, found: Messages) -> None:
        """What was found in the records that begin at byte `at` of the file."""
        chunk = self.chunks.setdefault(at, _Chunk())
        if len(found.log_ns):
            chunk.unpacked += len(found.buffer) - found.spare
            info = ChunkInfo(len(found.log_ns), int(found.log_ns.min()), int(found.log_ns.max()))
            chunk.found = joined(chunk.found, info)

    def chunk_cut(self, at: int, end: int, size: int) -> None:
        """The file ends in the chunk from byte `at` to byte `end`, which holds `size` bytes unpacked."""
        self._cut_chunk = (at, end, size)

    @property
    def messages(self) -> int:
        return sum(chunk.count for chunk in self.chunks.values())

    def findings(self) -> Iterator[Finding]:
        """No index, damaged chunks, and what is lost."""
        if not self.ended:
            where = f"; it is cut in {self.cut}" if self.cut else ""
            detail = f"{self.name}: {self.size} bytes without an index at the end ({self.why_no_index}){where}"
            yield Finding(STAGE, "integrity.no_summary", 1.0, "files", detail=detail)
        for detail in self.damage:
            yield Finding(STAGE, "integrity.chunk", 1.0, "chunks", detail=f"{self.name}: {detail}")
        counts = [(chunk.expected.count, chunk.count) for chunk in self.chunks.values() if chunk.expected is not None]
        known = sum(max(0, expected - found) for expected, found in counts)
        spare = sum(max(0, found - expected) for expected, found in counts)
        if spare:
            detail = f"{self.name}: its indexes name {spare} messages fewer than its chunks hold"
            yield Finding(STAGE, "metadata.message_count", float(spare), "messages", detail=detail)
        yield from self._lost(known, sum(chunk.lost_s for chunk in self.chunks.values()))

    def _about(self) -> int:
        """Messages that the missing bytes would have held, at so many bytes a message as those that are there take.

        Of the chunk that is cut, unpacked bytes are counted; of what followed it, bytes of the file up to the index.
        """
        packed_from = min(self.chunks, default=0)
        at, end, size = self._cut_chunk or (self.size, self.size, 0)
        unpacked = sum(chunk.unpacked for chunk in self.chunks.values())
        if self.ended or not self.messages:
            return 0
        a_message = unpacked / self.messages
        of_chunk = max(0, size - self.chunks[at].unpacked) / a_message if at in self.chunks else 0.0
        whole = sum(chunk.count for place, chunk in self.chunks.items() if place < at)
        packed = (at - packed_from) / whole if whole else (end - at) * a_message / max(1, size)
        after = max(0, self.index_pos - end) / packed if packed else 0.0
        return round(of_chunk + after)

    def _lost(self, known: int, known_s: float) -> Iterator[Finding]:
        """`known` messages over `known_s` by the indexes, and what the bytes that are missing would have held."""
        infos = [chunk.found for chunk in self.chunks.values() if chunk.found is not None]
        about = self._about()
        span_s = (max(i.end_ns for i in infos) - min(i.start_ns for i in infos)) / 1e9 if infos else 0.0
        about_s = about * span_s / max(1, self.messages - 1)
        if known or about:
            said = [f"{known} by the indexes"] if known else []
            said += [f"about {about} by the size of what is missing"] if about else []
            unknown = "" if self.ended or self.index_pos else "; what followed the last chunk is not known"
            detail = f"{self.name}: {' and '.join(said)}, {self.messages} are whole{unknown}"
            yield Finding(STAGE, "integrity.lost_messages", float(known + about), "messages", detail=detail)
            yield Finding(STAGE, "integrity.lost_s", rounded(known_s + about_s), "s", detail=detail)
        elif not self.ended:
            detail = f"{self.name}: without an index, what followed its {self.messages} whole messages is not known"
            yield Finding(STAGE, "integrity.lost_messages", unit="messages", detail=detail, status="not_run")
            yield Finding(STAGE, "integrity.lost_s", unit="s", detail=detail, status="not_run")
