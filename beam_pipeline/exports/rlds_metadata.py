"""What an RLDS record says of its episode: the source's own metadata again, and where the episode comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from beam_pipeline.curated import CuratedEpisode
from beam_pipeline.exports.rlds_columns import Values
from beam_pipeline.exports.rlds_features import METADATA, Feature, nested_keys

CURATION = "curation."
"""Attributes that an export wrote; a second export writes them anew."""
_SUCCESS = "success"
_DTYPES = {bool: "bool", int: "int64", float: "float32", str: "string"}
_NAMED = 5


def attributes(episode: CuratedEpisode) -> dict[str, object]:
    """The source's own metadata by name."""
    return {pair["key"]: json.loads(pair["value"]) for pair in episode.row["attributes"] or ()}


def _fits(value: object) -> bool:
    if isinstance(value, float):
        return float(np.float32(value)) == value or value != value
    return not isinstance(value, int) or -(2**63) <= value < 2**63


@dataclass(frozen=True)
class MetadataPlan:
    """Features of `episode_metadata` by the attribute they hold, and what is left out of it."""

    own: Mapping[str, Feature]
    curation: Mapping[str, Feature]
    success: Feature | None
    notes: tuple[str, ...]

    def features(self) -> list[Feature]:
        """All of them."""
        return [*self.own.values(), *self.curation.values(), *([self.success] if self.success else [])]

    def encode(self, episode: CuratedEpisode, into: Values) -> None:
        """Put one episode's metadata into an Example."""
        held = attributes(episode)
        for name, feature in self.own.items():
            into[feature.key] = _one(held[name], feature)
        for name, value in curation_of(episode).items():
            into[self.curation[name].key] = [value.encode()]
        if self.success is not None:
            into[self.success.key] = np.array([episode.success is True])


def _one(value: object, feature: Feature) -> list[bytes] | np.ndarray:
    return [str(value).encode()] if feature.dtype == "string" else np.array([value], np.dtype(feature.dtype))


def curation_of(episode: CuratedEpisode) -> dict[str, str]:
    """Where an episode comes from, in the words of the curated folder's tables."""
    return {
        "content_id": episode.content_id,
        "embodiment": episode.embodiment,
        "episode_id": episode.episode_id,
        "instruction_status": episode.instruction_status,
        "source": episode.source,
    }


def plan_metadata(episodes: Sequence[CuratedEpisode]) -> MetadataPlan:
    """One value of one type in every episode becomes a feature; lists and what differs or is absent is left out."""
    kinds: dict[str, set[type]] = {}
    counts: dict[str, int] = {}
    unfit: set[str] = set()
    for episode in episodes:
        for name, value in attributes(episode).items():
            if name.startswith(CURATION):
                continue
            kinds.setdefault(name, set()).add(type(value))
            counts[name] = counts.get(name, 0) + 1
            if type(value) not in _DTYPES or not _fits(value):
                unfit.add(name)
    kept = [n for n, k in kinds.items() if n not in unfit and counts[n] == len(episodes) and len(k) == 1]
    keys = nested_keys(kept)
    own = {n: Feature(METADATA + keys[n], "scalar", _DTYPES[next(iter(kinds[n]))]) for n in sorted(kept)}
    own = {n: Feature(f.key, "text", f.dtype) if f.dtype == "string" else f for n, f in own.items()}
    known = all(episode.success is not None for episode in episodes) and _SUCCESS not in own
    where = METADATA + CURATION.replace(".", "/")
    return MetadataPlan(
        own,
        {name: Feature(where + name, "text", "string") for name in curation_of(episodes[0])},
        Feature(METADATA + _SUCCESS, "scalar", "bool") if known else None,
        _left_out(sorted(set(kinds) - set(kept))),
    )


def _left_out(names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        return ()
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    shown = ", ".join(names[:_NAMED]) + more
    return (f"left out of episode_metadata, no single value in every episode: {shown}",)


def describe(episodes: Sequence[CuratedEpisode]) -> str:
    """The data set's description: what its numbers mean, as far as it is declared."""
    declared = {pair["key"]: pair["value"] for e in episodes for pair in e.row["conventions"] or ()}
    lines = [f"{key}: {value}" for key, value in sorted(declared.items()) if value != "unknown"]
    robots = ", ".join(sorted({episode.embodiment for episode in episodes}))
    head = [f"Episodes of source {episodes[0].source!r}, curated by DemoSift.", f"embodiment: {robots or 'unknown'}"]
    return "\n".join([*head, *lines])
