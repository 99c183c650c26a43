"""Texts as documents: shingles of words, and a hash of the text for exact copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics

from transforms.deduplication.byte_columns import shingle_column
from transforms.deduplication.document_files import (
    DOCUMENTS,
    content_hashes,
    name_of,
    write_documents,
)
from transforms.deduplication.text_shingles import word_ngrams


@dataclass(frozen=True)
class TextParams:
    """Shingles are runs of `ngram` words; what a word is: `transforms.deduplication.text_words`."""

    ngram: int = 5

    def __post_init__(self) -> None:
        if self.ngram < 1:
            raise ValueError(f"dedup.ngram is {self.ngram}; a shingle needs at least 1 word")


def text_documents(batch: pa.RecordBatch, params: TextParams) -> pa.RecordBatch:
    """Arrow rows of id and, where they are there, text, source, quality and published -> rows of `DOCUMENTS`.

    An absent or empty text abstains: it has neither content nor shingles. Raises ValueError for an id that is null.
    """
    ids = batch.column("id").cast(pa.string())
    if ids.null_count:
        row = int(np.flatnonzero(~np.asarray(ids.is_valid()))[0])
        raise ValueError(f"row {row} of a batch has no id; every document needs one, or none at all may have one")
    text = batch.schema.get_field_index("text")
    texts = pa.nulls(batch.num_rows, pa.large_string()) if text < 0 else batch.column(text).cast(pa.large_string())
    empty = pc.equal(pc.binary_length(texts), 0)
    texts = pc.if_else(empty, pa.scalar(None, pa.large_string()), texts)
    shingles = shingle_column(word_ngrams(texts, params.ngram))
    columns = [ids, content_hashes(texts), shingles]
    for field in list(DOCUMENTS)[3:]:
        place = batch.schema.get_field_index(field.name)
        nulls = pa.nulls(batch.num_rows, field.type)
        columns.append(nulls if place < 0 else batch.column(place).cast(field.type))
    return pa.record_batch(columns, schema=DOCUMENTS)


class StoreTexts(beam.DoFn):
    """An Arrow batch of id, text, [source, quality, published] -> the path of its documents' file below `staging`."""

    def __init__(self, staging: str, params: TextParams, night: int = 0) -> None:
        self._staging = staging
        self._params = params
        self._night = night
        self._without_text = Metrics.counter("demosift", "dedup.without_text")

    def process(self, element: pa.RecordBatch) -> Iterator[str]:
        if element.num_rows:
            found = text_documents(element, self._params)
            self._without_text.inc(found.column("content").null_count)
            yield write_documents(Path(self._staging), name_of(found), [found], self._night)
