"""Timers fire in Beam's order, each as it was set last."""

from __future__ import annotations

from typing import Any

from apache_beam import coders
from apache_beam.transforms.userstate import Timer
from apache_beam.transforms.window import GlobalWindow, IntervalWindow
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import PANE_INFO_UNKNOWN
from hypothesis import given
from hypothesis import strategies as st

from beam_pipeline.runner.worker.timers import TimerFamily, TimerQueue

CODER = coders.coders._TimerCoder(coders.FastPrimitivesCoder(), coders.coders.GlobalWindowCoder()).get_impl()
INTERVALS = coders.coders._TimerCoder(coders.FastPrimitivesCoder(), coders.coders.IntervalWindowCoder()).get_impl()
A: TimerFamily = ("transform", "a")
B: TimerFamily = ("transform", "b")
CLOCK: TimerFamily = ("transform", "clock")


def _set(key: Any, seconds: float, tag: str = "", window: Any = None) -> bytes:
    time = Timestamp(seconds)
    timer = Timer(key, tag, (window or GlobalWindow(),), False, time, time, PANE_INFO_UNKNOWN)
    return (INTERVALS if window else CODER).encode_nested(timer)


def _clear(key: Any, tag: str = "") -> bytes:
    return CODER.encode_nested(Timer(key, tag, (GlobalWindow(),), True, None, None, None))


def _queue() -> TimerQueue:
    return TimerQueue({A: CODER, B: CODER, CLOCK: CODER}, [CLOCK])


def _round(queue: TimerQueue) -> list[tuple[str, Any, float, str]] | None:
    """The next round as (family, key, seconds, tag)."""
    due = queue.next_round()
    if due is None:
        return None
    return [
        (family, timer.user_key, float(timer.fire_timestamp), timer.dynamic_timer_tag)
        for (_, family), encoded in due.items()
        for timer in CODER.decode_all(encoded)
    ]


def test_the_last_setting_of_a_timer_counts() -> None:
    queue = _queue()
    queue.add({A: [_set("k1", 10) + _set("k1", 20), _set("k2", 5)]})
    assert _round(queue) == [("a", "k2", 5, ""), ("a", "k1", 20, "")]
    assert _round(queue) is None


def test_a_cleared_timer_does_not_fire_unless_it_is_set_again() -> None:
    queue = _queue()
    queue.add({A: [_set("k", 10), _clear("k")], B: [_clear("k"), _set("k", 7)]})
    assert _round(queue) == [("b", "k", 7, "")]
    assert _round(queue) is None


def test_timers_of_a_key_fire_one_a_round_so_that_each_may_clear_the_next() -> None:
    queue = _queue()
    queue.add({A: [_set("k", 20)], B: [_set("k", 10)]})
    assert _round(queue) == [("b", "k", 10, "")]
    queue.add({A: [_clear("k")], B: [_set("k", 15)]})
    assert _round(queue) == [("b", "k", 15, "")]
    assert _round(queue) is None


def test_a_timer_set_before_the_pending_ones_fires_before_them() -> None:
    queue = _queue()
    queue.add({A: [_set("k", 10), _set("k", 30, "late")]})
    assert _round(queue) == [("a", "k", 10, "")]
    queue.add({A: [_set("k", 20)]})
    assert _round(queue) == [("a", "k", 20, "")]
    assert _round(queue) == [("a", "k", 30, "late")]


def test_tags_windows_families_and_transforms_are_timers_of_their_own() -> None:
    other: TimerFamily = ("other", "a")
    queue = TimerQueue({A: INTERVALS, other: INTERVALS})
    first, second = IntervalWindow(0, 10), IntervalWindow(10, 20)
    queue.add({A: [_set("k", 9, window=first), _set("k", 19, window=second), _set("k", 9, "tag", first)]})
    queue.add({other: [_set("k", 3, window=first)]})
    fired = []
    while due := queue.next_round():
        fired.append(
            {
                f[0]: [(float(t.fire_timestamp), t.dynamic_timer_tag) for t in INTERVALS.decode_all(e)]
                for f, e in due.items()
            }
        )
    assert fired == [
        {"other": [(3, "")], "transform": [(9, "")]},
        {"transform": [(9, "tag")]},
        {"transform": [(19, "")]},
    ]


def test_processing_time_comes_behind_event_time_and_is_not_waited_for() -> None:
    queue = _queue()
    queue.add({CLOCK: [_set("k", 1)], A: [_set("k", 1_000_000)]})
    assert _round(queue) == [("a", "k", 1_000_000, "")]
    assert _round(queue) == [("clock", "k", 1, "")]


def test_keys_that_cannot_be_hashed_are_told_by_their_encoding() -> None:
    queue = _queue()
    queue.add({A: [_set(["k", 1], 2), _set(["k", 1], 1), _set(["k", 2], 3)]})
    assert _round(queue) == [("a", ["k", 1], 1, ""), ("a", ["k", 2], 3, "")]


_EVENTS = st.lists(
    st.tuples(
        st.sampled_from("xyz"), st.sampled_from(["", "t"]), st.sampled_from([A, B]), st.none() | st.integers(0, 9)
    )
)


@given(_EVENTS)
def test_what_fires_is_what_was_set_last_in_the_order_of_time_within_a_key(
    events: list[tuple[str, str, TimerFamily, int | None]],
) -> None:
    queue = _queue()
    expected: dict[tuple[str, str, str], int] = {}
    for key, tag, family, seconds in events:
        if seconds is None:
            expected.pop((family[1], key, tag), None)
            queue.add({family: [_clear(key, tag)]})
        else:
            expected[(family[1], key, tag)] = seconds
            queue.add({family: [_set(key, seconds, tag)]})
    fired: list[tuple[str, Any, float, str]] = []
    while due := _round(queue):
        assert len({key for _, key, _, _ in due}) == len(due)
        fired += due
    assert sorted(fired) == sorted((family, key, time, tag) for (family, key, tag), time in expected.items())
    for wanted in "xyz":
        times = [time for _, key, time, _ in fired if key == wanted]
        assert times == sorted(times)
