"""What a person reads when a pipeline fails, and by which types a program can catch it."""

from __future__ import annotations

import pickle
import traceback

import pytest

from beam_pipeline.runner.errors import PipelineFailed, as_cause_type


class _NeedsTwo(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class _Sealed(Exception):
    def __init_subclass__(cls) -> None:
        raise TypeError("no subclass")


def _failure(
    cause: Exception | None = None, preview: str = "0", trace: str = "  return 1 / element\n"
) -> PipelineFailed:
    failure = PipelineFailed(
        stage="Read+Divide",
        bundle="s3/17",
        error="ZeroDivisionError: division by zero [while running 'Divide']",
        preview=preview,
        traceback_text=trace,
        user_failures=4,
        system_failures=1,
    )
    failure.__cause__ = cause
    return failure


def test_the_report_has_stage_bundle_element_attempts_and_traceback() -> None:
    assert str(_failure()) == (
        "stage Read+Divide failed: ZeroDivisionError: division by zero [while running 'Divide']\n"
        "element: 0\n"
        "bundle s3/17, 4 failed attempts in user code, 1 by faults of the system\n"
        "traceback in the worker:\n"
        "  return 1 / element"
    )


def test_a_report_without_element_or_traceback_has_no_line_for_them() -> None:
    report = str(_failure(preview="", trace=""))
    assert "element:" not in report
    assert "traceback" not in report


def test_the_first_argument_names_the_failed_step_alone() -> None:
    message = as_cause_type(_failure(ZeroDivisionError("division by zero"))).args[0]
    assert "Divide" in message
    assert "Read" not in message


@pytest.mark.parametrize(
    "cause",
    [
        ZeroDivisionError("x"),
        KeyError("x"),
        OSError(2, "x"),
        UnicodeDecodeError("utf-8", b"", 0, 1, "x"),
        _NeedsTwo(5, "x"),
    ],
    ids=lambda cause: type(cause).__name__,
)
def test_a_failure_is_caught_by_the_type_of_its_cause_and_tells_the_report(cause: Exception) -> None:
    with pytest.raises(type(cause)) as caught:
        raise as_cause_type(_failure(cause))
    assert isinstance(caught.value, PipelineFailed)
    assert isinstance(caught.value, RuntimeError)
    assert caught.value.__cause__ is cause
    assert str(caught.value) == str(_failure())
    assert type(cause).__name__ in "".join(traceback.format_exception_only(caught.value))


def test_attributes_of_the_cause_are_kept_and_do_not_hide_the_report() -> None:
    cause = _NeedsTwo(5, "x")
    cause.stage = "mine"  # type: ignore[attr-defined]
    both = as_cause_type(_failure(cause))
    assert both.code == 5  # type: ignore[attr-defined]
    assert both.stage == "Read+Divide"


def test_a_class_that_refuses_subclasses_is_the_cause_alone() -> None:
    failure = _failure(_Sealed("x"))
    assert as_cause_type(failure) is failure


def test_a_failure_without_cause_is_raised_as_it_is() -> None:
    failure = _failure()
    assert as_cause_type(failure) is failure


@pytest.mark.parametrize("cause", [None, ZeroDivisionError("x")])
def test_a_failure_can_be_sent_to_another_process(cause: Exception | None) -> None:
    sent = pickle.loads(pickle.dumps(as_cause_type(_failure(cause))))
    assert type(sent) is PipelineFailed
    assert str(sent) == str(_failure())
