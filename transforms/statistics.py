"""Statistics of every numeric column of the transitions, per source and embodiment: `statistics.json` of the output.

Sums are exact integers and quantiles come from an integer histogram, so neither the order of rows nor that of merging
changes a byte. Of a value that is not finite only the count is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from transforms import value_histogram
from transforms.column_summary import (
    ColumnSummary,
    DimensionSummary,
    SummaryCoder,
    first_wide_row,
    is_numeric,
    summarise_column,
)
from transforms.file_hash import file_hash
from transforms.output_files import EPISODES, OUT, STATISTICS, PartReport
from transforms.output_schema import EPISODE_ID
from transforms.part_writer import put_in_place, temporary_file

_ROWS_AT_ONCE = 4096
_NUMBERS_AT_ONCE = 1 << 20
_COLUMNS_AT_ONCE = 2
_LEAST_BYTES = 4
"""Of a number in a list, a number of its own being counted as a row: near enough to bound memory."""
QUANTILES: Mapping[str, float] = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}


def statistics(summary: ColumnSummary) -> Mapping[str, Sequence[float | None]]:
    """Lists over the dimensions, None where nothing finite was counted; `bin_width` bounds the error of q01 to q99."""
    per_dimension = [_of_dimension(dimension) for dimension in summary.dimensions]
    names = ("count", "nan", "infinite", "mean", "std", "min", "max", *QUANTILES, "bin_width")
    return {"null": [summary.null]} | {name: [one.get(name) for one in per_dimension] for name in names}


def _of_dimension(found: DimensionSummary) -> dict[str, float]:
    counted: dict[str, float] = {"count": found.sums.count, "nan": found.nan, "infinite": found.infinite}
    if not found.sums.count:
        return counted
    quantiles = {name: value_histogram.quantile(found.values, at) for name, at in QUANTILES.items()}
    moments = {"mean": found.sums.mean(), "std": found.sums.std(), "min": found.least, "max": found.greatest}
    bounded = {name: min(max(q.value, found.least), found.greatest) for name, q in quantiles.items()}
    return counted | moments | bounded | {"bin_width": max(q.bin_width for q in quantiles.values())}


class CombineColumn(beam.CombineFn):
    """Summaries of one column -> the summary of all."""

    def create_accumulator(self) -> ColumnSummary:
        return ColumnSummary()

    def add_input(self, accumulator: ColumnSummary, element: ColumnSummary) -> ColumnSummary:
        return accumulator + element

    def merge_accumulators(self, accumulators: Iterable[ColumnSummary]) -> ColumnSummary:
        return reduce(ColumnSummary.__add__, accumulators, ColumnSummary())

    def extract_output(self, accumulator: ColumnSummary) -> ColumnSummary:
        return accumulator

    def get_accumulator_coder(self) -> SummaryCoder:
        return SummaryCoder()


def group_key(source: str, embodiment: str, column: str) -> str:
    """What is summarised together, as a shuffle key."""
    return json.dumps([source, embodiment, column])


class _SummariseFile(beam.DoFn):
    """A finished transitions file -> (group, summary of one column), one for each embodiment of the file."""

    def __init__(self, staging: str, published: str) -> None:
        self._out = Path(staging) / OUT
        self._published = Path(published)

    def process(self, report: PartReport) -> Iterator[tuple[str, ColumnSummary]]:
        path = self._out / report.path
        if not path.exists():
            path = self._published / report.path
        file_format = path.suffix.removeprefix(".").replace("arrow", "ipc")
        episodes = ds.dataset(self._out / EPISODES / path.parent.name / path.name, format=file_format)
        owner = episodes.to_table(columns=[EPISODE_ID, "embodiment"])
        steps = ds.dataset(path, format=file_format)
        names = [name for name in steps.schema.names if is_numeric(steps.schema.field(name).type)]
        embodiments = sorted(set(owner["embodiment"].to_pylist()))
        for embodiment in embodiments:
            own = None
            if len(embodiments) > 1:
                own = pc.field(EPISODE_ID).isin(owner.filter(pc.equal(owner["embodiment"], embodiment))[EPISODE_ID])
            with ThreadPoolExecutor(_COLUMNS_AT_ONCE) as pool:
                found = pool.map(lambda name, rows=own: summarise_pieces(_pieces(steps, name, rows)), names)
                for name, summary in zip(names, found, strict=True):
                    yield group_key(report.source, embodiment, name), summary


def summarise_pieces(pieces: Iterable[pa.Array]) -> ColumnSummary:
    """The summary of a column that comes piece by piece, small pieces taken together: merging summaries costs most."""
    found, held, numbers = ColumnSummary(), list[pa.Array](), 0
    for piece in pieces:
        held.append(piece)
        numbers += len(piece) + piece.nbytes // _LEAST_BYTES
        if numbers >= _NUMBERS_AT_ONCE:
            found, held, numbers = found + summarise_column(pa.concat_arrays(held)), [], 0
    return found + summarise_column(pa.concat_arrays(held)) if held else found


def _pieces(steps: ds.Dataset, name: str, rows: pc.Expression | None) -> Iterator[pa.Array]:
    """A column piece by piece; of a wide one, of which nothing is kept, the first wide row alone."""
    scanner = steps.scanner(columns=[name], filter=rows, batch_size=_ROWS_AT_ONCE, batch_readahead=1)
    for batch in scanner.to_batches():
        column = batch.column(0)
        wide = first_wide_row(column)
        if wide is not None:
            yield column.slice(wide, 1)
            return
        if len(column):
            yield column


def statistics_file(groups: Iterable[tuple[str, ColumnSummary]]) -> bytes:
    """source -> embodiment -> column -> statistic -> list over dimensions; no column without a value or too wide."""
    tree: dict[str, dict[str, dict[str, Any]]] = {}
    for key, summary in sorted(groups, key=lambda group: group[0]):
        source, embodiment, column = json.loads(key)
        if summary.dimensions:
            tree.setdefault(source, {}).setdefault(embodiment, {})[column] = statistics(summary)
    return (_indented(tree, 4) + "\n").encode()


def _indented(value: Any, depth: int, margin: str = "") -> str:
    if depth == 0 or not value:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    inner = margin + " "
    lines: Sequence[str] = [
        f"{inner}{json.dumps(name, ensure_ascii=False)}: {_indented(value[name], depth - 1, inner)}" for name in value
    ]
    return "{\n" + ",\n".join(lines) + f"\n{margin}}}"


class _WriteFile(beam.DoFn):
    def __init__(self, staging: str) -> None:
        self._staging = staging

    def process(self, element: None, groups: Iterable[tuple[str, ColumnSummary]]) -> Iterator[PartReport]:
        staging, found = Path(self._staging), list(groups)
        temporary = temporary_file(staging)
        temporary.write_bytes(statistics_file(found))
        report = PartReport(STATISTICS, len(found), temporary.stat().st_size, file_hash(temporary))
        put_in_place(temporary, staging / OUT / STATISTICS)
        yield report


class WriteStatistics(beam.PTransform):
    """Reports of transitions files -> the report of `statistics.json`, written even where nothing was kept.

    A file that is not in the staging area stays where it was published; the episodes table is always in staging.
    """

    def __init__(self, staging: str, published: str) -> None:
        super().__init__()
        self._staging = staging
        self._published = published

    def expand(self, files: beam.PCollection[PartReport]) -> beam.PCollection[PartReport]:
        groups = (
            files
            | "SummariseFiles"
            >> beam.ParDo(_SummariseFile(self._staging, self._published)).with_output_types(
                beam.typehints.KV[str, ColumnSummary]
            )
            | "CombineColumns"
            >> beam.CombinePerKey(CombineColumn()).with_output_types(beam.typehints.KV[str, ColumnSummary])
        )
        write = beam.ParDo(_WriteFile(self._staging), beam.pvalue.AsIter(groups))
        start = files.pipeline | "StartStatistics" >> beam.Create([None])
        return start | "WriteStatisticsFile" >> write.with_output_types(PartReport)
