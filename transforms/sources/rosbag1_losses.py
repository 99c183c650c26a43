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
    """What a chunk should hold, where an index says it, and what was found in its `stored` bytes."""

    expected: ChunkInfo | None = None
    found: ChunkInfo | None = None
    stored: int = 0

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
    missing: int = 0
    damage: list[str] = field(default_factory=list)
    chunks: dict[int, _Chunk] = field(default_factory=dict)

    def expect(self, infos: Mapping[int, ChunkInfo]) -> None:
        """What the index at the end says of the chunks by their place."""
        for at, info in infos.items():
            self.chunks.setdefault(at, _Chunk()).expected = info

    def expect_more(self, at: int, info: ChunkInfo) -> None:
        """What an index behind a chunk says of one connection's messages, where the end of the file says nothing."""
        if not self.ended:
            chunk = self.chunks.setdefault(at, _Chunk())
            chunk.expected = joined(chunk.expected, info)

    def took(self, at: int, found: Messages, stored: int) -> None:
        """What was found in `stored` bytes of the file that begin at byte `at`."""
        chunk = self.chunks.setdefault(at, _Chunk())
        chunk.stored += stored
        if len(found.log_ns):
            info = ChunkInfo(len(found.log_ns), int(found.log_ns.min()), int(found.log_ns.max()))
            chunk.found = joined(chunk.found, info)

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

    def _lost(self, known: int, known_s: float) -> Iterator[Finding]:
        """`known` messages over `known_s` by the indexes, and what the bytes that are missing would have held."""
        whole = [chunk for chunk in self.chunks.values() if chunk.found is not None]
        infos = [chunk.found for chunk in whole if chunk.found is not None]
        about, about_s, missing = 0, 0.0, 0 if self.ended else max(self.missing, self.index_pos - self.size)
        stored = sum(chunk.stored for chunk in whole)
        if missing and stored:
            span_s = (max(info.end_ns for info in infos) - min(info.start_ns for info in infos)) / 1e9
            about, about_s = round(self.messages * missing / stored), span_s * missing / stored
        if known or about:
            said = f"{known} by the indexes" if known else ""
            if about:
                said += ", " if said else ""
                said += f"about {about} by the {missing} bytes that are missing"
                said += "" if self.index_pos else " of the last chunk; what followed it is not known"
            detail = f"{self.name}: {said}; {self.messages} are whole"
            yield Finding(STAGE, "integrity.lost_messages", float(known + about), "messages", detail=detail)
            yield Finding(STAGE, "integrity.lost_s", rounded(known_s + about_s), "s", detail=detail)
        elif not self.ended:
            detail = f"{self.name}: without an index, what followed its {self.messages} whole messages is not known"
            yield Finding(STAGE, "integrity.lost_messages", unit="messages", detail=detail, status="not_run")
            yield Finding(STAGE, "integrity.lost_s", unit="s", detail=detail, status="not_run")
