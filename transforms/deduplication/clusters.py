"""Clusters: the connected components of verified edges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

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


def as_one_search(edges: Iterable[DuplicateEdge]) -> list[DuplicateEdge]:
    """Edges that were found night by night, as one search over all episodes finds them.

    There the smallest id of equal contents stands for them all, here the smallest of the first night that had one.
    """
    held = list(edges)
    smallest = components((edge.a, edge.b) for edge in held if edge.channel == "exact")
    found = [DuplicateEdge(first, name, "exact", 1.0) for name, first in smallest.items() if name != first]
    for edge in held:
        if edge.channel != "exact":
            low, high = sorted((smallest.get(edge.a, edge.a), smallest.get(edge.b, edge.b)))
            found.append(edge if (low, high) == (edge.a, edge.b) else replace(edge, a=low, b=high))
    return found
