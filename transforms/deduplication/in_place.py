"""DoFns that read documents in place: the files of a search, and those of earlier nights beside them."""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam

from transforms.deduplication.document_files import DocumentFiles, Layout
from transforms.deduplication.night_index import IndexView


class WithFiles(beam.DoFn):
    """A DoFn that reads documents in place; the paths of all files come as a side input."""

    def __init__(self, layout: Layout | None = None) -> None:
        self._layout = layout or Layout()
        self._held: DocumentFiles | None = None

    def files(self, paths: Sequence[str]) -> DocumentFiles:
        """The files, kept open between elements."""
        if self._held is None or not self._held.are(paths):
            self._held = DocumentFiles(paths, self._layout)
        return self._held

    def teardown(self) -> None:
        self._held = None


def with_earlier(files: beam.PCollection[str], index: IndexView) -> beam.PCollection[str]:
    """The files, and those of the index."""
    if not index.documents:
        return files
    earlier = files.pipeline | "ListEarlier" >> beam.Create(index.documents, reshuffle=False).with_output_types(str)
    return (files, earlier) | "MergeEarlier" >> beam.Flatten()
