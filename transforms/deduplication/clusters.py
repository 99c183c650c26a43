"""Clusters: the connected components of verified edges."""

from __future__ import annotations

from collections.abc import Iterable

from transforms.deduplication.union_find import components
from transforms.evidence import DuplicateCluster, DuplicateEdge


def clusters(edges: Iterable[DuplicateEdge]) -> list[DuplicateCluster]:
    """The components of verified edges, by their smallest members; each has its members and edges in order."""
    held = sorted(edges, key=lambda edge: (edge.a, edge.b, edge.channel))
    roots = components((edge.a, edge.b) for edge in held)
    grouped: dict[str, list[DuplicateEdge]] = {}
    for edge in held:
        grouped.setdefault(roots[edge.a], []).append(edge)
    return [
        DuplicateCluster(smallest, tuple(sorted({end for edge in own for end in (edge.a, edge.b)})), tuple(own))
        for smallest, own in sorted(grouped.items())
    ]
