"""The state of one job: its stages, which buffers join them, and when a stage or a side input is complete."""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from beam_pipeline.runner.beam_internals import ENCODED_IMPULSE_VALUE
from beam_pipeline.runner.blocks import Span
from beam_pipeline.runner.driver.graph import Block, BlockSpan, Shuffle, StageState, Work
from beam_pipeline.runner.hints import ResourceRequest
from beam_pipeline.runner.metrics import CommittedMetrics
from beam_pipeline.runner.options import RunnerConfig
from beam_pipeline.runner.plan import IMPULSE, StageOutput, StagePlan
from beam_pipeline.runner.progress import Progress

_ADVANCE_LIMIT = 10_000


class Job:
    """A planned pipeline while it runs."""

    def __init__(self, plans: Sequence[StagePlan], config: RunnerConfig, progress: Progress) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.config = config
        self.progress = progress
        self.metrics = CommittedMetrics()
        self.stages = {plan.name: StageState(plan, depth) for depth, plan in enumerate(plans)}
        self.by_depth = list(reversed(self.stages.values()))
        self.internal: list[Work] = []
        self.running = 0
        self.idle_rounds = 0
        self.stream_readers: dict[str, list[tuple[StageState, str]]] = defaultdict(list)
        self.shuffle_readers: dict[tuple[str, str], list[Shuffle]] = defaultdict(list)
        self.side_blocks: dict[str, list[Block]] = {}
        self._side_producers: dict[str, set[str]] = defaultdict(set)
        self._side_readers: dict[str, int] = defaultdict(int)
        self._join()

    def _join(self) -> None:
        writers: dict[str, set[str]] = defaultdict(set)
        for stage in self.stages.values():
            for output in stage.plan.outputs:
                writers[output.buffer].add(stage.plan.name)
        for stage in self.stages.values():
            for reader in stage.plan.inputs:
                if reader.kind == IMPULSE:
                    stage.defer(0.0, reader.transform_id, ENCODED_IMPULSE_VALUE)
                    continue
                stage.producers |= writers[reader.buffer]
                if reader.kind == "stream":
                    self.stream_readers[reader.buffer].append((stage, reader.transform_id))
                else:
                    shuffle = Shuffle(reader.transform_id, stage.plan.partitions)
                    stage.shuffles[reader.transform_id] = shuffle
                    self.shuffle_readers[(reader.buffer, reader.kind)].append(shuffle)
            for side in stage.plan.side_inputs:
                stage.missing_sides.add((side.transform_id, side.tag))
                self.side_blocks.setdefault(side.buffer, [])
                self._side_producers[side.buffer] = set(writers[side.buffer])
                self._side_readers[side.buffer] += 1

    def begin(self) -> None:
        """Announce the stages; side inputs that nothing produces are complete at once."""
        for stage in self.stages.values():
            self.progress.stage_added(stage.plan.name, stage.plan.label)
        for buffer, producers in self._side_producers.items():
            if not producers:
                self._index(buffer)

    def advance(self) -> bool:
        """Move on what became complete; whether the whole job is."""
        moved = True
        while moved:
            moved = False
            for stage in self.stages.values():
                if stage.done:
                    continue
                for shuffle in stage.shuffles.values():
                    self._advance_shuffle(stage, shuffle)
                if stage.drained():
                    self._finish(stage)
                    moved = True
        return all(stage.done for stage in self.stages.values())

    def _advance_shuffle(self, stage: StageState, shuffle: Shuffle) -> None:
        if shuffle.cut:
            return
        runs = shuffle.to_merge()
        if runs:
            self.internal.append(Work("merge", stage, f"{stage.plan.name}/merge", [], blocks=runs, shuffle=shuffle))
        elif not stage.producers and not shuffle.merging:
            shuffle.cut_into_parts(self.config.workers_max, self.config.bundle_bytes)

    def _finish(self, stage: StageState) -> None:
        stage.done = True
        self.progress.stage_done(stage.plan.name)
        name = stage.plan.name
        for shuffle in stage.shuffles.values():
            for block in shuffle.held():
                block.release()
        for block in stage.sides.values():
            block.release()
        for other in self.stages.values():
            other.producers.discard(name)
        for buffer, producers in self._side_producers.items():
            if name in producers:
                producers.discard(name)
                if not producers:
                    self._index(buffer)

    def _index(self, buffer: str) -> None:
        """Have the index of every side input made that reads the buffer."""
        blocks = self.side_blocks[buffer]
        for stage in self.stages.values():
            for side in stage.plan.side_inputs:
                if side.buffer == buffer:
                    name = f"{stage.plan.name}/side/{side.tag}"
                    self.internal.append(Work("index", stage, name, [], blocks=list(blocks), side_input=side))

    def hand_on(self, output: StageOutput, block: Block) -> None:
        """Give a committed block to all who read it; it is let go of where nobody does."""
        buffer = output.buffer
        if block.info.nbytes and output.kind == "stream":
            for stage, transform_id in self.stream_readers[buffer]:
                block.users += 1
                stage.push(spans_of(block, transform_id))
            if buffer in self.side_blocks:
                block.users += self._side_readers[buffer]
                self.side_blocks[buffer].append(block)
        elif block.info.nbytes:
            for shuffle in self.shuffle_readers[(buffer, output.kind)]:
                block.users += 1
                shuffle.fresh.append(block)
        if not block.users:
            block.payload = None

    def needed(self) -> set[ResourceRequest]:
        """The resource requests of the stages that are not done."""
        return {stage.plan.request for stage in self.stages.values() if not stage.done}

    def throttled(self, stage: StageState) -> bool:
        """Whether an edge behind the stage holds as many bytes as it may while its reader could take them."""
        limit = self.config.edge_bytes
        for output in stage.plan.outputs:
            if output.kind != "stream":
                continue
            for reader, _ in self.stream_readers[output.buffer]:
                expected = reader.queued_bytes + stage.running * stage.largest_out
                if reader.ready and expected >= limit:
                    return True
        return False

    def waits_for_time(self) -> bool:
        """Whether some stage has an element that is due later."""
        now = time.monotonic()
        return any(s.encoded and s.encoded[0][0] > now for s in self.stages.values() if not s.done)

    def describe(self) -> str:
        """The stages that are not done and what they wait for, for a message."""
        parts: list[str] = []
        for stage in self.stages.values():
            if not stage.done:
                waits: dict[str, Any] = {
                    "producers": sorted(stage.producers),
                    "queued": len(stage.queue),
                    "side inputs": sorted(stage.missing_sides),
                    "running": stage.running,
                }
                parts.append(f"{stage.plan.label} {waits}")
        return "; ".join(parts)


def spans_of(block: Block, transform_id: str) -> BlockSpan:
    """The whole block as input of a transform."""
    return BlockSpan(block, transform_id, Span(0, block.info.nbytes, block.info.cuts))
