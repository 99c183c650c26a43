"""What the parts of the last published run still hold, so that deciding anew reads only what is newly kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from beam_pipeline.curated import CuratedSet
from beam_pipeline.output_folder import Output
from transforms.coders import to_json
from transforms.output_files import EPISODES, INCOMPLETE, OUT, TRANSITIONS, VIDEOS, Member, Part, PartReport, part_path
from transforms.part_writer import SinkParams
from transforms.published_rows import can_carry, read_schema

_TABLES = (TRANSITIONS, INCOMPLETE)


@dataclass(frozen=True)
class Carried:
    """Published episodes whose steps can be written again under the agreed schema, and whole parts that can stay.

    `contents` are id -> (content id, part), `members` part -> its ids in order, `files` path -> report. A part is named
    below its table: `source=kitchen/part-00000.parquet`.
    """

    folder: Path
    contents: Mapping[str, tuple[str, str]]
    members: Mapping[str, tuple[str, ...]]
    files: Mapping[str, PartReport]
    same_writer: bool
    schemas: Mapping[str, pa.Schema]

    def part_of(self, episode_id: str, content_id: str, videos: Sequence[str]) -> str:
        """The part that holds these steps, empty where none does: unpublished, changed since, or without its videos."""
        held, part = self.contents.get(episode_id, ("", ""))
        return part if held == content_id and all(video in self.files for video in videos) else ""

    def whole(self, part: Part, schema: pa.Schema) -> str:
        """The published part that is this one as it would be written now; empty where there is none."""
        name = part.members[0].part
        same = self.same_writer and name and self.members[name] == tuple(m.episode_id for m in part.members)
        return name if same and self.schemas[name].equals(schema, check_metadata=True) else ""


NOTHING = Carried(Path(), {}, {}, {}, False, {})
"""Where nothing was published, or all is measured anew."""


def sink_text(params: SinkParams) -> str:
    """What of a sink's parameters shows in the bytes of a part."""
    return to_json(replace(params, part_target_mb=1.0, ledger_part_rows=1)).decode()


def carried(output: Output, params: SinkParams, schema: pa.Schema, version: str) -> Carried:
    """What can be taken from the last published run for parts of this schema."""
    if output.previous is None:
        return NOTHING
    published = CuratedSet(output.path)
    contents: dict[str, tuple[str, str]] = {}
    members: dict[str, tuple[str, ...]] = {}
    schemas: dict[str, pa.Schema] = {}
    files = {file.path: file for file in published.manifest.files if (output.path / file.path).exists()}
    for path in (Path(p) for p in sorted(files) if p.startswith(f"{EPISODES}/")):
        part = f"{path.parent.name}/{path.name}"
        if path.suffix != f".{params.extension}" or not all(f"{table}/{part}" in files for table in _TABLES):
            continue
        schemas[part] = read_schema(output.path / TRANSITIONS / part)
        if can_carry(schemas[part], schema):
            ids, held = published.ids(output.path / path)
            members[part] = tuple(ids)
            contents |= {name: (content, part) for name, content in zip(ids, held, strict=True)}
    same = output.previous.sink == sink_text(params) and output.previous.code_version == version
    return Carried(output.path, contents, members, files, same, schemas)


def keep_part(held: Carried, staging: Path, name: str, part: Part, params: SinkParams) -> list[PartReport]:
    """Reports of a published part under the name that it has now; where the names differ it is linked, or copied."""
    reports = []
    for table in _TABLES:
        old = held.files[f"{table}/{name}"]
        path = part_path(table, part.source, part.index, params.extension)
        if path != old.path:
            staged = staging / OUT / path
            staged.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(held.folder / old.path, staged)
            except OSError:  # a file system without links
                shutil.copyfile(held.folder / old.path, staged)
        reports.append(replace(old, path=path))
    return reports


def kept_videos(held: Carried, shown: Sequence[str]) -> list[PartReport]:
    """Reports of the published videos among those that kept episodes show."""
    return [held.files[video] for video in sorted(set(shown)) if video in held.files and video.startswith(f"{VIDEOS}/")]


def place_members(ids: Sequence[str], parts: Mapping[str, str]) -> tuple[Member, ...]:
    """Members of a part, each with the published part that holds its steps."""
    return tuple(Member(name, parts.get(name, "")) for name in ids)
