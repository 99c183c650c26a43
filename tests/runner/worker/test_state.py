"""A bundle's state, asked through the classes that Beam's own harness gives to user code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from apache_beam import coders, pvalue
from apache_beam.transforms import userstate
from apache_beam.transforms.sideinputs import _global_window_mapping_fn as to_global
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue
from hypothesis import given
from hypothesis import strategies as st

from beam_pipeline.runner.beam_internals import beam_fn_api_pb2, bundle_processor, common_urns
from beam_pipeline.runner.worker import state as state_module
from beam_pipeline.runner.worker.side_inputs import SideInputReader, build_side_input_index
from beam_pipeline.runner.worker.state import BundleState

ITERABLE = common_urns.side_inputs.ITERABLE.urn
MULTIMAP = common_urns.side_inputs.MULTIMAP.urn
ANY = coders.FastPrimitivesCoder()
PAIR = coders.TupleCoder([coders.StrUtf8Coder(), coders.VarIntCoder()])
PAIRS = coders.WindowedValueCoder(PAIR, coders.coders.GlobalWindowCoder())
BAG = userstate.BagStateSpec("bag", coders.VarIntCoder())
SET = userstate.SetStateSpec("set", coders.VarIntCoder())
SUM = userstate.CombiningValueStateSpec("sum", ANY, sum)
LAST = userstate.ReadModifyWriteStateSpec("last", coders.VarIntCoder())
LIST = userstate.OrderedListStateSpec("list", coders.StrUtf8Coder())


class _Round:
    """User state as a DoFn has it within one round; leaving commits it."""

    def __init__(self, state: BundleState) -> None:
        self._context = bundle_processor.FnApiUserStateContext(state, "t", ANY, coders.coders.GlobalWindowCoder())

    def __enter__(self) -> _Round:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.commit()
        self._context.reset()

    def of(self, spec: Any, key: Any = "k") -> Any:
        return self._context.get_state(spec, key, GlobalWindow())


def test_every_kind_of_user_state_is_there_in_the_next_round() -> None:
    state = BundleState()
    with _Round(state) as now:
        now.of(BAG).add(1)
        now.of(BAG).add(2)
        now.of(BAG, "other").add(7)
        now.of(SET).add(5)
        now.of(SET).add(5)
        now.of(SUM).add(10)
        now.of(SUM).add(20)
        now.of(LAST).write(1)
        now.of(LAST).write(2)
        now.of(LIST).add((Timestamp(2), "b"))
        now.of(LIST).add((Timestamp(1), "a"))
    with _Round(state) as now:
        assert list(now.of(BAG).read()) == [1, 2]
        assert list(now.of(BAG, "other").read()) == [7]
        assert set(now.of(SET).read()) == {5}
        assert now.of(SUM).read() == 30
        assert now.of(LAST).read() == 2
        assert list(now.of(LIST).read()) == [(Timestamp(1), "a"), (Timestamp(2), "b")]
        now.of(BAG).clear()
        now.of(BAG).add(3)
        now.of(SET).clear()
    with _Round(state) as now:
        assert list(now.of(BAG).read()) == [3]
        assert set(now.of(SET).read()) == set()


def test_a_new_attempt_begins_without_the_state_of_the_one_before() -> None:
    state = BundleState()
    with _Round(state) as now:
        now.of(BAG).add(1)
        now.of(LIST).add((Timestamp(1), "a"))
    state.begin("bundle/2", {})
    with _Round(state) as now:
        assert list(now.of(BAG).read()) == []
        assert list(now.of(LIST).read()) == []


@given(st.lists(st.sampled_from(["clear", "commit"]) | st.integers(-5, 5), max_size=30))
def test_a_bag_holds_what_was_added_since_it_was_cleared(steps: list[Any]) -> None:
    state = BundleState()
    now, expected = _Round(state), []
    for step in steps:
        if step == "commit":
            now.__exit__()
            now = _Round(state)
        elif step == "clear":
            now.of(BAG).clear()
            expected = []
        else:
            now.of(BAG).add(step)
            expected.append(step)
        assert list(now.of(BAG).read()) == expected


@given(st.lists(st.just(None) | st.integers(0, 9) | st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_an_ordered_list_is_sorted_and_loses_the_ranges_cleared(steps: list[Any]) -> None:
    state = BundleState()
    now, expected = _Round(state), []
    for number, step in enumerate(steps):
        if step is None:
            now.__exit__()
            now = _Round(state)
        elif isinstance(step, int):
            now.of(LIST).add((Timestamp(step), str(number)))
            expected.append((step, str(number)))
        else:
            now.of(LIST).clear_range(Timestamp(step[0]), Timestamp(step[1]))
            expected = [item for item in expected if not step[0] <= item[0] < step[1]]
    now.__exit__()
    now = _Round(state)
    assert list(now.of(LIST).read()) == [(Timestamp(t), v) for t, v in sorted(expected, key=lambda item: item[0])]
    middle = now.of(LIST).read_range(Timestamp(3), Timestamp(6))
    assert sorted(v for _, v in middle) == sorted(v for t, v in expected if 3 <= t < 6)


def test_what_is_being_read_is_not_changed_by_what_is_written_meanwhile() -> None:
    state = BundleState()
    key = beam_fn_api_pb2.StateKey(bag_user_state=beam_fn_api_pb2.StateKey.BagUserState(user_state_id="s"))
    coder = coders.VarIntCoder().get_impl()
    state.extend(key, coder, [1, 2])
    values = iter(state.blocking_get(key, coder))
    assert next(values) == 1
    state.extend(key, coder, [3])
    assert list(values) == [2]
    assert list(state.blocking_get(key, coder)) == [1, 2, 3]
    state.clear(key).get()
    assert list(state.blocking_get(key, coder)) == []


def _runner_key(token: bytes) -> Any:
    return beam_fn_api_pb2.StateKey(runner=beam_fn_api_pb2.StateKey.Runner(key=token))


def test_grouped_values_are_read_lazily_and_as_often_as_wanted() -> None:
    state, coder, given_out = BundleState(), coders.VarIntCoder().get_impl(), []

    def source() -> Iterator[bytes]:
        for number in range(3):
            given_out.append(number)
            yield coder.encode_all([number, number])

    state.provide(b"group", source)
    values = iter(state.blocking_get(_runner_key(b"group"), coder))
    assert [next(values), next(values)] == [0, 0]
    assert given_out == [0]
    assert list(values) == [1, 1, 2, 2]
    assert list(state.blocking_get(_runner_key(b"group"), coder)) == [0, 0, 1, 1, 2, 2]


def test_grouped_values_end_with_their_bundle() -> None:
    state = BundleState()
    state.provide(b"group", lambda: [])
    state.begin("s1/4", {})
    with pytest.raises(LookupError, match=r"bundle s1/4: the grouped values b'group' are gone.*keep list\(values\)"):
        list(state.blocking_get(_runner_key(b"group"), ANY.get_impl()))


def _pairs(urn: str, pairs: list[tuple[str, int]]) -> tuple[BundleState, SideInputReader]:
    encoded = PAIRS.get_impl().encode_all([WindowedValue(pair, 0, [GlobalWindow()]) for pair in pairs])
    reader = SideInputReader(build_side_input_index([encoded], PAIRS, urn))
    state = BundleState()
    state.begin("s1/1", {("t", "side0"): reader})
    return state, reader


def _view(state: BundleState, urn: str, bulk: bool = False) -> Any:
    data = pvalue.SideInputData(urn, to_global, lambda raw: raw)
    return bundle_processor.StateBackedSideInputMap(state, "t", "side0", data, PAIRS, bulk)[GlobalWindow()]


def test_side_inputs_are_read_as_an_iterable() -> None:
    pairs = [("a", 1), ("b", 2), ("a", 3)]
    state, _ = _pairs(ITERABLE, pairs)
    view = _view(state, ITERABLE)
    assert list(view) == list(view) == pairs


@pytest.mark.parametrize("bulk", [True, False])
@pytest.mark.parametrize("keys", [3, 150])
def test_side_inputs_are_looked_up_by_key(bulk: bool, keys: int) -> None:
    state, _ = _pairs(MULTIMAP, [(str(i % keys), i) for i in range(2 * keys)])
    view = _view(state, MULTIMAP, bulk)
    for i in (0, 1, keys - 1):
        assert list(view[str(i)]) == [i, i + keys]
    assert list(view["none"]) == []


def test_the_keys_of_a_side_input_are_listed() -> None:
    state, _ = _pairs(MULTIMAP, [("a", 1), ("b", 2), ("a", 3)])
    wanted = beam_fn_api_pb2.StateKey.MultimapKeysSideInput(transform_id="t", side_input_id="side0")
    key = beam_fn_api_pb2.StateKey(multimap_keys_side_input=wanted)
    assert sorted(state.blocking_get(key, coders.StrUtf8Coder().get_impl())) == ["a", "b"]


def test_a_small_side_input_is_decoded_once_a_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    state, reader = _pairs(ITERABLE, [("a", 1), ("b", 2)])
    wanted = beam_fn_api_pb2.StateKey.IterableSideInput(transform_id="t", side_input_id="side0")
    key = beam_fn_api_pb2.StateKey(iterable_side_input=wanted)
    first = state.blocking_get(key, PAIR.get_impl())
    assert state.blocking_get(key, PAIR.get_impl()) is first
    state.begin("s1/2", {("t", "side0"): reader})
    assert state.blocking_get(key, PAIR.get_impl()) is not first
    monkeypatch.setattr(state_module, "_KEPT_BYTES", 3)
    state.begin("s1/3", {("t", "side0"): reader})
    large = state.blocking_get(key, PAIR.get_impl())
    assert not isinstance(large, list)
    assert list(large) == [("a", 1), ("b", 2)]


def test_an_unknown_side_input_is_named_with_the_known_ones() -> None:
    state, _ = _pairs(ITERABLE, [("a", 1)])
    wanted = beam_fn_api_pb2.StateKey.IterableSideInput(transform_id="t", side_input_id="side1")
    key = beam_fn_api_pb2.StateKey(iterable_side_input=wanted)
    with pytest.raises(LookupError, match="bundle s1/1: 't' has no side input 'side1'; known: t:side0"):
        state.blocking_get(key, PAIR.get_impl())


def test_kinds_of_state_that_python_never_asks_for_are_refused() -> None:
    state, key = BundleState(), beam_fn_api_pb2.StateKey()
    key.multimap_user_state.transform_id = "t"
    refused = "'multimap_user_state' was to be "
    with pytest.raises(NotImplementedError, match=refused + "read"):
        state.blocking_get(key, ANY.get_impl())
    with pytest.raises(NotImplementedError, match=refused + "written"):
        state.extend(key, ANY.get_impl(), [1])
    with pytest.raises(NotImplementedError, match=refused + "cleared"):
        state.clear(key)
