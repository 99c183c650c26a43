"""TransitionAlignmentStage: complete rows (s, a, r, s') with the semantics of RLDS; nothing crosses a gap or an end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms.arrays import column_matrix, rounded, with_column
from transforms.clocks import reach_ns, stamps
from transforms.episode import Episode, Finding
from transforms.schema import (
    DISCOUNT,
    IS_FIRST,
    IS_LAST,
    IS_TERMINAL,
    NEXT_DONE,
    NEXT_REWARD,
    NEXT_STATE,
    NEXT_TRUNCATED,
    REWARD,
    STATE,
    VALID,
)
from transforms.stage import EpisodeStage, Unreadable

STAGE = "transition_alignment"
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class TransitionAlignmentParams:
    """`max_gap_s`: no transition spans more; by default max(2 * median dt, 0.1 s), as in temporal alignment."""

    max_gap_s: float | None = None

    def __post_init__(self) -> None:
        if self.max_gap_s is not None and not self.max_gap_s > 0:
            raise ValueError(f"max_gap_s is {self.max_gap_s}; need more than 0")


def terminal_flags(steps: pa.RecordBatch, success: bool | None) -> Flags:
    """(T,) whether s_t is terminal: `is_terminal`, else a final `next.done`, else success, else nowhere."""
    flags = _flags(steps, IS_TERMINAL)
    if flags is not None:
        return flags
    out = np.zeros(steps.num_rows, np.bool_)
    done = _flags(steps, NEXT_DONE)
    if done is not None:
        out[-1] = done[-2:].any()
    else:
        out[-1] = success is True
    return out


def connected(times: NDArray[np.int64], present: Flags, max_gap_ns: float | None) -> Flags:
    """(T-1,) whether step t + 1 follows step t: no gap and no backward clock between them; all where no time is known.

    Equal stamps connect, since coarse clocks write them; so does a step beside an absent stamp.
    """
    known = times[present]
    limit = reach_ns(known) if max_gap_ns is None else max_gap_ns
    step = np.diff(times)
    both = present[1:] & present[:-1]
    return ~both | ((step >= 0) & (step <= limit))


def _flags(steps: pa.RecordBatch, name: str) -> Flags | None:
    """A column of flags (T,), nulls False; None where it is absent or all null."""
    values = column_matrix(steps, name)
    if values is None or values.shape[1] != 1 or np.isnan(values).all():
        return None
    return values[:, 0] == 1


def _shifted(column: pa.Array, complete: Flags) -> pa.Array:
    """Row t + 1 at row t, null where the transition is not complete."""
    rows = np.minimum(np.arange(len(column)) + 1, len(column) - 1)
    return column.take(pa.array(rows, pa.int64(), mask=~complete))


def complete_transitions(steps: pa.RecordBatch, max_gap_ns: float | None = None) -> Flags:
    """(T,) whether row t is a complete transition (s_t, a_t, r_t, s_{t+1}); never the last row.

    An invalid step has none, nor has a step before an invalid one, and none leads out of a terminal or last step or
    into a first one.
    """
    good = _flags(steps, VALID)
    step_valid = np.ones(steps.num_rows, np.bool_) if good is None else good
    joined = connected(*stamps(steps), max_gap_ns)
    for name in (IS_LAST, IS_TERMINAL):
        flags = _flags(steps, name)
        if flags is not None:
            joined &= ~flags[:-1]
    first = _flags(steps, IS_FIRST)
    if first is not None:
        joined &= ~first[1:]
    return np.append(step_valid[:-1] & step_valid[1:] & joined, False)


def with_transitions(steps: pa.RecordBatch, success: bool | None, max_gap_ns: float | None = None) -> pa.RecordBatch:
    """The T >= 2 steps with flags, discount, validity and next.* columns; next.* is null where nothing follows.

    `discount` is 0 only where s_{t+1} is terminal, elsewhere the source's own or 1; a truncation bootstraps. What
    ends without a terminal state, at the end or before a gap, is truncated.
    """
    complete = complete_transitions(steps, max_gap_ns)
    terminal = terminal_flags(steps, success)
    following = np.append(terminal[1:], False)
    ends = np.append(~complete[1:], True)
    own = column_matrix(steps, DISCOUNT)
    discount = np.ones(steps.num_rows) if own is None or own.shape[1] != 1 else own[:, 0].copy()
    discount[~np.isfinite(discount) | (discount == 0)] = 1.0
    discount[following] = 0.0
    position = np.arange(steps.num_rows)
    out = with_column(steps, IS_FIRST, pa.array(position == 0))
    out = with_column(out, IS_LAST, pa.array(position == steps.num_rows - 1))
    out = with_column(out, IS_TERMINAL, pa.array(terminal))
    out = with_column(out, DISCOUNT, pa.array(discount.astype(np.float32), mask=~complete))
    out = with_column(out, VALID, pa.array(complete))
    if STATE in steps.schema.names:
        out = with_column(out, NEXT_STATE, _shifted(steps.column(STATE), complete))
    reward = column_matrix(steps, REWARD)
    if reward is None or reward.shape[1] != 1:
        out = with_column(out, NEXT_REWARD, pa.nulls(steps.num_rows, pa.float32()))
    else:
        absent = ~complete | np.isnan(reward[:, 0])
        out = with_column(out, NEXT_REWARD, pa.array(reward[:, 0].astype(np.float32), mask=absent))
    out = with_column(out, NEXT_DONE, pa.array(following, mask=~complete))
    return with_column(out, NEXT_TRUNCATED, pa.array(ends & ~following, mask=~complete))


def transitions(steps: pa.RecordBatch) -> pa.RecordBatch:
    """Only the complete transitions of aligned steps: at most T - 1 rows."""
    return steps.filter(steps.column(VALID))


def incomplete_steps(steps: pa.RecordBatch) -> pa.RecordBatch:
    """The other aligned steps: the last, those before a gap, the invalid."""
    return steps.filter(pc.invert(steps.column(VALID)))


def align_transitions(episode: Episode, params: TransitionAlignmentParams) -> Episode:
    """The episode with transition columns and their count; raises Unreadable below two steps."""
    steps = episode.steps
    if steps.num_rows < 2:
        detail = (
            f"{episode.episode_id} has {steps.num_rows} steps; a transition needs at least 2, so drop the recording"
        )
        raise Unreadable("too_short", detail)
    max_gap_ns = None if params.max_gap_s is None else params.max_gap_s * 1e9
    out = with_transitions(steps, episode.success, max_gap_ns)
    complete = np.asarray(out.column(VALID).to_numpy(zero_copy_only=False), np.bool_)
    found = [Finding(STAGE, "integrity.transitions", float(complete.sum()), "transitions")]
    broken = np.flatnonzero(~complete[:-1])
    frames = (int(broken[0]), int(broken[-1])) if len(broken) else None
    found.append(Finding(STAGE, "integrity.broken_transitions", float(len(broken)), "transitions", frames=frames))
    last = column_matrix(steps, REWARD)
    if last is not None and last.shape[1] == 1 and np.isfinite(last[-1, 0]) and last[-1, 0] != 0:
        detail = "the last step has a reward but no successor, so it is in no transition"
        at = (steps.num_rows - 1, steps.num_rows - 1)
        value = rounded(float(last[-1, 0]))
        found.append(Finding(STAGE, "integrity.reward_of_last_step", value, "", frames=at, detail=detail))
    return replace(episode, steps=out).with_findings(*found)


class TransitionAlignmentStage(EpisodeStage):
    """Makes transitions of an episode's steps."""

    name = STAGE
    output = Episode

    def __init__(self, params: TransitionAlignmentParams | None = None) -> None:
        super().__init__()
        self._params = params or TransitionAlignmentParams()

    def process_element(self, element: Episode) -> Iterable[Episode]:
        return [align_transitions(element, self._params)]
