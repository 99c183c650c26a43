"""The one place of the runner where any exception is caught: user code may raise anything."""

from __future__ import annotations

from types import TracebackType


class Caught:
    """Context that keeps an Exception raised within as `error`; KeyboardInterrupt and SystemExit pass through.

    Code after the block sees the exception with its traceback and decides what becomes of it.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None

    def __enter__(self) -> Caught:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if isinstance(error, Exception):
            self.error = error
            return True
        return False
