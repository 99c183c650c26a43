"""PipelineConfig: the YAML file as frozen dataclasses, one Params per stage, checked before any work."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import xxhash
import yaml

from beam_pipeline.gates import GateParams
from beam_pipeline.measuring import Measuring, measuring_of
from beam_pipeline.typed_yaml import ConfigError, load_file, nearest
from transforms.checks import CHECKS
from transforms.coders import to_json
from transforms.conventions import Embodiment, Source
from transforms.deduplication.deduplicator import DedupParams
from transforms.deduplication.fingerprint import FingerprintParams
from transforms.embeddings import EmbeddingParams
from transforms.episode_boundary import EpisodeBoundaryParams
from transforms.instruction_grounding import InstructionGroundingParams
from transforms.media import MediaParams
from transforms.physics import PhysicsParams
from transforms.quality import DataQualityParams
from transforms.select import SelectParams
from transforms.sinks import SinkParams
from transforms.source_paths import expand
from transforms.sources import rlds_tensorflow
from transforms.temporal_alignment import TemporalAlignmentParams
from transforms.transition_alignment import TransitionAlignmentParams
from transforms.urdf import load_limits


@dataclass(frozen=True)
class PipelineConfig:
    """All of one job. `output` is the folder used where the caller names none.

    `verdicts` is a CSV file of people's verdicts (episode_id, verdict, who, why), which beat the rules; without it,
    `verdicts.csv` in the output folder is read where it lies there.
    """

    sources: tuple[Source, ...]
    embodiments: Mapping[str, Embodiment] = field(default_factory=dict)
    output: str = ""
    media: MediaParams = field(default_factory=MediaParams)
    temporal_alignment: TemporalAlignmentParams = field(default_factory=TemporalAlignmentParams)
    episode_boundary: EpisodeBoundaryParams = field(default_factory=EpisodeBoundaryParams)
    transition_alignment: TransitionAlignmentParams = field(default_factory=TransitionAlignmentParams)
    instruction_grounding: InstructionGroundingParams = field(default_factory=InstructionGroundingParams)
    quality: DataQualityParams = field(default_factory=DataQualityParams)
    physics: PhysicsParams = field(default_factory=PhysicsParams)
    fingerprint: FingerprintParams = field(default_factory=FingerprintParams)
    embedding: EmbeddingParams = field(default_factory=EmbeddingParams)
    deduplication: DedupParams = field(default_factory=DedupParams)
    select: SelectParams = field(default_factory=SelectParams)
    sink: SinkParams = field(default_factory=SinkParams)
    gates: GateParams = field(default_factory=GateParams)
    verdicts: str = ""
    config_hash: str = field(default="", init=False)
    measuring: Measuring = field(default_factory=Measuring, init=False)
    file: str = field(default="", init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "measuring", measuring_of(self))
        object.__setattr__(self, "config_hash", xxhash.xxh3_128_hexdigest(to_json(self)))

    @classmethod
    def load(cls, path: str | Path, sources_present: bool = True) -> PipelineConfig:
        """Read, expand and check a YAML file; raises ConfigError before anything else happens.

        Relative paths are relative to the file. `config_hash` is over the parsed file with variables unexpanded
        (of a configuration made in Python, over its values),
        so it is the same on every machine and for every layout of the text; so is `measuring`, what measures episodes.
        `sources_present` False allows sources that are gone, of which only stored evidence is left.
        """
        file = Path(path)
        config = load_file(file, cls)
        folder = file.resolve().parent
        config = replace(
            config,
            output=str(folder / config.output) if config.output else str(Path("out") / file.stem),
            verdicts=str(folder / config.verdicts) if config.verdicts else "",
            sources=tuple(replace(s, path=str(folder / Path(s.path).expanduser())) for s in config.sources),
            embodiments={
                name: replace(e, urdf=str(folder / e.urdf) if e.urdf else None)
                for name, e in config.embodiments.items()
            },
        )
        _check(config, file, sources_present)
        object.__setattr__(config, "measuring", measuring_of(load_file(file, cls, expand=False), config.embodiments))
        root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        written = json.dumps(_written(root), sort_keys=True)
        object.__setattr__(config, "config_hash", xxhash.xxh3_128_hexdigest(written.encode()))
        object.__setattr__(config, "file", str(file.resolve()))
        return config


def _written(node: yaml.Node | None) -> object:
    """A YAML node as the file states it: no value is made of a text, so that none is refused or read differently."""
    if isinstance(node, yaml.MappingNode):
        return {key.value: _written(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_written(item) for item in node.value]
    return [node.tag, node.value] if isinstance(node, yaml.ScalarNode) else None


def _check(config: PipelineConfig, file: Path, sources_present: bool) -> None:
    lines = _lines(file)
    names: set[str] = set()
    if not config.sources:
        raise ConfigError(f"{file}:{lines['sources']}: `sources` is empty; name at least one")
    for index, source in enumerate(config.sources):
        where = f"{file}:{lines[f'sources[{index}]']}: source {source.name!r}"
        if source.name in names:
            raise ConfigError(f"{where}: the name is used twice; a name is a partition of the output")
        names.add(source.name)
        if source.embodiment and source.embodiment not in config.embodiments:
            raise ConfigError(
                f"{where}: embodiment {source.embodiment!r} is not declared"
                f"{nearest(source.embodiment, config.embodiments)}"
            )
        found = expand(source)
        if not sources_present:
            continue
        lack = rlds_tensorflow.missing() if source.reader == "tensorflow" else ""
        if lack:
            raise ConfigError(
                f"{where}: `reader: tensorflow`: {lack}, or leave `reader` out: the recordings are the same"
            )
        if not found:
            what = "no file matches the glob" if any(c in source.path for c in "*?[") else "there is nothing at"
            raise ConfigError(f"{where}: {what} {source.path}; correct `path`")
        if all(p.is_dir() and not any(p.iterdir()) for p in found):
            raise ConfigError(f"{where}: the folder {source.path} is empty; correct `path` or remove the source")
    for name in config.gates.sources:
        if name not in names:
            raise ConfigError(
                f"{file}:{lines['gates']}: gates.sources: no source is named {name!r}{nearest(name, names)}"
            )
    named = [("rules", check) for check in config.select.rules] + [("quality_check", config.select.quality_check)]
    for key, check in named:
        if check not in CHECKS:
            raise ConfigError(f"{file}:{lines['select']}: select.{key}: no check is named {check!r}{_near(check)}")
    limits = config.episode_boundary.velocity_limits
    bare = {name: len(e.joints.names) for name, e in config.embodiments.items() if e.joints and e.urdf is None}
    if limits and len(limits) not in bare.values():
        has = ", ".join(f"{name} has {count}" for name, count in sorted(bare.items())) or "there is none"
        raise ConfigError(
            f"{file}:{lines['episode_boundary']}: episode_boundary.velocity_limits are {len(limits)}; they serve "
            f"embodiments of as many joints without a urdf, of which {has}: give one limit a joint, or leave them out"
        )
    for name, embodiment in config.embodiments.items() if sources_present else ():
        where = f"{file}:{lines[f'embodiments.{name}']}: embodiment {name!r}"
        _check_urdf(embodiment, where)


def _near(check: str) -> str:
    close = sorted(name for name in CHECKS if name.startswith(check)) or difflib.get_close_matches(check, CHECKS, n=1)
    return f"; did you mean {close[0]!r}?" if close else "; docs/findings.md lists them all"


def _check_urdf(embodiment: Embodiment, where: str) -> None:
    if embodiment.urdf is None:
        return
    try:
        limits = load_limits(embodiment.urdf)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error
    for joint in embodiment.joints.names if embodiment.joints else ():
        if joint not in limits.names:
            raise ConfigError(f"{where}: joint {joint!r} is not in {embodiment.urdf}{nearest(joint, limits.names)}")


def _lines(file: Path) -> dict[str, int]:
    """The line of each source and embodiment, for messages."""
    root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    lines: dict[str, int] = {}
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        lines[key.value] = key.start_mark.line + 1
        if key.value == "sources":
            lines |= {f"sources[{i}]": child.start_mark.line + 1 for i, child in enumerate(value.value)}
        elif key.value == "embodiments":
            lines |= {f"embodiments.{k.value}": k.start_mark.line + 1 for k, _ in value.value}
    return lines
