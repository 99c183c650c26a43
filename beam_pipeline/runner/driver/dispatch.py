"""Which worker gets which work, and the calls that give it."""

from __future__ import annotations

import logging
import pickle
from typing import Any

from beam_pipeline.runner.driver.graph import Block, BlockSpan, ShufflePart, StageState, Work
from beam_pipeline.runner.driver.job import Job
from beam_pipeline.runner.driver.pools import Worker, WorkerPools
from beam_pipeline.runner.errors import UnsupportedPipeline
from beam_pipeline.runner.tasks import BundleTask, EncodedInput, ShuffledInput, StageSpec, StreamInput, TaskInput

_INLINE_BYTES = 64 << 10
_SHORT_S = 0.2
_MERGED_BLOCK_BYTES = 8 << 20


class Dispatcher:
    """Gives work to workers of its stage's pool: an idle one first; a busy one in advance where bundles are short."""

    def __init__(self, job: Job, pools: WorkerPools) -> None:
        self._job = job
        self._pools = pools

    def has_place(self, stage: StageState) -> bool:
        """Whether a worker could take a bundle of the stage now; starts one more worker where none could."""
        return self._worker(stage) is not None

    def worker_for(self, work: Work) -> Worker | None:
        return self._worker(work.stage)

    def unmet(self, stage: StageState) -> bool:
        """Whether no worker of the stage's pool can ever start on this cluster."""
        return self._pools.limit(stage.plan.request) == 0

    def unmet_error(self) -> UnsupportedPipeline:
        stage = next(s for s in self._job.by_depth if not s.done and self.unmet(s))
        return UnsupportedPipeline(
            f"stage {stage.plan.label} asks for workers of {stage.plan.request.name}, which the cluster cannot offer; "
            "lower its resource hints or join a cluster that has them (--ray_address)"
        )

    def give(self, work: Work, worker: Worker) -> None:
        """Send the work; the worker opens the stage first where it has not."""
        stage = work.stage
        work.attempts += 1
        actor = worker.actor
        outputs: Any
        if work.kind == "merge":
            generator = actor.merge.options(num_returns="streaming").remote(
                [_source(b) for b in work.blocks], stage.plan.partitions, _MERGED_BLOCK_BYTES
            )
            call, outputs = generator.completed(), generator
        elif work.kind == "index":
            side = work.side_input
            assert side is not None
            call, *outputs = actor.index.options(num_returns=2).remote(
                stage.plan.descriptor, side.coder_id, side.access_urn, [_source(b) for b in work.blocks]
            )
        else:
            self._open(stage, worker)
            task, arguments = self._task(work)
            sent = task if any(isinstance(i, ShuffledInput) for i in task.inputs) else pickle.dumps(task)
            refs = actor.run.options(num_returns=1 + len(stage.plan.outputs)).remote(self._job.id, sent, *arguments)
            refs = refs if isinstance(refs, list) else [refs]
            call, outputs = refs[0], refs[1:]
        worker.running[call] = (work, outputs)
        self._job.running += 1
        stage.running += 1
        self._job.idle_rounds = 0
        if work.kind == "bundle" and work.attempts == 1:
            self._job.progress.bundle_started(stage.plan.name)

    def _task(self, work: Work) -> tuple[BundleTask, list[Any]]:
        config = self._job.config
        arguments: list[Any] = []
        places: dict[int, int] = {}
        inputs: list[TaskInput] = []
        for item in work.inputs:
            if isinstance(item, BlockSpan):
                inputs.append(_stream_input(item, arguments, places))
            elif isinstance(item, ShufflePart):
                runs = item.shuffle.streams(item.keys.first, item.keys.last)
                streams = tuple(tuple(_source(b) for b in run) for run in runs)
                inputs.append(ShuffledInput(item.transform_id, item.keys, streams))
            else:
                inputs.append(EncodedInput(item.transform_id, item.elements))
        task = BundleTask(
            bundle=f"{work.name}/{work.attempts}",
            stage=work.stage.plan.name,
            inputs=tuple(inputs),
            seconds=config.bundle_seconds,
            nbytes_out=config.bundle_bytes,
            inline_bytes=_INLINE_BYTES,
            log_level=logging.getLogger().getEffectiveLevel(),
            replay=work.committed,
            kept=work.kept,
        )
        return task, arguments

    def _open(self, stage: StageState, worker: Worker) -> None:
        """Tell the worker of the stage before its first bundle there, when all side inputs are complete."""
        place = (self._job.id, stage.plan.name)
        if place in worker.opened:
            return
        sides = {key: _source(block) for key, block in stage.sides.items()}
        worker.actor.open.remote(StageSpec(self._job.id, stage.plan, sides))
        worker.opened.add(place)

    def _worker(self, stage: StageState) -> Worker | None:
        request = stage.plan.request
        pool = [w for w in self._pools.pool(request) if w.up()]
        room = request.max_active_bundles
        free = self._pools.cpus_free(request)
        idle = next((w for w in pool if not w.running), None)
        if idle is not None and free:
            return idle
        if idle is None and (free or not self._pools.pool(request)):
            while self._growing(stage) and self._pools.grow(request, self._job.needed()):
                pass
        busy = min((w for w in pool if w.running), key=lambda w: len(w.running), default=None)
        if busy is None:
            return None
        # one call more than it works on at a time, where calls are short enough for the way to be felt
        most = room if stage.mean_seconds < _SHORT_S else room - 1
        return busy if len(busy.running) <= most else None

    def _growing(self, stage: StageState) -> bool:
        """Whether the pool should have one more worker: fewer are starting than bundles wait."""
        starting = sum(w.starting is not None for w in self._pools.pool(stage.plan.request))
        return starting < stage.backlog(self._pools.most)


def _stream_input(item: BlockSpan, arguments: list[Any], places: dict[int, int]) -> StreamInput:
    import ray

    payload = item.block.payload
    if not isinstance(payload, ray.ObjectRef):
        return StreamInput(item.transform_id, -1, payload, item.span)
    place = places.get(id(item.block))
    if place is None:
        place = places[id(item.block)] = len(arguments)
        arguments.append(payload)
    return StreamInput(item.transform_id, place, None, item.span)


def _source(block: Block) -> Any:
    return block.payload
