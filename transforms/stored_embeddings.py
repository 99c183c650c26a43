"""Embeddings as stored evidence: one row a vector, beside the device and the revision of the model that gave it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa

from transforms.coders import from_json
from transforms.embeddings import FRAMES, BlockKey
from transforms.handlers.blocks import Embedded
from transforms.measured import store_path
from transforms.output_files import PartReport
from transforms.part_writer import SinkParams, open_part
from transforms.partition import PartitionBySortedId, PlaceOf, from_part_key

EMBEDDINGS = "embeddings"
SCHEMA = pa.schema(
    [
        ("episode_id", pa.string()),
        ("channel", pa.string()),
        ("camera", pa.string()),
        ("step", pa.int64()),
        ("vector", pa.list_(pa.int8())),
        ("scale", pa.float32()),
        ("model", pa.string()),
        ("model_revision", pa.string()),
        ("device", pa.string()),
        ("error", pa.string()),
        ("notes", pa.list_(pa.string())),
    ]
)
"""Element i of a vector is `vector[i] * scale`, of length 1. `camera` and `step` are null for texts; where there is no
vector, `error` says why."""
_PARAMS = SinkParams(compression="zstd", row_group_rows=4096)
_PART_VECTORS = 50_000


def _key(embedded: Embedded) -> BlockKey:
    return from_json(embedded.key, BlockKey)


def _source(embedded: Embedded) -> str:
    return _key(embedded).source


def _row_id(embedded: Embedded) -> str:
    key = _key(embedded)
    return "\0".join((key.episode_id, key.channel, key.camera, f"{key.part:08d}"))


def _weight(embedded: Embedded) -> int:
    return len(embedded.ids) + len(embedded.failures)


def embedding_rows(embedded: Embedded) -> Iterator[dict[str, Any]]:
    """A block's rows by id, those without a vector among them."""
    key = _key(embedded)
    found = {name: place for place, name in enumerate(embedded.ids)}
    failed = {failure.id: failure for failure in embedded.failures}
    for name in sorted(found.keys() | failed.keys()):
        place = found.get(name)
        yield {
            "episode_id": key.episode_id,
            "channel": key.channel,
            "camera": key.camera or None,
            "step": int(name) if key.channel == FRAMES else None,
            "vector": None if place is None else embedded.codes[place],
            "scale": None if place is None else float(embedded.scales[place]),
            "model": embedded.model or None,
            "model_revision": embedded.revision or None,
            "device": None if place is None else embedded.devices[place],
            "error": f"{failed[name].error}: {failed[name].detail}" if name in failed else None,
            "notes": list(embedded.notes),
        }


def embeddings_part(staging: Path, source: str, index: int, members: Sequence[Embedded]) -> PartReport:
    """One file of a source's vectors, by episode, channel, camera and step."""
    path = store_path(source, EMBEDDINGS, index, _PARAMS)
    with open_part(staging, path, SCHEMA, _PARAMS, source) as (writer, reports):
        for embedded in sorted(members, key=_row_id):
            writer.write(pa.RecordBatch.from_pylist(list(embedding_rows(embedded)), schema=SCHEMA))
    return reports[0]


class _StoreParts(beam.DoFn):
    def __init__(self, staging: str) -> None:
        self._staging = staging

    def process(self, element: tuple[str, Iterable[Embedded]]) -> Iterator[PartReport]:
        source, index = from_part_key(element[0])
        yield embeddings_part(Path(self._staging), source, index, list(element[1]))


class StoreEmbeddings(beam.PTransform):
    """Embedded -> reports of the files that hold them, which lie beside the other evidence of their source."""

    def __init__(self, staging: str) -> None:
        super().__init__()
        self._staging = staging

    def expand(self, embedded: beam.PCollection[Embedded]) -> beam.PCollection[PartReport]:
        return (
            embedded
            | "PartitionVectors" >> PartitionBySortedId(PlaceOf(_source, _row_id, _weight), _PART_VECTORS, Embedded)
            | "StoreVectors" >> beam.ParDo(_StoreParts(self._staging)).with_output_types(PartReport)
        )
