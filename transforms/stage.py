"""The frame every stage hangs in: one element in, one or more out, failures to the dead letters, counters beside."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.transforms.error_handling import ErrorHandler

from transforms.episode import Episode, Recording, RecordingRef
from transforms.unreadable import Unreadable as Unreadable

DEAD = "dead"

T = TypeVar("T")


@dataclass(frozen=True)
class DeadLetter:
    """One input that left the graph early; becomes a `quarantined` row of the ledger.

    Of an episode it also says which part of which recording it was, so that a recording's parts still add up.
    """

    stage: str
    episode_id: str
    source: str
    uri: str
    rule: str
    detail: str
    traceback: str = ""
    parent_id: str | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    n_steps: int | None = None


def contained(make: Callable[[], Iterable[T]], failed: Callable[[Exception], T]) -> Iterator[T]:
    """The items that `make` gives; where making the next one fails, what `failed` makes of the error ends them."""
    try:
        yield from make()
    except Exception as error:
        yield failed(error)


def identify(element: Any) -> tuple[str, str, str]:
    """(id, source, uri) of anything that flows between stages."""
    if isinstance(element, Episode):
        return element.episode_id, element.source, element.uri
    if isinstance(element, (Recording, RecordingRef)):
        return element.recording_id, element.source, element.uri
    raise TypeError(f"a stage takes recordings or episodes, not {type(element).__name__}")


def _letter(stage: str, element: Any, rule: str, detail: str, trace: str = "") -> DeadLetter:
    letter = DeadLetter(stage, *identify(element), rule, detail, trace)
    if not isinstance(element, Episode):
        return letter
    return replace(
        letter,
        parent_id=element.parent_id,
        start_ns=element.start_ns,
        end_ns=element.end_ns,
        n_steps=element.steps.num_rows,
    )


def attempt(stage: EpisodeStage, element: Any, fail_fast: bool = False) -> list[Any] | DeadLetter:
    """What a stage makes of an element, or the dead letter in its place; the one place that catches broadly.

    With `fail_fast` a stage's own failure is raised; an unreadable input is a dead letter all the same.
    """
    try:
        return list(stage.process_element(element))
    except Unreadable as error:
        return _letter(stage.name, element, error.problem.rule, error.problem.detail)
    except Exception as error:
        if fail_fast:
            raise
        detail = f"{type(error).__name__}: {error}"
        return _letter(stage.name, element, "stage_failed", detail, traceback.format_exc())


class _Guard(beam.DoFn):
    """Runs a stage's `process_element` and counts."""

    def __init__(self, stage: EpisodeStage, quarantine: bool, fail_fast: bool) -> None:
        self._stage = stage
        self._quarantine = quarantine
        self._fail_fast = fail_fast
        self._in = Metrics.counter("demosift", f"{stage.name}.in")
        self._out = Metrics.counter("demosift", f"{stage.name}.out")
        self._dead = Metrics.counter("demosift", f"{stage.name}.dead")

    def setup(self) -> None:
        self._stage.setup()

    def teardown(self) -> None:
        self._stage.teardown()

    def process(self, element: Any) -> Iterator[Any]:
        self._in.inc()
        if self._quarantine:
            results = attempt(self._stage, element, self._fail_fast)
            if isinstance(results, DeadLetter):
                self._dead.inc()
                yield beam.pvalue.TaggedOutput(DEAD, results)
                return
        else:
            results = list(self._stage.process_element(element))
        self._out.inc(sum(not isinstance(result, beam.pvalue.TaggedOutput) for result in results))
        yield from results


class EpisodeStage(beam.PTransform):
    """A stage: override `process_element`, and `setup`/`teardown` where something must be opened.

    `name` appears in findings, counters and the ledger. `output` is the element type that comes out, `tags` names
    further outputs, which a stage yields as `TaggedOutput` and hands on from an `expand` of its own. A failed element
    goes to the ErrorHandler given by `with_error_handler`, as a `DeadLetter`; without one, it raises.
    """

    name: str
    output: type[Any] = Episode
    tags: tuple[tuple[str, type[Any]], ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self._handler: ErrorHandler | None = None
        self._fail_fast = False

    def setup(self) -> None:
        """Open what the stage needs, once per worker."""

    def teardown(self) -> None:
        """Close it."""

    def process_element(self, element: Any) -> Iterable[Any]:
        """The stage's work on one element."""
        raise NotImplementedError

    def with_error_handler(self, handler: ErrorHandler | None, fail_fast: bool = False) -> EpisodeStage:
        """Send failed elements to Beam's ErrorHandler; None raises them.

        With `fail_fast` a stage's own failure is raised all the same; an unreadable input is still a dead letter.
        """
        self._handler = handler
        self._fail_fast = fail_fast
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_handler"}

    def run(self, elements: beam.PCollection[Any]) -> dict[str, beam.PCollection[Any]]:
        """The outputs by tag: `main`, and those of `tags`; failures go to the error handler."""
        guard = beam.ParDo(_Guard(self, self._handler is not None, self._fail_fast))
        results = elements | f"Run{type(self).__name__}" >> guard.with_output_types(self.output).with_outputs(
            DEAD, *(tag for tag, _ in self.tags), main="main"
        )
        if self._handler is not None:
            dead = results[DEAD]
            dead.element_type = DeadLetter
            self._handler.add_error_pcollection(dead)
        outputs: dict[str, beam.PCollection[Any]] = {}
        for tag, kind in (("main", self.output), *self.tags):
            outputs[tag] = results[tag]
            outputs[tag].element_type = kind
        return outputs

    def expand(self, elements: beam.PCollection[Any]) -> beam.PCollection[Any]:
        return self.run(elements)["main"]
