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


def cluster_rows(clusters: Sequence[DuplicateCluster]) -> pa.Table:
    """The edges of clusters as rows, in their order."""
    rows = [(cluster.cluster_id, edge) for cluster in clusters for edge in cluster.edges]
    columns = [
        [cluster_id for cluster_id, _ in rows],
        [edge.a for _, edge in rows],
        [edge.b for _, edge in rows],
        [edge.channel for _, edge in rows],
        [round(edge.similarity, 9) for _, edge in rows],
        [edge.relabelled for _, edge in rows],
        [_rounded(edge.frames) for _, edge in rows],
        [_rounded(edge.instruction) for _, edge in rows],
    ]
    return pa.table(columns, schema=CLUSTERS_SCHEMA)


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
            for batch in cluster_rows(part).to_batches():
                writer.write(batch)
        reports += written
    return reports
