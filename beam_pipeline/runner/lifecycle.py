"""What surrounds runs: one Ray session for all, termination as an orderly end, clean-up whatever happens."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from types import FrameType, TracebackType

from beam_pipeline.runner.session.cluster import share_session

_BEAM_LOGGER = "apache_beam.runners.common"


class Terminated(KeyboardInterrupt):
    """SIGTERM: what Ctrl-C is to a run, but for the exit status.

    Beam makes a new one that names the step, of the same type: the type tells the signals apart.
    """


def status_of_interrupted(error: KeyboardInterrupt) -> int:
    """The exit status that a shell knows an interrupted program by: 128 and the signal's number."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


class PipelineLifecycleManager:
    """Context of one run or of several.

    Pipelines that RayRunner runs inside it share one Ray session and its warm workers: the first one opens it, the end
    of the context drains the workers and ends what was started. Inside it SIGTERM raises Terminated in the main thread,
    as Ctrl-C raises KeyboardInterrupt, so that a scheduler's kill cancels the pipeline, and Beam logs no traceback of
    it. What was there before is put back, also after an error.
    """

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> PipelineLifecycleManager:
        self._stack.__enter__()
        self._stack.enter_context(share_session())
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._stack.callback(signal.signal, number, signal.signal(number, _interrupt))
        logger = logging.getLogger(_BEAM_LOGGER)
        logger.addFilter(_is_failure)
        self._stack.callback(logger.removeFilter, _is_failure)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def _is_failure(record: logging.LogRecord) -> bool:
    """Whether a log record tells of something else than an interruption."""
    return not (record.exc_info and isinstance(record.exc_info[1], KeyboardInterrupt))


def _interrupt(number: int, frame: FrameType | None) -> None:
    # with a message: Beam adds its step to the first argument, and makes a RuntimeError of an exception without one
    kind = Terminated if number == signal.SIGTERM else KeyboardInterrupt
    raise kind(f"signal {signal.Signals(number).name}")
