"""Connected components by union-find with the smallest member as root: the same forest for any order of edges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import apache_beam as beam

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


class JoinComponents(beam.CombineFn):
    """Edges (a, b) -> every node's smallest companion. A forest has one entry a node, however many edges came."""

    def create_accumulator(self) -> Forest:
        return {}

    def add_input(self, forest: Forest, edge: tuple[str, str]) -> Forest:
        join(forest, *edge)
        return forest

    def merge_accumulators(self, forests: Iterable[Forest]) -> Forest:
        merged: Forest = {}
        for forest in forests:
            for node, parent in forest.items():
                join(merged, node, parent)
        return merged

    def extract_output(self, forest: Forest) -> Mapping[str, str]:
        return {node: root(forest, node) for node in sorted(forest)}
