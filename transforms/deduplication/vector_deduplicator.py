"""Duplicates among vectors: like pairs of `semantic`, decided as those of texts are."""

from __future__ import annotations

from dataclasses import replace

import apache_beam as beam
import pyarrow as pa

from transforms.deduplication.deciding_duplicates import DecideDuplicates, DecideParams
from transforms.deduplication.named_edges import RowsOfIds
from transforms.deduplication.semantic import SemanticEdges, SemanticParams
from transforms.deduplication.text_deduplicator import marked

SEMANTIC = "semantic"
"""Channel of edges between vectors."""


class FindVectorDuplicates(beam.PTransform):
    """Paths of files of ids and vectors -> Arrow batches of `duplicates` and of `edges`.

    `documents` are paths of document files of the same ids, which say what chooses among copies: quality, source,
    published.
    """

    def __init__(self, documents: beam.PCollection[str], semantic: SemanticParams, decide: DecideParams) -> None:
        super().__init__()
        self._documents = documents
        self._semantic = semantic
        self._decide = replace(decide, channel=SEMANTIC)

    def expand(self, files: beam.PCollection[str]) -> dict[str, beam.PCollection[pa.RecordBatch]]:
        found = files | "FindSimilar" >> SemanticEdges(self._semantic)
        places = beam.ParDo(RowsOfIds(), beam.pvalue.AsList(self._documents))
        edges = (
            found["edges"]
            | "PlaceEdges" >> places.with_output_types(pa.RecordBatch)
            | "MarkNear" >> beam.Map(marked, False).with_output_types(pa.RecordBatch)
        )
        decide = DecideDuplicates(self._documents, self._decide)
        decided: dict[str, beam.PCollection[pa.RecordBatch]] = edges | "Decide" >> decide
        return decided
