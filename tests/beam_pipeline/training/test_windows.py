"""Windows around a step against a search through every step, written without arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipeline.training.errors import TrainingDataError
from beam_pipeline.training.row_groups import make_clock
from beam_pipeline.training.windows import window

MS = 1_000_000


def searched(frames: list[int], times: list[int], row: int, delta: int, reach: float) -> tuple[int, bool]:
    """The row nearest in time to `times[row] + delta` among those connected to `row`, and whether it is too far."""
    low = high = row
    while low > 0 and frames[low - 1] == frames[low] - 1:
        low -= 1
    while high + 1 < len(frames) and frames[high + 1] == frames[high] + 1:
        high += 1
    target = times[row] + delta
    best = min(abs(times[i] - target) for i in range(low, high + 1))
    nearest = [i for i in range(low, high + 1) if abs(times[i] - target) == best]
    return (row if delta == 0 else nearest[0]), best > reach


@given(
    st.lists(st.tuples(st.sampled_from([1, 1, 1, 1, 2]), st.integers(1, 60)), min_size=1, max_size=30),
    st.lists(st.integers(-200, 200), min_size=1, max_size=6),
    st.data(),
)
def test_windows_are_those_of_a_search(steps: list[tuple[int, int]], deltas_ms: list[int], data: st.DataObject) -> None:
    frames = np.cumsum([s for s, _ in steps]).tolist()
    times = (np.cumsum([t for _, t in steps]) * MS).tolist()
    row = data.draw(st.integers(0, len(steps) - 1))
    clock = make_clock(np.array(frames), np.array(times), np.ones(len(steps), np.bool_))
    deltas = np.array(deltas_ms, np.int64) * MS
    found = window(clock, row, 0, len(steps), deltas, 10.0 * MS, "e")
    expected = [searched(frames, times, row, delta, 10 * MS) for delta in deltas.tolist()]
    assert found.padded.tolist() == [far for _, far in expected]
    for at, (nearest, _), delta in zip(found.rows.tolist(), expected, deltas.tolist(), strict=True):
        target = times[row] + delta
        assert abs(times[at] - target) == abs(times[nearest] - target)


def test_a_gap_and_an_episode_end_are_never_crossed_worked_by_hand() -> None:
    frames = np.array([0, 1, 2, 5, 6, 0, 1])  # steps 3 and 4 begin no transition; rows 5 and 6 are the next episode
    times = np.array([0, 50, 100, 250, 300, 0, 50]) * MS
    clock = make_clock(frames, times, np.ones(7, np.bool_))
    ahead = np.array([0, 50, 100, 150]) * MS
    found = window(clock, 1, 0, 5, ahead, None, "e")
    assert found.rows.tolist() == [1, 2, 2, 2] and found.padded.tolist() == [False, False, True, True]
    found = window(clock, 3, 0, 5, -ahead, None, "e")
    assert found.rows.tolist() == [3, 3, 3, 3] and found.padded.tolist() == [False, True, True, True]
    found = window(clock, 6, 5, 7, np.array([-50 * MS, 24 * MS, 26 * MS]), None, "e")
    assert found.rows.tolist() == [5, 6, 6] and found.padded.tolist() == [False, False, True], "half a period is near"


def test_an_episode_whose_number_follows_the_last_ones_is_another() -> None:
    clock = make_clock(np.array([0, 1, 2, 3]), np.arange(4) * 50 * MS, np.ones(4, np.bool_))
    found = window(clock, 1, 0, 2, np.array([50 * MS]), None, "e")
    assert found.rows.tolist() == [1] and found.padded.tolist() == [True]


def test_of_steps_that_share_a_stamp_the_own_one_is_taken() -> None:
    clock = make_clock(np.arange(4), np.array([0, 50, 50, 100]) * MS, np.ones(4, np.bool_))
    assert window(clock, 2, 0, 4, np.array([0]), None, "e").rows.tolist() == [2]


def test_steps_without_a_time_are_refused() -> None:
    clock = make_clock(np.arange(3), np.array([0, 0, 100]), np.array([True, False, True]))
    with pytest.raises(TrainingDataError, match="episode 'a/0' has steps without timestamp_ns; delta_timestamps need"):
        window(clock, 0, 0, 3, np.array([0]), None, "a/0")
