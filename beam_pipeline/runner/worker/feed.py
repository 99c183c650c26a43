"""Pushes a bundle's input into its stage, stops early when the bundle is full, and knows what is left then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from beam_pipeline.runner.beam_internals import PipelineContext, beam_fn_api_pb2, coder_impl
from beam_pipeline.runner.blocks import pieces
from beam_pipeline.runner.plan import StageInput, StagePlan
from beam_pipeline.runner.shuffle.read import ShuffleReader
from beam_pipeline.runner.tasks import BundleTask, EncodedInput, ShuffledInput, StreamInput, TaskInput, Unread
from beam_pipeline.runner.worker.caught import Caught
from beam_pipeline.runner.worker.channel import BundleChannel
from beam_pipeline.runner.worker.state import BundleState


class Feed:
    """The input of one bundle.

    A bundle is full after `task.seconds` or once its outputs reach `task.nbytes_out`; it then ends at the next place
    where its input can be cut, and at least one piece is always read. A splittable DoFn is asked to split itself.
    """

    def __init__(
        self,
        task: BundleTask,
        arguments: Sequence[Any],
        processor: Any,
        channel: BundleChannel,
        state: BundleState,
        plan: StagePlan,
        context: PipelineContext,
        fetch: Callable[[Any], Any],
    ) -> None:
        self._task = task
        self._arguments = arguments
        self._processor = processor
        self._channel = channel
        self._state = state
        self._inputs: dict[str, StageInput] = {i.transform_id: i for i in plan.inputs}
        self._splittable = plan.splittable
        self._context = context
        self._fetch = fetch
        self._deadline = time.monotonic() + task.seconds
        self._current: tuple[str, bytes, int] | None = None
        self._splits: list[Any] = []
        self._splitting = threading.Lock()
        self.kept: bytes | None = None
        """What is left of the last element read, encoded, where it was split."""
        self.unread: Unread | None = None

    def run(self) -> None:
        """Feed everything, or as much as fits."""
        watch = self._watch()
        try:
            for index, item in enumerate(self._task.inputs):
                for position, partition, key in self._push(item):
                    if self._full():
                        self.unread = Unread(index, position, partition, key)
                        return
        finally:
            if watch:
                watch.cancel()

    def elements(self) -> int:
        """How many elements the stage was given; asked for when the bundle is finished and before it is reset."""
        return sum(self._processor.ops[t].index for t in self._inputs)

    def split_off(self) -> list[Any]:
        """Residuals of a split of the element in progress (delayed bundle applications), each given once."""
        taken, self._splits = self._splits, []
        return taken

    def preview(self) -> str:
        """The element in progress when the bundle failed, as text; empty where it cannot be told."""
        if self._current is None:
            return ""
        transform_id, piece, first = self._current
        with Caught() as caught:  # a preview helps with another error and must not hide it
            coder = self._context.coders[self._inputs[transform_id].coder_id].get_impl()
            stream = coder_impl.create_InputStream(piece)
            for _ in range(self._processor.ops[transform_id].index - first):
                coder.decode_from_stream(stream, True)
            return repr(coder.decode_from_stream(stream, True).value)
        return f"(not shown: {type(caught.error).__name__}: {caught.error})"

    def _push(self, item: TaskInput) -> Iterator[tuple[int, int, bytes | None]]:
        """Feed one input piece by piece; after each the place where a later bundle can go on."""
        op = self._processor.ops[item.transform_id]
        if isinstance(item, EncodedInput):
            for number, element in enumerate(item.elements):
                self._process(op, item.transform_id, self._kept_of(item, element, number + 1 == len(item.elements)))
                yield number + 1, -1, None
        elif isinstance(item, StreamInput):
            payload = item.inline if item.inline is not None else self._arguments[item.position]
            for position, piece in pieces(payload, item.span):
                if self._splittable:
                    for stop, element in self._one_by_one(op, piece, position):
                        self._process(op, item.transform_id, self._kept_of(item, element, stop == item.span.stop))
                        yield stop, -1, None
                else:
                    self._process(op, item.transform_id, piece)
                    yield position, -1, None
        else:
            yield from self._push_shuffled(op, item)

    def _kept_of(self, item: TaskInput, element: bytes, last: bool) -> bytes:
        """The element to process; where the bundle repeats one that split its last element, the part that it kept."""
        kept = self._task.kept
        return kept if kept is not None and last and item is self._task.inputs[-1] else element

    def _one_by_one(self, op: Any, piece: bytes, end: int) -> Iterator[tuple[int, bytes]]:
        """A piece element by element, since a split ends the piece it happens in: (position after it, element)."""
        coder = op.windowed_coder_impl
        stream = coder_impl.create_InputStream(piece)
        start = 0
        while stream.size() > 0:
            coder.decode_from_stream(stream, True)
            stop = len(piece) - stream.size()
            op.stop = float("inf")
            yield end - len(piece) + stop, piece[start:stop]
            start = stop

    def _push_shuffled(self, op: Any, item: ShuffledInput) -> Iterator[tuple[int, int, bytes | None]]:
        """Feed whole keys; a place is only given when a key is complete."""
        reader = ShuffleReader(self._inputs[item.transform_id], self._context, self._state.provide, self._fetch)
        for piece in reader.pieces(item.streams, item.keys):
            if self._splittable:
                for _, element in self._one_by_one(op, piece.data, 0):
                    self._process(op, item.transform_id, element)
            else:
                self._process(op, item.transform_id, piece.data)
            if piece.key is not None:
                yield 0, piece.partition, piece.key

    def _process(self, op: Any, transform_id: str, piece: bytes) -> None:
        self._current = (transform_id, piece, op.index + 1)
        op.process_encoded(piece)
        with self._splitting:
            self._current = None

    def _full(self) -> bool:
        if self._task.replay:
            return False
        return (
            bool(self._splits)
            or time.monotonic() > self._deadline
            or (self._channel.nbytes_out() >= self._task.nbytes_out)
        )

    def _watch(self) -> threading.Timer | None:
        """A timer that asks a splittable DoFn to split itself when its time is over."""
        if not self._splittable or self._task.replay:
            return None
        watch = threading.Timer(self._task.seconds, self._split)
        watch.daemon = True
        watch.start()
        return watch

    def _split(self) -> None:
        # the next element begins when the split is known: it then belongs to another bundle
        with self._splitting:
            if self._current is not None:
                self._split_element(self._current[0])

    def _split_element(self, transform_id: str) -> None:
        op = self._processor.ops[transform_id]
        request = beam_fn_api_pb2.ProcessBundleSplitRequest(instruction_id=self._task.bundle)
        desired = request.desired_splits[transform_id]
        desired.fraction_of_remainder = 0.0
        desired.estimated_input_elements = op.index + 1
        response = self._processor.try_split(request)
        if response.primary_roots:
            self.kept = response.primary_roots[0].element
        self._splits.extend(response.residual_roots)
