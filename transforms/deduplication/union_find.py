"""Connected components by union-find with the smallest member as root: the same forest for any order of edges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Forest = dict[str, str]
"""Node -> a smaller node of its component; a root points to itself."""


def root(forest: Forest, node: str) -> str:
    """The node's root, halving the path on the way; an unknown node becomes its own."""
    forest.setdefault(node, node)
    while forest[node] != node:
        forest[node] = forest[forest[node]]
        node = forest[node]
    return node


def join(forest: Forest, a: str, b: str) -> None:
    """Put two nodes in one component, under the smaller root."""
    low, high = sorted((root(forest, a), root(forest, b)))
    forest[high] = low


def components(edges: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Every node of the edges -> the smallest node of its component."""
    forest: Forest = {}
    for a, b in edges:
        join(forest, a, b)
    return {node: root(forest, node) for node in sorted(forest)}
