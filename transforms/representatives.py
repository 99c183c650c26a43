"""Which member of a cluster of duplicates stays, and which members give way to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from transforms.deduplication.union_find import components
from transforms.evidence import Channel, DuplicateCluster, DuplicateEdge


@dataclass(frozen=True)
class Standing:
    """What chooses a representative; the smallest of a cluster's standings that pass is the next one.

    `published` says that an earlier run published the episode as it is: it never gives way to one that is new.
    """

    unlabelled: bool
    no_quality: bool
    negative_quality: float
    episode_id: str
    passing: bool
    published: bool = False

    def order(self) -> tuple[bool, bool, bool, float, str]:
        """Published first, labelled first, then quality high first, then id."""
        return not self.published, self.unlabelled, self.no_quality, self.negative_quality, self.episode_id


@dataclass(frozen=True)
class Duplicate:
    """That a member gives way to `representative`, and what the verified edge says of each channel, None: abstains."""

    episode_id: str
    representative: str
    channel: Channel
    similarity: float
    frames: float | None = None
    instruction: float | None = None
    relabelled: bool = False


def choose(
    cluster: DuplicateCluster, standings: Iterable[Standing], drop_relabelled: bool = False
) -> tuple[Duplicate, ...]:
    """Which passing members give way to which representative.

    The best passing member represents all that have a verified edge to it, the best of the rest those that have one
    to it, and so on: chains do not eat their ends. Equal contents share their edges; relabelled edges drop nothing
    unless `drop_relabelled`.
    """
    content = components((edge.a, edge.b) for edge in cluster.edges if edge.channel == "exact")
    near: dict[str, dict[str, DuplicateEdge]] = defaultdict(dict)
    for edge in cluster.edges:
        if edge.channel == "exact" or (edge.relabelled and not drop_relabelled):
            continue
        a, b = content.get(edge.a, edge.a), content.get(edge.b, edge.b)
        if b not in near[a] or edge.similarity > near[a][b].similarity:
            near[a][b] = near[b][a] = edge
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
        found = [(own, DuplicateEdge(own, own, "exact", 1.0)), *sorted(near[own].items())]
        for other, edge in found:
            fresh = [episode_id for episode_id in holders[other] if episode_id not in decided]
            decided.update(fresh)
            dropped += [_of_edge(episode_id, representative, edge) for episode_id in fresh]
    return tuple(sorted(dropped, key=lambda d: d.episode_id))


def _of_edge(episode_id: str, representative: str, edge: DuplicateEdge) -> Duplicate:
    return Duplicate(
        episode_id, representative, edge.channel, edge.similarity, edge.frames, edge.instruction, edge.relabelled
    )
