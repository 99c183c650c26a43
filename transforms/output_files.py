"""What the sinks pass on and leave behind: parts to write, videos to copy, reports of files, counts of outcomes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

import apache_beam as beam

from transforms.coders import ArrowCoder
from transforms.conventions import Source
from transforms.evidence import Outcome
from transforms.source_paths import split_pattern

OUT = "out"
"""Folder of the staging area that holds finished files, laid out as the output will be."""
EPISODES, TRANSITIONS, LEDGER, EVIDENCE, VIDEOS = "episodes", "transitions", "ledger", "evidence", "videos"
INCOMPLETE = "incomplete"
"""Table of the steps that begin no transition: with the transitions, every step of the kept episodes."""
CLUSTERS = "clusters"
"""Table of verified duplicates, an edge a row, over all sources."""
STATISTICS = "statistics.json"
"""Statistics of every numeric column of the transitions."""


@dataclass(frozen=True)
class Member:
    """A kept episode and where its steps are: in the staging area, or in published parts named as `part` is."""

    episode_id: str
    part: str = ""


@dataclass(frozen=True)
class Part:
    """One output file's worth of kept episodes of one source, sorted by id."""

    source: str
    index: int
    members: tuple[Member, ...]


@dataclass(frozen=True)
class VideoFile:
    """A video that some kept episode shows: `name` is its content hash and extension."""

    name: str
    uri: str


@dataclass(frozen=True)
class PartReport:
    """One finished file: `path` relative to the output folder, `hash` xxh3-128 of its bytes; no source for videos."""

    path: str
    rows: int
    bytes: int
    hash: str
    source: str = ""


@dataclass(frozen=True)
class OutcomeCount:
    """How many ledger rows of a source left at a stage with an outcome by a rule; a `child` was cut out."""

    source: str
    outcome: Outcome
    stage: str
    rule: str
    child: bool
    count: int


class VideoFileCoder(ArrowCoder):
    """Coder of videos to copy."""

    kind = VideoFile


class PartReportCoder(ArrowCoder):
    """Coder of file reports."""

    kind = PartReport


class OutcomeCountCoder(ArrowCoder):
    """Coder of outcome counts."""

    kind = OutcomeCount


for _coder in (VideoFileCoder, PartReportCoder, OutcomeCountCoder):
    beam.coders.registry.register_coder(_coder.kind, _coder)


def part_path(table: str, source: str, index: int, extension: str) -> str:
    """A part's place in the output; the source is percent-encoded, as every reader of hive partitions expects."""
    return f"{table}/source={quote(source, safe='')}/part-{index:05d}.{extension}"


def video_name(content_hash: str, uri: str) -> str:
    """A video's file name in the output; raises ValueError where its content was never hashed."""
    if not content_hash:
        raise ValueError(
            f"{uri}: the video has no content hash, so it has no place in the output; hash it when reading"
        )
    stem, dot, extension = uri.rpartition("/")[2].rpartition(".")
    return f"{content_hash}.{extension.lower()}" if stem and dot else content_hash


def source_roots(sources: tuple[Source, ...]) -> Mapping[str, str]:
    """Source name -> the folder or file that its path names, up to the first wildcard; empty for a root folder."""
    roots = {source.name: split_pattern(source.path)[0] for source in sources}
    return {name: str(root) if root.name else "" for name, root in roots.items()}


def portable(text: str, root: str) -> str:
    """A path or message without the part of its paths that only this machine knows: relative to the source's root."""
    if not root:
        return text
    inside = re.sub(rf"(?<![\w.-]){re.escape(root)}/", "", text)
    return re.sub(rf"(?<![\w.-]){re.escape(root)}(?![\w-]|\.\w)", lambda _: root.rpartition("/")[2], inside)
