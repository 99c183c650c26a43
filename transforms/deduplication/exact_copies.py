"""Exact copies as a PTransform: documents of one content, each linked to the first of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa

from transforms.deduplication.bands import Parted
from transforms.deduplication.contents import content_rows, repeats
from transforms.deduplication.document_files import Layout
from transforms.deduplication.in_place import WithFiles, with_earlier
from transforms.deduplication.night_index import CONTENTS, IndexView, run_path, write_run


class ExactCopies(beam.PTransform):
    """Paths of document files -> Arrow batches of rows a, b: `a` is the first of its content, `b` another of it.

    With an index a content's first document may be an earlier one; the new firsts are written as a run to `run`.
    """

    def __init__(
        self, partitions: int, layout: Layout | None = None, index: IndexView | None = None, run: str | None = None
    ) -> None:
        super().__init__()
        self._partitions = partitions
        self._layout = layout or Layout()
        self._index = index or IndexView()
        self._run = run

    def expand(self, files: beam.PCollection[str]) -> beam.PCollection[pa.RecordBatch]:
        all_files = beam.pvalue.AsList(with_earlier(files, self._index))
        contents = beam.ParDo(_Contents(self._partitions, self._layout), all_files)
        return (
            files
            | "ReadContents" >> contents.with_output_types(Parted)
            | "GroupContents" >> beam.GroupByKey()
            | "LinkContents" >> beam.FlatMap(_repeats_of, self._index, self._run).with_output_types(pa.RecordBatch)
        )


class _Contents(WithFiles):
    """A file -> its contents, parted."""

    def __init__(self, partitions: int, layout: Layout) -> None:
        super().__init__(layout)
        self._partitions = partitions

    def process(self, element: str, paths: Sequence[str]) -> Iterator[Parted]:
        yield from content_rows(self.files(paths), element, self._partitions)


def _repeats_of(
    row: tuple[int, Iterable[pa.RecordBatch]], index: IndexView, run: str | None
) -> Iterator[pa.RecordBatch]:
    partition, batches = row[0], list(row[1])
    found = repeats(batches, index.contents(partition, batches) if index.runs else None)
    if run:
        table = pa.Table.from_batches(batches)
        first = ~np.isin(table.column("row").to_numpy(), found.column("b").to_numpy())
        own = {name: table.column(name).to_numpy()[first] for name in ("high", "low", "row")}
        write_run(Path(run), run_path(Path(run), CONTENTS, partition), CONTENTS, own)
    if found.num_rows:
        yield found
