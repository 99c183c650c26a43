"""The sizes that Beam's counters get of groups: of what was read, without reading it for that."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from apache_beam import coders
from apache_beam.transforms.window import GlobalWindows

from beam_pipeline.runner.beam_internals import beam_fn_api_pb2
from beam_pipeline.runner.worker.group_size import GroupSize
from beam_pipeline.runner.worker.state import BundleState

VALUE = coders.StrUtf8Coder().get_impl()
GROUPS = coders.WindowedValueCoder(
    coders.TupleCoder([coders.StrUtf8Coder(), coders.IterableCoder(coders.StrUtf8Coder())]),
    coders.coders.GlobalWindowCoder(),
).get_impl()


def group(values: Any) -> Any:
    return GlobalWindows.windowed_value(("key", values))


def read(state: BundleState) -> list[str]:
    key = beam_fn_api_pb2.StateKey(runner=beam_fn_api_pb2.StateKey.Runner(key=b"token"))
    return list(state.blocking_get(key, VALUE))


def test_values_that_lie_elsewhere_count_as_they_are_read() -> None:
    state = BundleState()
    chunks = [VALUE.encode_nested("a") + VALUE.encode_nested("bc"), VALUE.encode_nested("def")]
    state.provide(b"token", lambda: chunks)

    class Elsewhere:
        def __iter__(self) -> Iterable[str]:
            raise AssertionError("a size does not need the values")

    size, observables = GroupSize(GROUPS, state).get_estimated_size_and_observables(group(Elsewhere()))
    assert size == GROUPS.estimate_size(group([]))
    seen: list[int] = []
    ((observable, _),) = observables
    observable.register_observer(lambda chunk, is_encoded: seen.append(len(chunk) if is_encoded else -1))
    assert seen == [] and read(state) == ["a", "bc", "def"] and seen == [5, 4]


def test_values_in_the_element_are_measured_as_beam_does() -> None:
    measured = group(["a", "bc"])
    expected = GROUPS.get_estimated_size_and_observables(measured)
    assert GroupSize(GROUPS, BundleState()).get_estimated_size_and_observables(measured) == expected


def test_a_new_bundle_has_no_observer() -> None:
    state = BundleState()
    calls: list[object] = []
    state.observe(lambda chunk, is_encoded: calls.append(chunk))
    state.begin("next", {})
    state.provide(b"token", lambda: [VALUE.encode_nested("a")])
    assert read(state) == ["a"] and calls == []
