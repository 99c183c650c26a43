"""How a pipeline is refused before any work, and how it fails."""

from __future__ import annotations

from functools import partial
from typing import Any

from beam_pipeline.runner.worker.caught import Caught


class UnsupportedPipeline(ValueError):
    """Told before any work: what the pipeline asks for, why RayRunner does not offer it, and what to do."""


class PipelineFailed(RuntimeError):
    """A bundle failed more often than it may.

    `str()` is the whole report; `args[0]` the error alone, as Beam gives it. `preview` and `traceback_text` are empty
    where no element or no user code is to blame.
    """

    # a RuntimeError, since that is what Beam's portable runners make of every failure, and its tests expect that or
    # the type of the user's exception
    def __init__(
        self,
        *,
        stage: str,
        bundle: str,
        error: str,
        preview: str,
        traceback_text: str,
        user_failures: int,
        system_failures: int,
    ) -> None:
        # Beam's tests look in args[0] for the failed step alone, while a stage's name has every step fused into it
        super().__init__(error)
        self.stage = stage
        self.bundle = bundle
        self.error = error
        self.preview = preview
        self.traceback_text = traceback_text
        self.user_failures = user_failures
        self.system_failures = system_failures

    def __str__(self) -> str:
        lines = [f"stage {self.stage} failed: {self.error}"]
        if self.preview:
            lines.append(f"element: {self.preview}")
        lines.append(
            f"bundle {self.bundle}, {self.user_failures} failed attempts in user code, "
            f"{self.system_failures} by faults of the system"
        )
        if self.traceback_text:
            lines.append(f"traceback in the worker:\n{self.traceback_text.rstrip()}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[partial[PipelineFailed], tuple[()]]:
        return partial(PipelineFailed, **_report(self)), ()


def as_cause_type(failure: PipelineFailed) -> PipelineFailed:
    """The failure as an instance of its cause's class too, the cause itself as `__cause__`.

    The failure itself where it has no cause or the cause's class cannot be joined with another.
    """
    # In-process, Beam raises the user's own type: `except ValueError` around a pipeline, and Beam's own tests
    # (PartitionTest, test_typed_flatmap_output_value_not_iterable) rely on it. The report must not be lost for that,
    # so the raised exception is both, as the exceptions that ray.get raises are.
    cause = failure.__cause__
    if cause is None or isinstance(failure, type(cause)):
        return failure
    with Caught() as refused:
        joined: Any = type(type(cause).__name__, (PipelineFailed, type(cause)), {"__module__": type(cause).__module__})
        both: PipelineFailed = joined(**_report(failure))
        for name, value in cause.__dict__.items():
            both.__dict__.setdefault(name, value)
    if refused.error is not None:
        return failure
    both.__cause__ = cause
    return both


def _report(failure: PipelineFailed) -> dict[str, Any]:
    return {
        "stage": failure.stage,
        "bundle": failure.bundle,
        "error": failure.error,
        "preview": failure.preview,
        "traceback_text": failure.traceback_text,
        "user_failures": failure.user_failures,
        "system_failures": failure.system_failures,
    }
