"""TextDeduplicator: exact and near copies among texts, and which of them stay."""

from __future__ import annotations

from dataclasses import dataclass, field

import apache_beam as beam
import numpy as np
import pyarrow as pa

from transforms.deduplication.deciding_duplicates import DecideDuplicates, DecideParams
from transforms.deduplication.night_index import IndexView
from transforms.deduplication.similar_documents import LshParams, SimilarDocuments
from transforms.deduplication.text_documents import StoreTexts, TextParams

PAIRS = "pairs"


@dataclass(frozen=True)
class Night:
    """One of many searches over documents that come by and by: its number, what earlier nights left, and the folder
    to which the run goes that later ones need.
    """

    number: int = 0
    index: IndexView = field(default_factory=IndexView)
    run: str | None = None


class FindDuplicates(beam.PTransform):
    """Paths of document files -> Arrow batches of `duplicates`, of `edges` (verified pairs with their clusters), and of
    `pairs`: the new verified pairs by rows (a, b, similarity, exact).
    """

    def __init__(self, lsh: LshParams, decide: DecideParams, night: Night | None = None) -> None:
        super().__init__()
        self._lsh = lsh
        self._decide = decide
        self._night = night or Night()

    def expand(self, files: beam.PCollection[str]) -> dict[str, beam.PCollection[pa.RecordBatch]]:
        index = self._night.index
        found = files | "FindSimilar" >> SimilarDocuments(self._lsh, index=index, run=self._night.run)
        return decided(files, found, self._decide, index)


class TextDeduplicator(beam.PTransform):
    """Arrow batches of id, text, [source, quality, published] -> batches of `duplicates`, `edges` and `pairs`.

    Documents that are in no `duplicates` batch stay. `staging` is a folder that every worker shares; shingles wait
    there, and the caller removes it.
    """

    def __init__(
        self,
        staging: str,
        text: TextParams | None = None,
        lsh: LshParams | None = None,
        decide: DecideParams | None = None,
        night: Night | None = None,
    ) -> None:
        super().__init__()
        self._staging = staging
        self._text = text or TextParams()
        self._lsh = lsh or LshParams()
        self._decide = decide or DecideParams()
        self._night = night or Night()

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> dict[str, beam.PCollection[pa.RecordBatch]]:
        files = batches | "StoreTexts" >> beam.ParDo(
            StoreTexts(self._staging, self._text, self._night.number)
        ).with_output_types(str)
        found: dict[str, beam.PCollection[pa.RecordBatch]] = files | "FindDuplicates" >> FindDuplicates(
            self._lsh, self._decide, self._night
        )
        return found


def decided(
    files: beam.PCollection[str],
    found: dict[str, beam.PCollection[pa.RecordBatch]],
    params: DecideParams,
    index: IndexView,
) -> dict[str, beam.PCollection[pa.RecordBatch]]:
    """What a search for `exact` and `near` pairs comes to: the tables of `DecideDuplicates`, and `pairs`."""
    exact = found["exact"] | "MarkExact" >> beam.Map(marked, True).with_output_types(pa.RecordBatch)
    near = found["near"] | "MarkNear" >> beam.Map(marked, False).with_output_types(pa.RecordBatch)
    edges = (exact, near) | "MergeEdges" >> beam.Flatten()
    tables: dict[str, beam.PCollection[pa.RecordBatch]] = edges | "Decide" >> DecideDuplicates(
        files, params, index=index
    )
    return {**tables, PAIRS: edges}


def marked(batch: pa.RecordBatch, exact: bool) -> pa.RecordBatch:
    """Edge rows with whether they are exact, which are alike by 1.0."""
    if exact:
        batch = batch.append_column("similarity", pa.array(np.ones(batch.num_rows)))
    return batch.append_column("exact", pa.array(np.full(batch.num_rows, exact)))
