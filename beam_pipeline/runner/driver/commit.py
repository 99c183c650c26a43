"""The commit of finished work: outputs reach their readers, metrics count, inputs are let go of."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from beam_pipeline.runner.blocks import Span, after
from beam_pipeline.runner.driver.graph import Block, BlockSpan, ShufflePart, Work
from beam_pipeline.runner.driver.job import Job
from beam_pipeline.runner.driver.recovery import Recovery
from beam_pipeline.runner.driver.restore import Restorer
from beam_pipeline.runner.tasks import BundleResult, EncodedInput, Unread


class Committer:
    """Commits each piece of work once; a replay only brings lost payloads back."""

    def __init__(self, job: Job, recovery: Recovery) -> None:
        self._job = job
        self._restorer = Restorer(job, recovery)

    def bundle(self, work: Work, result: BundleResult, refs: Sequence[Any]) -> None:
        """Commit a bundle. Raises PipelineFailed where a replay changes what is in use."""
        payloads = [w.inline if w.inline is not None else r for w, r in zip(result.written, refs, strict=True)]
        if work.committed:
            self._restorer.restore(work, [w.info for w in result.written], payloads, _deferred(result))
            return
        work.committed = True
        stage = work.stage
        for response in result.responses:
            self._job.metrics.commit(stage.plan.name, response)
        stage.uncommitted -= 1
        stage.finished += 1
        stage.seconds += result.seconds
        bytes_out = sum(w.info.nbytes for w in result.written)
        stage.largest_out = max(stage.largest_out, bytes_out)
        work.outputs = [
            Block(w.info, p, work, i) for i, (w, p) in enumerate(zip(result.written, payloads, strict=True))
        ]
        for output, block in zip(stage.plan.outputs, work.outputs, strict=True):
            self._job.hand_on(output, block)
        for residual in result.residuals:
            stage.defer(time.monotonic() + residual.delay_s, residual.transform_id, residual.element)
        work.kept, work.deferred = result.kept, _deferred(result)
        if result.unread:
            self._return(work, result.unread)
        for item in work.inputs:
            if isinstance(item, BlockSpan):
                item.block.consumed = True
                item.block.release()
            elif isinstance(item, ShufflePart):
                item.shuffle.consumed = True
        self._job.progress.bundle_committed(stage.plan.name, result.elements, bytes_out, result.seconds)

    def internal(self, work: Work, infos: Sequence[Any], blocks: Sequence[Any]) -> None:
        """Commit a merge or a side input's index, which has no info."""
        if work.committed:
            self._restorer.restore(work, infos, blocks)
            return
        work.committed = True
        work.outputs = [Block(i, p, work, n, users=1) for n, (i, p) in enumerate(zip(infos, blocks, strict=True))]
        for block in work.blocks:
            block.consumed = True
            block.release()
        if work.shuffle:
            work.shuffle.merging -= 1
            work.shuffle.merged.append(work.outputs)
        elif work.side_input:
            place = (work.side_input.transform_id, work.side_input.tag)
            work.stage.sides[place] = work.outputs[0]
            work.stage.missing_sides.discard(place)

    def _return(self, work: Work, unread: Unread) -> None:
        """Give back what a bundle that stopped early left, and keep what it did take for a replay."""
        taken, left = work.inputs[: unread.index + 1], work.inputs[unread.index + 1 :]
        last = taken[-1]
        stage = work.stage
        for item in reversed(left):
            if isinstance(item, BlockSpan):
                stage.push(item, front=True)
            elif isinstance(item, EncodedInput):
                for element in item.elements:
                    stage.defer(0.0, item.transform_id, element)
        if isinstance(last, BlockSpan):
            rest = after(last.span, unread.position)
            if rest:
                last.block.users += 1
                stage.push(BlockSpan(last.block, last.transform_id, rest), front=True)
                cuts = tuple(c for c in last.span.cuts if c <= unread.position)
                taken[-1] = BlockSpan(last.block, last.transform_id, Span(last.span.start, unread.position, cuts))
        elif isinstance(last, EncodedInput):
            for element in last.elements[unread.position :]:
                stage.defer(0.0, last.transform_id, element)
            taken[-1] = EncodedInput(last.transform_id, last.elements[: unread.position])
        elif isinstance(last, ShufflePart):
            keys, end = last.keys, unread.partition + 1
            left_keys = replace(keys, first=unread.partition, after_key=unread.after_key)
            last.shuffle.parts.appendleft(ShufflePart(last.shuffle, last.transform_id, left_keys))
            done_keys = replace(keys, last=end, upto_key=unread.after_key)
            taken[-1] = ShufflePart(last.shuffle, last.transform_id, done_keys)
        work.inputs = taken


def _deferred(result: BundleResult) -> tuple[bytes, ...]:
    """What user code put off; the rest of an element that the runner split comes before it, and once only."""
    elements = tuple(residual.element for residual in result.residuals)
    return elements[1:] if result.kept is not None else elements
