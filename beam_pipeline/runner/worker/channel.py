"""The data channel of a bundle inside a worker: elements and timers in, blocks, runs and timers out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from beam_pipeline.runner.beam_internals import beam_fn_api_pb2, data_plane
from beam_pipeline.runner.blocks import BlockBuffer
from beam_pipeline.runner.shuffle.write import RunBuffer

TimerFamily = tuple[str, str]


class RunStream:
    """What a shuffle-writing operation gets for a stream: the buffer of its run."""

    def __init__(self, run_buffer: RunBuffer) -> None:
        self.run_buffer = run_buffer

    def close(self) -> None:
        """Nothing: the bundle takes the run when it is whole."""


class BundleChannel(data_plane.DataChannel):  # type: ignore[misc]
    """One bundle's data; `start` begins a round, in which `feed` pushes the elements into the stage itself.

    Beam's processor asks the channel for elements and hands each to its operation. Here the operation is called from
    within that request, which saves two copies of every block.
    """

    def __init__(self, shuffled: Mapping[str, int]) -> None:
        """`shuffled`: partitions by transform id of the outputs that are shuffled."""
        self._shuffled = shuffled
        self._feed: Callable[[], None] = lambda: None
        self._timers: Mapping[TimerFamily, bytes] = {}
        self.blocks: dict[str, BlockBuffer] = {}
        self.runs: dict[str, RunBuffer] = {}
        self.timers_out: dict[TimerFamily, list[bytes]] = {}

    def begin(self) -> None:
        """A new bundle: nothing written yet."""
        self.blocks, self.runs, self.timers_out = {}, {}, {}

    def start(self, feed: Callable[[], None], timers: Mapping[TimerFamily, bytes]) -> None:
        """A new round of the same bundle."""
        self._feed, self._timers = feed, timers
        self.timers_out = {}

    def nbytes_out(self) -> int:
        """Bytes written in this bundle so far."""
        return sum(b.nbytes for b in self.blocks.values()) + sum(r.nbytes for r in self.runs.values())

    def input_elements(
        self, instruction_id: str, expected_inputs: Collection[Any], abort_callback: Callable[[], bool] | None = None
    ) -> Iterator[Any]:
        for (transform_id, family), timers in self._timers.items():
            yield beam_fn_api_pb2.Elements.Timers(
                instruction_id=instruction_id, transform_id=transform_id, timer_family_id=family, timers=timers
            )
        self._feed()

    def output_stream(self, instruction_id: str, transform_id: str) -> BlockBuffer | RunStream:
        if transform_id in self._shuffled:
            if transform_id not in self.runs:
                self.runs[transform_id] = RunBuffer(self._shuffled[transform_id])
            return RunStream(self.runs[transform_id])
        if transform_id not in self.blocks:
            self.blocks[transform_id] = BlockBuffer()
        return self.blocks[transform_id]

    def output_timer_stream(self, instruction_id: str, transform_id: str, timer_family_id: str) -> Any:
        written = self.timers_out.setdefault((transform_id, timer_family_id), [])

        def take(data: bytes) -> None:
            if data:
                written.append(data)

        return data_plane.ClosableOutputStream.create(take, take, 0)

    def close(self) -> None:
        self._feed = lambda: None


class ChannelFactory(data_plane.DataChannelFactory):  # type: ignore[misc]
    """Gives every operation of a stage the same channel."""

    def __init__(self, channel: BundleChannel) -> None:
        self._channel = channel

    def create_data_channel(self, remote_grpc_port: Any, data_stream_id: str | None = None) -> BundleChannel:
        return self._channel

    def create_data_channel_from_url(self, url: str, data_stream_id: str | None = None) -> BundleChannel:
        return self._channel

    def close(self) -> None:
        self._channel.close()
