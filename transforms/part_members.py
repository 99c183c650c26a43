"""Parts as the sink receives them: their members lie in the staging area, so that no graph holds an id an episode."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import apache_beam as beam
import pyarrow as pa

from transforms.coders import ArrowCoder
from transforms.output_files import Part, PartReport, part_path

_PLANNED = "planned"
"""Folder of the staging area."""
_SCHEMA = pa.schema([("episode_id", pa.string()), ("part", pa.string())])


@dataclass(frozen=True)
class PlannedPart:
    """A part to write, whose members lie in the file `members` of the staging area.

    One that stays as it was published has the report of its transitions in `stays`, and no members.
    """

    source: str
    index: int
    members: str = ""
    stays: PartReport | None = None


class PlannedPartCoder(ArrowCoder):
    """Coder of planned parts."""

    kind = PlannedPart


beam.coders.registry.register_coder(PlannedPart, PlannedPartCoder)


def plan_part(staging: Path, part: Part) -> PlannedPart:
    """Put a part's members into the staging area."""
    place = part_path(_PLANNED, part.source, part.index, "arrow")
    (staging / place).parent.mkdir(parents=True, exist_ok=True)
    columns = [[member.episode_id for member in part.members], [member.part for member in part.members]]
    table = pa.table(columns, schema=_SCHEMA)
    with pa.ipc.new_file(str(staging / place), _SCHEMA) as writer:
        writer.write_table(table)
    return PlannedPart(part.source, part.index, place)


def planned_runs(staging: Path, planned: PlannedPart) -> Iterator[tuple[str, list[str]]]:
    """(published part, ids) of members in a row whose steps lie in one place; no part for those that are staged."""
    with pa.memory_map(str(staging / planned.members)) as file:
        columns = [column.to_pylist() for column in pa.ipc.open_file(file).read_all().columns]
    for part, members in groupby(zip(*columns, strict=True), lambda member: member[1]):
        yield part, [name for name, _ in members]
