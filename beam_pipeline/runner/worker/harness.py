"""One stage open in a worker: Beam's bundle processor with our channel and state, and the running of bundles on it."""

from __future__ import annotations

import pickle
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from beam_pipeline.runner.beam_internals import (
    PipelineContext,
    beam_fn_api_pb2,
    bundle_processor,
    common_urns,
)
from beam_pipeline.runner.plan import StagePlan
from beam_pipeline.runner.session.code_shipping import explain_missing_module
from beam_pipeline.runner.tasks import BundleResult, BundleTask, Failure, Residual, StageSpec, Written
from beam_pipeline.runner.worker.caught import Caught
from beam_pipeline.runner.worker.channel import BundleChannel, ChannelFactory
from beam_pipeline.runner.worker.feed import Feed
from beam_pipeline.runner.worker.group_size import measure_groups_as_read
from beam_pipeline.runner.worker.side_inputs import SideInputReader
from beam_pipeline.runner.worker.state import BundleState
from beam_pipeline.runner.worker.timers import TimerQueue

_CAPABILITIES = frozenset([common_urns.runner_protocols.MULTIMAP_KEYS_VALUES_SIDE_INPUT.urn])
_PREVIEW_CHARS = 300
Fetch = Callable[[Any], Any]


@dataclass
class _Seat:
    """A processor with what belongs to it; it serves one bundle at a time."""

    processor: Any
    channel: BundleChannel
    state: BundleState


class StageRunner:
    """A stage open in this worker. DoFns are set up once per seat and torn down by `close`."""

    def __init__(self, spec: StageSpec, fetch: Fetch) -> None:
        self._spec = spec
        self._plan: StagePlan = spec.plan
        self._fetch = fetch
        self._free: list[_Seat] = []
        self._awaiting: dict[str, _Seat] = {}
        self._readers: dict[tuple[str, str], SideInputReader] = {}
        descriptor = beam_fn_api_pb2.ProcessBundleDescriptor.FromString(self._plan.descriptor)
        self._descriptor = descriptor
        self.context = PipelineContext(descriptor)

    def renew(self, spec: StageSpec) -> None:
        """Take the side inputs from where they are now; those read already stay."""
        self._spec = spec

    def run(self, task: BundleTask, arguments: Sequence[Any]) -> tuple[BundleResult, list[Any]]:
        """Run one bundle: its result, and the payloads too large to lie in it, in the order of the plan's outputs.

        An exception of user code comes back as the result's `failure`; the seat it happened on is torn down.
        """
        started = time.perf_counter()
        feed: Feed | None = None
        seat: _Seat | None = None
        with Caught() as caught:  # the driver decides what becomes of it
            seat = self._seat()
            feed = Feed(
                task, arguments, seat.processor, seat.channel, seat.state, self._plan, self.context, self._fetch
            )
            responses, residuals, finalize = self._process(task, seat, feed)
        if caught.error or seat is None or feed is None:
            preview = feed.preview() if feed else ""
            if seat:
                _shut_down(seat)
            error = caught.error or RuntimeError("the stage could not be opened")
            return self._failed(task, error, preview, time.perf_counter() - started), self._nothing()
        written, payloads = self._take(task, seat)
        elements = feed.elements()
        # a replay brings lost outputs back, but the bundle was committed and finalized before
        finalize = finalize and not task.replay
        if finalize:
            self._awaiting[task.bundle] = seat
        else:
            seat.processor.reset()
            self._free.append(seat)
        return (
            BundleResult(
                bundle=task.bundle,
                written=written,
                residuals=residuals,
                unread=feed.unread,
                kept=feed.kept,
                responses=responses,
                finalize=finalize,
                elements=elements,
                seconds=time.perf_counter() - started,
            ),
            payloads,
        )

    def finalize(self, bundle: str) -> None:
        """Run the finalization callbacks of a committed bundle; an error in one is logged by Beam and lost."""
        seat = self._awaiting.pop(bundle, None)
        if seat:
            seat.processor.finalize_bundle()
            seat.processor.reset()
            self._free.append(seat)

    def close(self) -> None:
        """Tear down the stage's DoFns; an exception of theirs is raised when all have had their turn."""
        seats = [*self._free, *self._awaiting.values()]
        self._free, self._awaiting = [], {}
        errors = []
        for seat in seats:
            with Caught() as caught:  # the other seats must be torn down too
                seat.processor.shutdown()
            if caught.error:
                errors.append(caught.error)
        if errors:
            raise errors[0]

    def _seat(self) -> _Seat:
        if self._free:
            return self._free.pop()
        shuffled = {o.transform_id: self._plan.partitions for o in self._plan.outputs if o.kind in ("group", "keyed")}
        channel, state = BundleChannel(shuffled), BundleState()
        processor = bundle_processor.BundleProcessor(_CAPABILITIES, self._descriptor, state, ChannelFactory(channel))
        for grouped in (i for i in self._plan.inputs if i.kind == "group"):
            measure_groups_as_read(processor.ops[grouped.transform_id], state)
        return _Seat(processor, channel, state)

    def _process(
        self, task: BundleTask, seat: _Seat, feed: Feed
    ) -> tuple[tuple[bytes, ...], tuple[Residual, ...], bool]:
        """Feed the bundle's input and fire its timers: (metrics, residuals, whether to finalize)."""
        seat.channel.begin(feed.run, self._timers() if self._plan.timers else None)
        seat.state.begin(task.bundle, self._side_inputs())
        with seat.state.process_instruction_id(task.bundle, ()):
            delayed, finalize = seat.processor.process_bundle(task.bundle)
        residuals = tuple(self._residual(application) for application in [*feed.split_off(), *delayed])
        response = beam_fn_api_pb2.ProcessBundleResponse(monitoring_infos=seat.processor.monitoring_infos())
        return (response.SerializeToString(),), residuals, finalize

    def _side_inputs(self) -> dict[tuple[str, str], SideInputReader]:
        for place, index in self._spec.side_inputs.items():
            if place not in self._readers:
                self._readers[place] = SideInputReader(self._fetch(index))
        return self._readers

    def _timers(self) -> TimerQueue:
        timers = self._plan.timers
        coders = {(t, family): self.context.coders[coder].get_impl() for t, family, coder, _ in timers}
        return TimerQueue(coders, [(t, family) for t, family, _, processing_time in timers if processing_time])

    def _residual(self, delayed: Any) -> Residual:
        application = delayed.application
        transforms = self._descriptor.transforms
        pcoll = transforms[application.transform_id].inputs[application.input_id]
        reads = {o: i.transform_id for i in self._plan.inputs for o in transforms[i.transform_id].outputs.values()}
        if pcoll not in reads:  # a truncation stands between the input and the splittable transform
            before = next(t for t in transforms.values() if pcoll in t.outputs.values())
            pcoll = next(iter(before.inputs.values()))
        delay_s = delayed.requested_time_delay.ToMicroseconds() / 1e6
        return Residual(reads[pcoll], application.element, delay_s)

    def _take(self, task: BundleTask, seat: _Seat) -> tuple[tuple[Written, ...], list[Any]]:
        written: list[Written] = []
        payloads: list[Any] = []
        info: Any
        payload: Any
        for output in self._plan.outputs:
            if output.kind in ("group", "keyed"):
                run = seat.channel.runs[output.transform_id].finish()
                info, payload = run.info, run
            else:
                info, payload = seat.channel.blocks[output.transform_id].finish()
            small = info.nbytes <= task.inline_bytes
            if output.kind == "unread" or info.nbytes == 0:
                payload = None
            written.append(Written(output.transform_id, info, payload if small else None))
            payloads.append(None if small else payload)
        return tuple(written), payloads

    def _nothing(self) -> list[Any]:
        return [None] * len(self._plan.outputs)

    def _failed(self, task: BundleTask, error: Exception, preview: str, seconds: float) -> BundleResult:
        failure = Failure(
            stage=self._plan.label,
            error=f"{type(error).__name__}: {explain_missing_module(error) or error}",
            traceback="".join(traceback.format_exception(error)),
            preview=preview[:_PREVIEW_CHARS],
            pickled=_pickled(error),
            lost=lost_object(error),
        )
        return BundleResult(bundle=task.bundle, failure=failure, seconds=seconds)


def _shut_down(seat: _Seat) -> None:
    with Caught() as caught:  # the failure that led here is the one to tell
        seat.processor.shutdown()
    if caught.error:
        traceback.print_exception(caught.error)


def _pickled(error: Exception) -> bytes | None:
    with Caught():  # an exception class may refuse to be pickled in any way
        data = pickle.dumps(error)
        pickle.loads(data)
        return data
    return None


def lost_object(error: BaseException | None) -> str:
    """The id in hex of an input that was lost with its node, which is no fault of the user's code; empty otherwise."""
    import ray.exceptions

    while error is not None:
        if isinstance(error, ray.exceptions.ObjectLostError):
            return str(error.object_ref_hex)
        error = getattr(error, "cause", None) or error.__cause__ or error.__context__
    return ""
