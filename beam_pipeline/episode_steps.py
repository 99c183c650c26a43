"""The steps of any row of the ledger: published where it was kept, else read again from its source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from beam_pipeline.config import PipelineConfig
from beam_pipeline.curated import CuratedSet
from beam_pipeline.explanation import Explanation
from beam_pipeline.typed_yaml import ConfigError
from transforms.episode import IMAGES, STEPS, TIMESTAMP
from transforms.loader import ReadRecording, plan
from transforms.source_paths import expand
from transforms.stage import DeadLetter, EpisodeStage, attempt
from transforms.temporal_alignment import TemporalAlignmentStage


class NoSteps(Exception):
    """The steps cannot be shown; the message says why."""


@dataclass(frozen=True)
class Steps:
    """Steps (T rows) on one clock, and where they come from, for people."""

    table: pa.Table
    origin: str


def steps_of(published: CuratedSet, told: Explanation, config: Path | None) -> Steps:
    """The steps of an explained episode; `config` names the sources. Raises NoSteps."""
    name = told.row["episode_id"]
    if told.row["outcome"] == "kept":
        for episode in published.episodes_of([name]):
            plain = [c for c in published.step_columns(episode) if not c.startswith((IMAGES, "next."))]
            return Steps(published.steps(episode, plain), "published")
    return Steps(_read(told, config), "read again from its source")


def _read(told: Explanation, file: Path | None) -> pa.Table:
    if file is None:
        raise NoSteps("no configuration is known that names its source; give --config")
    try:
        config = PipelineConfig.load(file, sources_present=False)
    except ConfigError as error:
        raise NoSteps(f"its configuration cannot be read: {error}") from error
    source = next((s for s in config.sources if s.name == told.row["source"]), None)
    if source is None:
        raise NoSteps(f"{file} names no source {told.row['source']!r}; give --config")
    if not expand(source):
        raise NoSteps(f"source {source.name!r} is gone, there is nothing at {source.path}")
    ref = next((ref for ref in plan(source) if ref.recording_id == told.recording_id), None)
    if ref is None:
        raise NoSteps(f"source {source.name!r} does not have the recording {told.recording_id!r} any more")
    found: Any = ref
    reader = ReadRecording({source.name: source}, config.embodiments, config.media)
    for stage in (reader, TemporalAlignmentStage(config.temporal_alignment)):
        (found,) = _through(stage, found)
    steps = pa.Table.from_batches([found.streams[STEPS]])
    return steps if not told.row["parent_id"] else _part(steps, told)


def _part(steps: pa.Table, told: Explanation) -> pa.Table:
    """The steps of a recording that one of its parts has, by time."""
    start, end = told.row["start_ns"], told.row["end_ns"]
    if start is None or end is None:
        raise NoSteps(f"this part of {told.recording_id!r} has no times to find it by")
    return steps.filter((pc.field(TIMESTAMP) >= start) & (pc.field(TIMESTAMP) <= end))


def _through(stage: EpisodeStage, element: Any) -> Iterator[Any]:
    stage.setup()
    try:
        results = attempt(stage, element)
    finally:
        stage.teardown()
    if isinstance(results, DeadLetter):
        raise NoSteps(f"it cannot be read: {results.rule}: {results.detail}")
    yield from results
