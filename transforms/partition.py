"""Parts by sorted id: which rows share a file depends on the rows alone, never on order or workers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam


@dataclass(frozen=True)
class PlaceOf:
    """How a row is placed: its source, its id within it, and its weight towards the size of a part."""

    source: Callable[[Any], str]
    row_id: Callable[[Any], str]
    weight: Callable[[Any], int]


def cut_parts(source: str, rows: Iterable[tuple[str, int]], limit: float) -> tuple[str, ...]:
    """First id of each part: sorted by id, a part ends before its weight would exceed `limit`.

    Raises ValueError where an id appears twice: every input has exactly one row.
    """
    starts: list[str] = []
    filled, previous = 0.0, None
    for row_id, weight in sorted(rows):
        if row_id == previous:
            raise ValueError(
                f"{row_id!r} of source {source!r} has two rows where each input has exactly one; "
                "two recordings share this id, or a stage emitted it twice"
            )
        if not starts or filled + weight > limit:
            starts.append(row_id)
            filled = 0.0
        filled += weight
        previous = row_id
    return tuple(starts)


def part_of(row_id: str, starts: Sequence[str]) -> int:
    """The part that holds an id, by the first ids of all parts."""
    return bisect_right(starts, row_id) - 1


def part_key(source: str, index: int) -> str:
    """A shuffle key: sources have no slash in their names."""
    return f"{source}/{index:05d}"


def from_part_key(key: str) -> tuple[str, int]:
    """Source and index of a part key."""
    source, _, index = key.rpartition("/")
    return source, int(index)


class PartitionBySortedId(beam.PTransform):
    """Rows -> (part key, rows of that part); only ids and weights of a source ever meet in one place."""

    def __init__(self, place: PlaceOf, limit: float, row_type: type[Any]) -> None:
        super().__init__()
        self._place = place
        self._limit = limit
        self._row_type = row_type

    def expand(self, rows: beam.PCollection[Any]) -> beam.PCollection[Any]:
        starts = (
            rows
            | "TakeIdsAndWeights" >> beam.ParDo(_IdsAndWeights(self._place))
            | "GroupIdsBySource" >> beam.GroupByKey()
            | "CutParts" >> beam.ParDo(_CutParts(self._limit))
        )
        placed = beam.ParDo(_AssignPart(self._place), beam.pvalue.AsDict(starts))
        return (
            rows
            | "AssignParts" >> placed.with_output_types(beam.typehints.KV[str, self._row_type])
            | "GroupByPart" >> beam.GroupByKey()
        )


class _IdsAndWeights(beam.DoFn):
    def __init__(self, place: PlaceOf) -> None:
        self._place = place

    def process(self, element: Any) -> Iterator[tuple[str, tuple[str, int]]]:
        yield self._place.source(element), (self._place.row_id(element), self._place.weight(element))


class _CutParts(beam.DoFn):
    def __init__(self, limit: float) -> None:
        self._limit = limit

    def process(self, element: tuple[str, Iterable[tuple[str, int]]]) -> Iterator[tuple[str, tuple[str, ...]]]:
        source, rows = element
        yield source, cut_parts(source, rows, self._limit)


class _AssignPart(beam.DoFn):
    def __init__(self, place: PlaceOf) -> None:
        self._place = place

    def process(self, element: Any, starts: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, Any]]:
        source = self._place.source(element)
        yield part_key(source, part_of(self._place.row_id(element), starts[source])), element
