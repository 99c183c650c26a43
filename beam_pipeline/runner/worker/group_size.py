"""The sizes of grouped elements, for Beam's byte counters, by what user code reads of their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beam_pipeline.runner.worker.state import BundleState

Observer = Callable[..., None]


class ReadValues:
    """What Beam calls an observable: it tells of every chunk of grouped values that is read from now on."""

    def __init__(self, state: BundleState) -> None:
        self._state = state

    def register_observer(self, observer: Observer) -> None:
        """`observer(chunk, is_encoded=True)` is called until another one takes its place."""
        self._state.observe(observer)


class GroupSize:
    """Stands for the coder of a grouped input where its elements are measured.

    Beam's own coder would decode all values of a group, and encode them, to know how large they are: a group that
    does not lie in its element may be larger than memory.
    """

    def __init__(self, coder: Any, state: BundleState) -> None:
        self._coder = coder
        self._read = ReadValues(state)

    def get_estimated_size_and_observables(self, windowed_value: Any) -> tuple[int, list[tuple[Any, Any]]]:
        """(bytes known now, what tells of further ones); values that lie in the element are known."""
        key, values = windowed_value.value
        if isinstance(values, list):
            size, observables = self._coder.get_estimated_size_and_observables(windowed_value)
            return size, list(observables)
        empty: int = self._coder.estimate_size(windowed_value.with_value((key, [])))
        return empty, [(self._read, None)]


def measure_groups_as_read(operation: Any, state: BundleState) -> None:
    """Have the elements of a grouped input (a DataInputOperation) measured so."""
    for receiver in operation.receivers:
        counters = receiver.opcounter
        counters.coder_impl = GroupSize(counters.coder_impl, state)
