"""The data channel of a bundle inside a worker: elements and timers in, blocks, runs and timers out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from beam_pipeline.runner.beam_internals import beam_fn_api_pb2, data_plane
from beam_pipeline.runner.blocks import BlockBuffer
from beam_pipeline.runner.shuffle.runs import RunBuffer
from beam_pipeline.runner.worker.timers import TimerFamily, TimerQueue


class RunStream:
    """What a shuffle-writing operation gets for a stream: the buffer of its run."""

    def __init__(self, run_buffer: RunBuffer) -> None:
        self.run_buffer = run_buffer

    def close(self) -> None:
        """Nothing: the bundle takes the run when it is whole."""


class BundleChannel(data_plane.DataChannel):
    """One bundle's data: `feed` pushes the elements into the stage itself, then the timers fire that were set.

    Beam's processor asks the channel for elements and hands each to its operation. Here the operation is called from
    within that request, which saves two copies of every block. It asks for more only when the timers before have fired,
    so the channel knows then what they have set and cleared, and all timers fire within the bundle.
    """

    def __init__(self, shuffled: Mapping[str, int]) -> None:
        """`shuffled`: partitions by transform id of the outputs that are shuffled."""
        self._shuffled = shuffled
        self._feed: Callable[[], None] = lambda: None
        self._timers: TimerQueue | None = None
        self._written: dict[TimerFamily, list[bytes]] = {}
        self.blocks: dict[str, BlockBuffer] = {}
        self.runs: dict[str, RunBuffer] = {}

    def begin(self, feed: Callable[[], None], timers: TimerQueue | None) -> None:
        """A new bundle: nothing written yet. `timers`: None where the stage has none."""
        self._feed, self._timers, self._written = feed, timers, {}
        self.blocks, self.runs = {}, {}

    def nbytes_out(self) -> int:
        """Bytes written in this bundle so far."""
        return sum(b.nbytes for b in self.blocks.values()) + sum(r.nbytes for r in self.runs.values())

    def input_elements(
        self, instruction_id: str, expected_inputs: Collection[Any], abort_callback: Callable[[], bool] | None = None
    ) -> Iterator[Any]:
        self._feed()
        while self._timers:
            written, self._written = self._written, {}
            self._timers.add(written)
            due = self._timers.next_round()
            if due is None:
                return
            for (transform_id, family), timers in due.items():
                yield beam_fn_api_pb2.Elements.Timers(
                    instruction_id=instruction_id, transform_id=transform_id, timer_family_id=family, timers=timers
                )

    def output_stream(self, instruction_id: str, transform_id: str) -> BlockBuffer | RunStream:
        if transform_id in self._shuffled:
            if transform_id not in self.runs:
                self.runs[transform_id] = RunBuffer(self._shuffled[transform_id])
            return RunStream(self.runs[transform_id])
        if transform_id not in self.blocks:
            self.blocks[transform_id] = BlockBuffer()
        return self.blocks[transform_id]

    def output_timer_stream(self, instruction_id: str, transform_id: str, timer_family_id: str) -> Any:
        def take(data: bytes) -> None:
            if data:
                self._written.setdefault((transform_id, timer_family_id), []).append(data)

        return data_plane.SizeBasedBufferingClosableOutputStream(take, take, size_flush_threshold=0)

    def close(self) -> None:
        self._feed = lambda: None


class ChannelFactory(data_plane.DataChannelFactory):
    """Gives every operation of a stage the same channel."""

    def __init__(self, channel: BundleChannel) -> None:
        self._channel = channel

    def create_data_channel(self, remote_grpc_port: Any, data_stream_id: str | None = None) -> BundleChannel:
        return self._channel

    def create_data_channel_from_url(self, url: str, data_stream_id: str | None = None) -> BundleChannel:
        return self._channel

    def close(self) -> None:
        self._channel.close()
