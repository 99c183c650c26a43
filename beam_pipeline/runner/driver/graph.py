"""The running job as the driver sees it: blocks and what made them, queues of stages, shuffles, side inputs."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from beam_pipeline.runner.blocks import Span, take
from beam_pipeline.runner.plan import SideInput, StagePlan
from beam_pipeline.runner.shuffle.read import KeyRange
from beam_pipeline.runner.tasks import EncodedInput

_MAX_SPANS = 128
_TAIL = 8
_MERGE_RUNS = 48
_MERGE_BYTES = 384 << 20


@dataclass(slots=True, eq=False)
class Block:
    """One output of a piece of work: its payload is a Ray ref, the value where it is small, or None once dropped.

    `users` counts who still needs it; at zero the driver lets go of it, and only its origin could bring it back.
    `consumed`: whether work that read some of it is committed, so that it may not change any more.
    """

    info: Any
    payload: Any
    origin: Work
    place: int
    users: int = 0
    consumed: bool = False

    def release(self) -> None:
        self.users -= 1
        if self.users <= 0:
            self.payload = None


@dataclass(slots=True, eq=False)
class BlockSpan:
    """A span of a block as input of a stage."""

    block: Block
    transform_id: str
    span: Span


@dataclass(slots=True, eq=False)
class ShufflePart:
    """A range of keys of a shuffle as input of a stage."""

    shuffle: Shuffle
    transform_id: str
    keys: KeyRange


@dataclass(slots=True, eq=False)
class Work:
    """Something that one worker does at a time: a bundle, a merge of runs, the index of a side input.

    `replaying`: committed, and done again to bring back its outputs; its inputs are held meanwhile. `outdated`: the
    attempt that runs was given an input that has changed since, so that its result is not to be committed. `kept`: what
    was left of the last element when that was split; `deferred`: the elements whose rest user code put off.
    """

    kind: str
    stage: StageState
    name: str
    inputs: list[BlockSpan | EncodedInput | ShufflePart]
    blocks: list[Block] = field(default_factory=list)
    shuffle: Shuffle | None = None
    side_input: SideInput | None = None
    outputs: list[Block] = field(default_factory=list)
    committed: bool = False
    kept: bytes | None = None
    deferred: tuple[bytes, ...] = ()
    attempts: int = 0
    user_failures: int = 0
    system_failures: int = 0
    replaying: bool = False
    outdated: bool = False

    def input_blocks(self) -> set[Block]:
        """Every block that an attempt reads, the indexes of side inputs included."""
        found = set(self.blocks)
        for item in self.inputs:
            if isinstance(item, BlockSpan):
                found.add(item.block)
            elif isinstance(item, ShufflePart):
                for run in item.shuffle.streams(item.keys.first, item.keys.last):
                    found.update(run)
        if self.kind == "bundle":
            found.update(self.stage.sides.values())
        return found


@dataclass(slots=True, eq=False)
class Shuffle:
    """The runs of one shuffled input: single blocks as they are committed, and merged ones of many blocks."""

    transform_id: str
    partitions: int
    fresh: list[Block] = field(default_factory=list)
    merged: list[list[Block]] = field(default_factory=list)
    merging: int = 0
    parts: deque[ShufflePart] = field(default_factory=deque)
    cut: bool = False
    consumed: bool = False

    def held(self) -> Iterator[Block]:
        yield from self.fresh
        for run in self.merged:
            yield from run

    def streams(self, first: int, last: int) -> list[list[Block]]:
        """Per run its blocks that hold something of the partitions, in order."""
        wanted = [[b] for b in self.fresh] + self.merged
        chosen = ([b for b in run if b.info.nbytes_of(first, last)] for run in wanted)
        return [run for run in chosen if run]

    def to_merge(self) -> list[Block] | None:
        """Runs that are many or large enough to be merged into one; they are taken out."""
        if len(self.fresh) < _MERGE_RUNS and sum(b.info.nbytes for b in self.fresh) < _MERGE_BYTES:
            return None
        if len(self.fresh) < 2:
            return None
        taken, self.fresh = self.fresh, []
        self.merging += 1
        return taken

    def cut_into_parts(self, parallel: int, bundle_bytes: int) -> None:
        """Deal the partitions out in ranges of about `bundle_bytes` that keep `parallel` workers busy.

        They get smaller towards the end, so that all workers end at about the same time; one worker gets it all.
        """
        self.cut = True
        sizes = [sum(b.info.nbytes_of(p, p + 1) for b in self.held()) for p in range(self.partitions)]
        left = sum(sizes)
        least, pieces = (left // (2 * _TAIL * parallel), 2 * parallel) if parallel > 1 else (left, 1)
        first, filled = 0, 0
        for partition, size in enumerate(sizes):
            filled += size
            target = max(1, min(bundle_bytes, max(least, left // pieces)))
            if filled and (2 * filled + size >= 2 * target or partition == self.partitions - 1):
                self.parts.append(ShufflePart(self, self.transform_id, KeyRange(first, partition + 1)))
                first, left, filled = partition + 1, left - filled, 0


@dataclass(slots=True, eq=False)
class StageState:
    """A stage of the running job."""

    plan: StagePlan
    depth: int
    queue: deque[BlockSpan] = field(default_factory=deque)
    queued_bytes: int = 0
    level: int = 0
    encoded: list[tuple[float, int, str, bytes]] = field(default_factory=list)
    shuffles: dict[str, Shuffle] = field(default_factory=dict)
    producers: set[str] = field(default_factory=set)
    missing_sides: set[tuple[str, str]] = field(default_factory=set)
    sides: dict[tuple[str, str], Block] = field(default_factory=dict)
    running: int = 0
    uncommitted: int = 0
    bundles: int = 0
    finished: int = 0
    seconds: float = 0.0
    largest_out: int = 0
    done: bool = False
    sequence: int = 0

    @property
    def ready(self) -> bool:
        return not self.missing_sides

    @property
    def mean_seconds(self) -> float:
        return self.seconds / self.finished if self.finished else 1.0

    def drained(self) -> bool:
        """Whether nothing is left to do, now that its producers are done."""
        return not (
            self.producers
            or self.uncommitted
            or self.queue
            or self.encoded
            or self.missing_sides
            or any(s.parts or s.merging or not s.cut for s in self.shuffles.values())
        )

    def push(self, item: BlockSpan, front: bool = False) -> None:
        (self.queue.appendleft if front else self.queue.append)(item)
        self.queued_bytes += item.span.nbytes
        if not front:
            self.level = self.queued_bytes

    def withdraw(self, block: Block) -> None:
        """Take a block out of the queue."""
        self.queue = deque(item for item in self.queue if item.block is not block)
        self.queued_bytes = sum(item.span.nbytes for item in self.queue)

    def defer(self, due: float, transform_id: str, element: bytes) -> None:
        self.sequence += 1
        heapq.heappush(self.encoded, (due, self.sequence, transform_id, element))

    def has_input(self, now: float) -> bool:
        if self.queue or (self.encoded and self.encoded[0][0] <= now):
            return True
        return any(s.parts for s in self.shuffles.values())

    def waiting_bytes(self) -> int:
        """Encoded input at hand that no bundle has taken yet; of a shuffle once all of it is there."""
        waiting = self.queued_bytes + sum(len(element) for *_, element in self.encoded)
        for shuffle in self.shuffles.values():
            if shuffle.parts:
                first = min(part.keys.first for part in shuffle.parts)
                last = max(part.keys.last for part in shuffle.parts)
                waiting += sum(block.info.nbytes_of(first, last) for block in shuffle.held())
        return waiting

    def backlog(self, most: int) -> int:
        """How many bundles could be formed now, counted up to `most`; at least 1, for work that is at hand already."""
        waiting = len(self.encoded) + sum(len(s.parts) for s in self.shuffles.values())
        for item in self.queue:
            if waiting >= most:
                break
            waiting += len(item.span.cuts)
        return max(1, min(waiting, most))

    def next_inputs(self, now: float, parallel: int, bundle_bytes: int) -> list[BlockSpan | EncodedInput | ShufflePart]:
        """The input of the next bundle; it is taken out of the queues."""
        if self.encoded and self.encoded[0][0] <= now:
            _, _, transform_id, element = heapq.heappop(self.encoded)
            return [EncodedInput(transform_id, (element,))]
        for shuffle in self.shuffles.values():
            if shuffle.parts:
                return [shuffle.parts.popleft()]
        # large bundles first and smaller ones at the end, so that all places end at about the same time
        share = max(self.queued_bytes // parallel, self.level // (parallel * _TAIL))
        target = max(1, min(bundle_bytes, share))
        inputs: list[BlockSpan | EncodedInput | ShufflePart] = []
        filled = 0
        while self.queue and filled < target and len(inputs) < _MAX_SPANS:
            item = self.queue.popleft()
            front, rest = take(item.span, target - filled)
            self.queued_bytes -= item.span.nbytes
            if rest:
                item.block.users += 1
                self.push(BlockSpan(item.block, item.transform_id, rest), front=True)
            inputs.append(BlockSpan(item.block, item.transform_id, front))
            filled += front.nbytes
        return inputs
