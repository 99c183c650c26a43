"""What of a configuration measures episodes, apart from what decides about them: only the first asks for raw data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import xxhash

from transforms.coders import to_json

if TYPE_CHECKING:
    from beam_pipeline.config import PipelineConfig
    from transforms.conventions import Embodiment

STAGES = (
    "media",
    "temporal_alignment",
    "episode_boundary",
    "transition_alignment",
    "instruction_grounding",
    "quality",
    "physics",
    "fingerprint",
)
"""Keys of the configuration that hold for every source; `sources` and `embodiments` measure too, each its own.

`embedding` measures where it asks for something; evidence that was stored without it stays as it is.
"""
CONTENT = "urdf_content_xxh3"
"""Last part of the keys that hold a hash of a URDF's bytes: its limits measure, wherever the file lies."""
_NAMED = 6
_ABSENT = "absent"


@dataclass(frozen=True)
class Measuring:
    """Keys and values that measure each source, defaults filled in, variables as written: by source, by key."""

    by_source: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """xxh3-128 of what is written: contents of files may be unknown, and are compared where both are known."""
        written = {
            source: {key: value for key, value in own.items() if not _is_content(key)}
            for source, own in self.by_source.items()
        }
        return xxhash.xxh3_128_hexdigest(to_json(written))


def measuring_of(config: PipelineConfig, urdfs: Mapping[str, Embodiment] | None = None) -> Measuring:
    """What measures, of a configuration's values; `urdfs` names the files to look into where paths are unexpanded."""
    lying = config.embodiments if urdfs is None else urdfs
    names = [*STAGES, "embedding"] if config.embedding.asked else STAGES
    stages = {key: value for name in names for key, value in _leaves(name, _plain(getattr(config, name)))}
    by_source = {}
    for source in config.sources:
        own = dict(_leaves("source", _plain(source)))
        own.pop("source.reader", None)  # all readers of a format give the same recordings
        if source.embodiment in config.embodiments:
            robot = _plain(config.embodiments[source.embodiment])
            place = f"embodiments.{source.embodiment}"
            own |= dict(_leaves(place, robot)) | _content(place, lying[source.embodiment].urdf)
        by_source[source.name] = {**stages, **own}
    return Measuring(by_source)


def differences(stored: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The keys that differ, with both values; empty where none does.

    Contents that one side does not know do not differ: a URDF that is gone with its source, or that an earlier version
    did not look into.
    """
    keys = sorted(
        key
        for key in stored.keys() | now.keys()
        if stored.get(key) != now.get(key) and not (_is_content(key) and (key not in stored or key not in now))
    )
    said = [f"{key} was {stored.get(key, _ABSENT)}, is {now.get(key, _ABSENT)}" for key in keys[:_NAMED]]
    if len(keys) > _NAMED:
        said.append(f"and {len(keys) - _NAMED} more")
    return "; ".join(said)


def _is_content(key: str) -> bool:
    return key.rpartition(".")[2] == CONTENT


def _content(place: str, urdf: str | None) -> dict[str, str]:
    try:
        data = Path(urdf).read_bytes() if urdf else None
    except OSError:  # a URDF that must be there is refused elsewhere
        return {}
    return {} if data is None else {f"{place}.{CONTENT}": xxhash.xxh3_128_hexdigest(data)}


def _plain(value: Any) -> Any:
    return msgspec.json.decode(to_json(value))


def _leaves(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key in sorted(value):
            yield from _leaves(f"{path}.{key}", value[key])
    else:
        yield path, to_json(value).decode()
