"""The table of verified duplicates: one row an edge, those that dropped nothing (relabelled, failing members) too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from transforms.evidence import DuplicateCluster
from transforms.output_files import CLUSTERS, PartReport
from transforms.part_writer import SinkParams, open_part
from transforms.partition import cut_parts, part_of

CLUSTERS_SCHEMA = pa.schema(
    [
        ("cluster_id", pa.string()),
        ("a", pa.string()),
        ("b", pa.string()),
        ("channel", pa.string()),
        ("similarity", pa.float64()),
        ("relabelled", pa.bool_()),
        ("frames_similarity", pa.float64()),
        ("instruction_similarity", pa.float64()),
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
            "frames_similarity": _rounded(edge.frames),
            "instruction_similarity": _rounded(edge.instruction),
        }
        for edge in cluster.edges
    ]
    return pa.RecordBatch.from_pylist(edges, schema=CLUSTERS_SCHEMA)


def _rounded(similarity: float | None) -> float | None:
    return None if similarity is None else round(similarity, 9)


def write_clusters(staging: Path, clusters: Sequence[DuplicateCluster], params: SinkParams) -> list[PartReport]:
    """Part files of clusters sorted by id, each whole in one; no file where nothing is alike."""
    ordered = sorted(clusters, key=lambda cluster: cluster.cluster_id)
    # an edge may lead from one source to another, so they have none
    starts = cut_parts("", [(c.cluster_id, len(c.edges)) for c in ordered], params.ledger_part_rows)
    parts: list[list[DuplicateCluster]] = [[] for _ in starts]
    for cluster in ordered:
        parts[part_of(cluster.cluster_id, starts)].append(cluster)
    reports: list[PartReport] = []
    for index, part in enumerate(part for part in parts if part):
        path = f"{CLUSTERS}/part-{index:05d}.{params.extension}"
        with open_part(staging, path, CLUSTERS_SCHEMA, params, "") as (writer, written):
            for cluster in part:
                writer.write(cluster_rows(cluster))
        reports += written
    return reports
