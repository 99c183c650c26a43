"""Tasks of a LeRobot data set: the instructions, and the texts that annotation columns name by number."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from beam_pipeline.exports.lerobot_scan import ScannedEpisode
from transforms.sources.lerobot_tasks import ANNOTATION, is_instruction


@dataclass(frozen=True)
class TaskTable:
    """Texts by task_index, each once."""

    texts: tuple[str, ...]

    def index(self, text: str) -> int:
        return self.texts.index(text)


def task_of(one: ScannedEpisode) -> str:
    """The episode's instruction; empty where it has none, since LeRobot needs a task for each step."""
    return one.episode.instruction or ""


def annotation_texts(one: ScannedEpisode, column: str) -> Mapping[int, str] | None:
    """What the numbers of an annotation column say in this episode; None where the curated folder does not know.

    Curation keeps one instruction an episode, and the texts of the other annotation columns in order of appearance.
    """
    values = one.annotations.get(column, ())
    if any(value < 0 for value in values):
        return None
    if is_instruction(column):
        texts = [one.episode.instruction] if one.episode.instruction else []
        if sum(is_instruction(name) for name in one.annotations) > 1:
            return None
    else:
        texts = json.loads(one.attributes.get(column, "[]"))
    return dict(zip(values, texts, strict=True)) if len(values) == len(texts) else None


def annotation_problem(column: str, scanned: Sequence[ScannedEpisode]) -> str:
    """Why an annotation column is not exported; empty where it is."""
    for one in scanned:
        if annotation_texts(one, column) is None:
            return f"the curated folder does not hold the texts that its numbers stand for in {one.place}"
    return ""


def task_table(scanned: Iterable[ScannedEpisode], columns: Sequence[str]) -> TaskTable:
    """Instructions and annotations in order of appearance."""
    texts: dict[str, None] = {}
    for one in scanned:
        texts[task_of(one)] = None
        for column in columns:
            texts.update(dict.fromkeys((annotation_texts(one, column) or {}).values()))
    return TaskTable(tuple(texts))


def is_annotation(column: str) -> bool:
    """Whether a column holds numbers of tasks."""
    return column.startswith(ANNOTATION)
