"""The table of verified duplicates: one row an edge, those that dropped nothing (relabelled, failing members) too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import apache_beam as beam
import pyarrow as pa

from transforms.evidence import DuplicateCluster
from transforms.output_files import CLUSTERS, PartReport
from transforms.part_writer import SinkParams, open_part
from transforms.partition import PartitionBySortedId, PlaceOf, from_part_key

CLUSTERS_SCHEMA = pa.schema(
    [
        ("cluster_id", pa.string()),
        ("a", pa.string()),
        ("b", pa.string()),
        ("channel", pa.string()),
        ("similarity", pa.float64()),
        ("relabelled", pa.bool_()),
    ]
)


def cluster_rows(cluster: DuplicateCluster) -> pa.RecordBatch:
    """A cluster's edges as rows."""
    edges = [
        {
            "cluster_id": cluster.cluster_id,
            "a": edge.a,
            "b": edge.b,
            "channel": edge.channel,
            "similarity": round(edge.similarity, 9),
            "relabelled": edge.relabelled,
        }
        for edge in cluster.edges
    ]
    return pa.RecordBatch.from_pylist(edges, schema=CLUSTERS_SCHEMA)


def write_clusters(
    staging: Path, index: int, clusters: Iterable[DuplicateCluster], params: SinkParams
) -> list[PartReport]:
    """One part file of clusters, sorted by id."""
    path = f"{CLUSTERS}/part-{index:05d}.{params.extension}"
    with open_part(staging, path, CLUSTERS_SCHEMA, params, "") as (writer, reports):
        for cluster in sorted(clusters, key=_cluster_id):
            writer.write(cluster_rows(cluster))
    return reports


def _no_source(cluster: DuplicateCluster) -> str:
    return ""  # an edge may lead from one source to another


def _cluster_id(cluster: DuplicateCluster) -> str:
    return cluster.cluster_id


def _edges(cluster: DuplicateCluster) -> int:
    return len(cluster.edges)


class _WriteClusters(beam.DoFn):
    def __init__(self, staging: str, params: SinkParams) -> None:
        self._staging = staging
        self._params = params

    def process(self, element: tuple[str, Iterable[DuplicateCluster]]) -> Iterator[PartReport]:
        key, clusters = element
        yield from write_clusters(Path(self._staging), from_part_key(key)[1], clusters, self._params)


class WriteClusters(beam.PTransform):
    """Clusters -> files sorted by cluster; no file where nothing is alike."""

    def __init__(self, staging: str, params: SinkParams) -> None:
        super().__init__()
        self._staging, self._params = staging, params

    def expand(self, clusters: beam.PCollection[DuplicateCluster]) -> beam.PCollection[PartReport]:
        place = PlaceOf(_no_source, _cluster_id, _edges)
        return (
            clusters
            | "PartitionClusters" >> PartitionBySortedId(place, self._params.ledger_part_rows, DuplicateCluster)
            | "WriteClusterParts"
            >> beam.ParDo(_WriteClusters(self._staging, self._params)).with_output_types(PartReport)
        )
