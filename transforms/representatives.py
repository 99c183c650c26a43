"""Which member of a cluster of duplicates stays, and which members give way to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from transforms.deduplication.union_find import components
from transforms.evidence import Channel, DuplicateCluster


@dataclass(frozen=True)
class Standing:
    """What chooses a representative; the smallest of a cluster's standings that pass is the next one."""

    unlabelled: bool
    no_quality: bool
    negative_quality: float
    episode_id: str
    passing: bool

    def order(self) -> tuple[bool, bool, float, str]:
        """Labelled first, then quality high first, then id."""
        return self.unlabelled, self.no_quality, self.negative_quality, self.episode_id


@dataclass(frozen=True)
class Duplicate:
    """That a member gives way to `representative`, and the verified edge that says so."""

    episode_id: str
    representative: str
    channel: Channel
    similarity: float


def choose(cluster: DuplicateCluster, standings: Iterable[Standing]) -> tuple[Duplicate, ...]:
    """Which passing members give way to which representative.

    The best passing member represents all that have a verified edge to it, the best of the rest those that have one
    to it, and so on: chains do not eat their ends. Equal contents share their edges; relabelled edges drop nothing.
    """
    content = components((edge.a, edge.b) for edge in cluster.edges if edge.channel == "exact")
    near: dict[str, dict[str, float]] = defaultdict(dict)
    for edge in cluster.edges:
        if edge.channel == "exact" or edge.relabelled:
            continue
        a, b = content.get(edge.a, edge.a), content.get(edge.b, edge.b)
        near[a][b] = near[b][a] = max(edge.similarity, near[a].get(b, 0.0))
    passing = sorted((s for s in standings if s.passing), key=Standing.order)
    holders: dict[str, list[str]] = defaultdict(list)
    for member in passing:
        holders[content.get(member.episode_id, member.episode_id)].append(member.episode_id)
    decided: set[str] = set()
    dropped: list[Duplicate] = []
    for member in passing:
        representative = member.episode_id
        if representative in decided:
            continue
        decided.add(representative)
        own = content.get(representative, representative)
        found: Sequence[tuple[str, Channel, float]] = [
            (own, "exact", 1.0),
            *((other, "trajectory", near[own][other]) for other in sorted(near[own])),
        ]
        for other, channel, similarity in found:
            fresh = [episode_id for episode_id in holders[other] if episode_id not in decided]
            decided.update(fresh)
            dropped += [Duplicate(episode_id, representative, channel, similarity) for episode_id in fresh]
    return tuple(sorted(dropped, key=lambda d: d.episode_id))
