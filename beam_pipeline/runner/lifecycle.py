"""What surrounds a run: termination turned into an orderly end, and clean-up in reverse order whatever happens."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType


class PipelineLifecycleManager:
    """Context of one run.

    Inside it SIGTERM raises KeyboardInterrupt in the main thread, as Ctrl-C does, so that a scheduler's kill
    cancels the pipeline; callbacks given to `on_exit` run last in, first out, also after an error.
    """

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> PipelineLifecycleManager:
        self._stack.__enter__()
        if threading.current_thread() is threading.main_thread():
            previous = signal.signal(signal.SIGTERM, _interrupt)
            self._stack.callback(signal.signal, signal.SIGTERM, previous)
        return self

    def on_exit(self, callback: Callable[[], None]) -> None:
        """Run `callback` when the run ends."""
        self._stack.callback(callback)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(f"signal {signal.Signals(number).name}")
