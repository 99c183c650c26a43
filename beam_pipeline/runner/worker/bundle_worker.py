"""The Ray actor that hosts Beam's SDK harness: it opens stages, runs bundles, merges runs and indexes side inputs."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import ray

from beam_pipeline.runner.beam_internals import PipelineContext, beam_fn_api_pb2
from beam_pipeline.runner.blocks import Payload
from beam_pipeline.runner.packing import unpack
from beam_pipeline.runner.session.code_shipping import load_main_session
from beam_pipeline.runner.shuffle.runs import merge_runs
from beam_pipeline.runner.tasks import BundleTask, StageSpec
from beam_pipeline.runner.worker.caught import Caught
from beam_pipeline.runner.worker.fetched_runs import FetchedRuns
from beam_pipeline.runner.worker.freed_memory import FreedMemory
from beam_pipeline.runner.worker.harness import StageRunner
from beam_pipeline.runner.worker.library_threads import set_library_threads
from beam_pipeline.runner.worker.relay import Relay
from beam_pipeline.runner.worker.side_inputs import build_side_input_index

# read by libraries when they are loaded; those that this process was forked with are told besides
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


_OPEN_LIMIT_S = 60.0


class BundleWorker:
    """One worker of a pool. Stages stay open, and models loaded, until their job closes."""

    def __init__(self, main_session: bytes | None, threads: int) -> None:
        """`threads`: how many a library may use in a bundle."""
        self._memory = FreedMemory()
        self._fetched = FetchedRuns()
        self._relay = Relay()
        self._relay.install()
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
        set_library_threads(threads)
        if main_session:
            load_main_session(main_session)
        self._changed = threading.Condition()
        self._specs: dict[tuple[str, str], StageSpec] = {}
        self._open: dict[tuple[str, str], StageRunner] = {}

    def pid(self) -> int:
        """The process, so that the driver knows that it is up."""
        return os.getpid()

    def open(self, spec: StageSpec) -> None:
        """Remember a stage; it is opened with its first bundle, where an error belongs to the user's code.

        A stage is told again when the index of a side input was lost and made anew.
        """
        place = (spec.job, spec.plan.name)
        with self._changed:
            self._specs[place] = spec
            if place in self._open:
                self._open[place].renew(spec)
            self._changed.notify_all()

    def run(self, job: str, sent: BundleTask | bytes, *arguments: Any) -> Any:
        """Run a bundle: its pickled result, then one payload (or None) for each output of the stage, all return values.

        `sent`: the task, pickled where no Ray refs lie in it, since Ray's own pickling costs more than a small bundle.
        """
        task: BundleTask = pickle.loads(sent) if isinstance(sent, bytes) else sent
        self._relay.set_level(task.log_level)
        self._memory.give_back()
        self._fetched.begin((job, task.stage))
        result, payloads = self._runner(job, task.stage).run(task, arguments)
        pickled = pickle.dumps(replace(result, told=self._relay.take()))
        return [pickled, *payloads] if payloads else pickled

    def finalize(self, job: str, stage: str, bundle: str) -> None:
        """Call back the bundle's finalizers, after its commit."""
        self._runner(job, stage).finalize(bundle)

    def merge(self, runs: Sequence[Any], partitions: int, block_bytes: int) -> Iterator[Any]:
        """Merge sorted runs into one: its infos follow its blocks."""
        infos = []
        for block in merge_runs([[run] for run in runs], range(partitions), block_bytes, fetch=_fetch):
            infos.append(block.info)
            yield block
        yield tuple(infos)

    def index(self, descriptor: bytes, coder_id: str, access_urn: str, blocks: Sequence[Any]) -> Any:
        """Make the index of a side input from all its blocks, given as refs or payloads: (its infos, none; the index).

        `descriptor` has its coder.
        """
        context = PipelineContext(beam_fn_api_pb2.ProcessBundleDescriptor.FromString(descriptor))
        return (None,), build_side_input_index(_chunks(blocks), context.coders[coder_id], access_urn)

    def close_job(self, job: str) -> str | None:
        """Tear down the job's stages; the text of the first exception that a teardown raised."""
        failed: str | None = None
        self._fetched.close()
        for place in [p for p in self._open if p[0] == job]:
            with Caught() as caught:  # the other stages must be torn down too
                self._open.pop(place).close()
            if caught.error:
                failed = failed or f"{type(caught.error).__name__}: {caught.error}"
        self._specs = {p: s for p, s in self._specs.items() if p[0] != job}
        return failed

    def _runner(self, job: str, stage: str) -> StageRunner:
        place = (job, stage)
        with self._changed:
            # calls of an actor with several threads begin in any order, so a bundle may overtake its stage's `open`
            if not self._changed.wait_for(lambda: place in self._specs, _OPEN_LIMIT_S):
                raise TimeoutError(f"stage {stage} of job {job} was not opened here within {_OPEN_LIMIT_S:g} s")
            if place not in self._open:
                self._open[place] = StageRunner(self._specs[place], self._fetched.fetch)
            return self._open[place]


def _fetch(item: Any) -> Any:
    return ray.get(item) if isinstance(item, ray.ObjectRef) else item


def _chunks(blocks: Sequence[Any]) -> Iterator[bytes]:
    for block in blocks:
        payload: Payload = _fetch(block)
        for array in payload:
            yield unpack(array).tobytes()
