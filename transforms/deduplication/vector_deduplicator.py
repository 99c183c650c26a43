"""VectorDeduplicator: copies and like ones among vectors, and which of them stay."""

from __future__ import annotations

from dataclasses import replace

import apache_beam as beam
import pyarrow as pa

from transforms.deduplication.deciding_duplicates import DecideParams
from transforms.deduplication.semantic import SemanticParams, SimilarVectors, frozen_centroids
from transforms.deduplication.text_deduplicator import Night, decided
from transforms.deduplication.vector_documents import ABSTAINED_TAG, StoreVectors

SEMANTIC = "semantic"
"""Channel of edges between vectors that differ; equal ones are exact copies."""


class FindVectorDuplicates(beam.PTransform):
    """Paths of document files of vectors -> Arrow batches of `duplicates`, of `edges` (verified pairs with their
    clusters), and of `pairs`: the new verified pairs by rows (a, b, similarity, exact).
    """

    def __init__(self, semantic: SemanticParams, decide: DecideParams, night: Night | None = None) -> None:
        super().__init__()
        self._semantic = semantic
        self._decide = replace(decide, channel=SEMANTIC)
        self._night = night or Night()

    def expand(self, files: beam.PCollection[str]) -> dict[str, beam.PCollection[pa.RecordBatch]]:
        index = self._night.index
        found = files | "FindSimilar" >> SimilarVectors(self._semantic, index=index, run=self._night.run)
        return decided(files, found, self._decide, index)


class VectorDeduplicator(beam.PTransform):
    """Arrow batches of id, vector, [source, quality, published] -> batches of `duplicates`, `edges` and `pairs`, and of
    the vectors that `abstained`: absent, not finite or zero.

    Vectors that are in no `duplicates` batch stay. `staging` is a folder that every worker shares; int8 rows wait
    there, and the caller removes it.
    """

    def __init__(
        self,
        staging: str,
        semantic: SemanticParams | None = None,
        decide: DecideParams | None = None,
        night: Night | None = None,
    ) -> None:
        super().__init__()
        self._staging = staging
        self._semantic = semantic or SemanticParams()
        self._decide = decide or DecideParams()
        self._night = night or Night()

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> dict[str, beam.PCollection[pa.RecordBatch]]:
        frozen = frozen_centroids(self._night.index)
        width = None if frozen is None else frozen.rows.shape[1]
        stored = batches | "StoreVectors" >> beam.ParDo(
            StoreVectors(self._staging, width, self._night.number)
        ).with_outputs(ABSTAINED_TAG, main="files")
        files, abstained = stored["files"], stored[ABSTAINED_TAG]
        files.element_type, abstained.element_type = str, pa.RecordBatch
        found: dict[str, beam.PCollection[pa.RecordBatch]] = files | "FindDuplicates" >> FindVectorDuplicates(
            self._semantic, self._decide, self._night
        )
        return {**found, ABSTAINED_TAG: abstained}
