"""Instructions of a LeRobot episode: task indices per row, looked up in the data set's task table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.arrays import times_ns
from transforms.episode import Finding, Utterance, nfc
from transforms.sources.lerobot_columns import integers
from transforms.sources.lerobot_plan import finding

ANNOTATION = "annotation."
TASK = "task_index"
NOT_INSTRUCTIONS = ("validity", "valid", "quality", "success")
"""Last parts of annotation columns whose texts judge the episode rather than instruct the robot."""


@dataclass(frozen=True)
class TaskColumn:
    """A column of task indices, at a position of the shaped batch."""

    name: str
    position: int
    instructs: bool


def is_instruction(column: str) -> bool:
    """Whether a column of task indices instructs: task_index, and annotations but those that judge."""
    return column == TASK or (column.startswith(ANNOTATION) and column.rpartition(".")[2] not in NOT_INSTRUCTIONS)


def runs(indices: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """(value, first row, last row) of each run of equal values in `indices` (T,)."""
    edges = np.flatnonzero(np.diff(indices)) + 1
    starts, ends = [0, *edges.tolist()], [*edges.tolist(), len(indices)]
    return [(int(indices[a]), a, b - 1) for a, b in zip(starts, ends, strict=True)]


def spoken(
    indices: NDArray[np.int64], table: Mapping[int, str], batch: pa.RecordBatch
) -> tuple[list[Utterance], list[int]]:
    """Utterances of one column of task indices (T,), and the indices that the table lacks.

    One text throughout has no interval. A text that changes is valid from its first step to the next text's first
    step, the last one to 1 ns past the last step; without a clock, the texts come in order, without intervals.
    """
    if (indices == indices[0]).all():
        value = int(indices[0])
        text = table.get(value)
        return ([Utterance(text)] if text else []), ([value] if text is None and value >= 0 else [])
    found, times = runs(indices), times_ns(batch)
    unknown = sorted({value for value, _, _ in found if value >= 0 and value not in table})
    utterances = []
    for value, first, last in found:
        text = table.get(value)
        if not text:
            continue
        if times is None:
            utterances.append(Utterance(text))
        else:
            end = int(times[last + 1]) if last + 1 < len(times) else int(times[-1]) + 1
            utterances.append(Utterance(text, int(times[first]), end))
    return utterances, unknown


def instructions(
    batch: pa.RecordBatch, columns: Sequence[TaskColumn], table: Mapping[int, str], listed: Sequence[str]
) -> tuple[tuple[Utterance, ...], dict[str, tuple[str, ...]], list[Finding]]:
    """Utterances without repeats, texts of the other annotation columns, and disagreements.

    `listed`: the episode's tasks as its metadata has them, used where no row names a task.
    """
    utterances: list[Utterance] = []
    others: dict[str, tuple[str, ...]] = {}
    found: list[Finding] = []
    judged: set[str] = set()
    for column in columns:
        texts, unknown = spoken(integers(batch.column(column.position)), table, batch)
        for value in unknown:
            found.append(finding("metadata.task_index", value, f"{column.name} {value} is not in the task table"))
        if column.instructs:
            utterances += [text for text in texts if text not in utterances]
        else:
            others[column.name] = tuple(dict.fromkeys(text.text for text in texts))
            judged |= {nfc(text.text) for text in texts}
    if len(utterances) == len(listed) == 1 and utterances[0].text == listed[0]:
        return tuple(utterances), others, found
    said = {nfc(utterance.text) for utterance in utterances}
    stated = {nfc(text) for text in listed} - judged
    if not utterances:
        utterances = [Utterance(text) for text in listed if nfc(text) and nfc(text) not in judged]
    elif stated and stated != said:
        text = f"the episode lists {sorted(stated)}; its rows name {sorted(said)}"
        found.append(finding("metadata.tasks", len(stated ^ said), text))
    return tuple(utterances), others, found
