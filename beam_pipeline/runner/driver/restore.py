"""What a replay wrote takes the place of what was lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from beam_pipeline.runner.driver.graph import Block, BlockSpan, Shuffle, ShufflePart, Work
from beam_pipeline.runner.driver.job import Job
from beam_pipeline.runner.driver.recovery import Recovery
from beam_pipeline.runner.errors import PipelineFailed
from beam_pipeline.runner.plan import StageOutput


class Restorer:
    """Takes the outputs of replays.

    A replay that writes something else than the first time is accepted as long as no work is committed that read what
    has changed: nothing is known of the first output then. Metrics stay those of the first time.
    """

    def __init__(self, job: Job, recovery: Recovery) -> None:
        self._job = job
        self._recovery = recovery

    def restore(
        self, work: Work, infos: Sequence[Any], payloads: Sequence[Any], deferred: tuple[bytes, ...] = ()
    ) -> None:
        """Bring the payloads of a committed work back; raises PipelineFailed for a change of what is in use already."""
        same = len(infos) == len(work.outputs)
        changed = [n for n, block in enumerate(work.outputs) if not same or infos[n] != block.info]
        in_use = work.kind != "bundle" or any(self._in_use(work, n) for n in changed)
        if deferred != work.deferred or (changed and in_use):
            raise _differs(work)
        for number, (block, payload) in enumerate(zip(work.outputs, payloads, strict=True)):
            if number in changed:
                self._replace(work.stage.plan.outputs[number], block, infos[number], payload)
            elif block.users:
                block.payload = payload
        work.replaying = False
        for block in work.input_blocks():
            block.release()

    def _in_use(self, work: Work, number: int) -> bool:
        """Whether committed work depends on an output, be it that it was empty."""
        output = work.stage.plan.outputs[number]
        if work.outputs[number].consumed:
            return True
        for stage in self._job.stages.values():
            for reader in stage.plan.inputs:
                if reader.buffer == output.buffer and reader.kind == output.kind:
                    shuffle = stage.shuffles.get(reader.transform_id)
                    if stage.done or (shuffle and shuffle.consumed):
                        return True
            for side in stage.plan.side_inputs:
                if side.buffer == output.buffer and (side.transform_id, side.tag) not in stage.missing_sides:
                    return True
        return False

    def _replace(self, output: StageOutput, block: Block, info: Any, payload: Any) -> None:
        """Take the lost block back from all its readers and hand them the new one."""
        job = self._job
        shuffles = job.shuffle_readers.get((output.buffer, output.kind), [])
        for stage, _ in job.stream_readers.get(output.buffer, []):
            stage.withdraw(block)
        for shuffle in shuffles:
            shuffle.fresh = [b for b in shuffle.fresh if b is not block]
            shuffle.parts.clear()
            shuffle.cut = False
        sides = job.side_blocks.get(output.buffer, [])
        sides[:] = [b for b in sides if b is not block]
        readers = list(self._recovery.open_work())
        for reader in readers:
            before = len(reader.inputs) + len(reader.blocks)
            reader.inputs = [i for i in reader.inputs if not _reads(i, block, shuffles)]
            reader.blocks = [b for b in reader.blocks if b is not block]
            reader.outdated |= len(reader.inputs) + len(reader.blocks) < before
        block.info, block.payload, block.users = info, payload, 0
        job.hand_on(output, block)
        for reader in readers:
            if reader.side_input and reader.side_input.buffer == output.buffer:
                reader.blocks = list(sides)
                reader.outdated = True
        self._recovery.inputs_changed()


def _reads(item: Any, block: Block, shuffles: Sequence[Shuffle]) -> bool:
    if isinstance(item, BlockSpan):
        return item.block is block
    return isinstance(item, ShufflePart) and any(item.shuffle is s for s in shuffles)


def _differs(work: Work) -> PipelineFailed:
    return PipelineFailed(
        stage=work.stage.plan.label,
        bundle=work.name,
        error=(
            "the bundle was repeated since its output was lost with a node, and wrote something else than the first "
            "time, of which a part is in use already; let what the stage writes depend on its input alone, "
            "not on random numbers, the clock or the order of a set"
        ),
        preview="",
        traceback_text="",
        user_failures=work.user_failures,
        system_failures=work.system_failures,
    )
