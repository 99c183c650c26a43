"""Reads again what is newly kept: the recordings of some episodes, as far as their steps and instructions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
from apache_beam.transforms.error_handling import CollectingErrorHandler

from beam_pipeline.config import PipelineConfig
from transforms.coders import from_json
from transforms.deciding import Wanted
from transforms.episode import Episode
from transforms.episode_boundary import EpisodeBoundaryDetector
from transforms.instruction_grounding import InstructionGroundingStage
from transforms.loader import MultimodalLoader
from transforms.reports import WriteReports
from transforms.source_paths import expand
from transforms.stage import DeadLetter, EpisodeStage
from transforms.staging import StagedEpisode, StageEpisode
from transforms.temporal_alignment import TemporalAlignmentStage
from transforms.transition_alignment import TransitionAlignmentStage

READ, FAILED = "reports/read.json", "reports/failed.json"
_NAMED = 50


class UnreadableEpisodes(Exception):
    """Newly kept episodes whose steps cannot be read again; nothing was published."""


class ReadAgain:
    """The graph: recordings of the wanted episodes in, staged episodes out; nothing is measured again."""

    def __init__(self, config: PipelineConfig, wanted: Sequence[Wanted], staging: Path) -> None:
        named = {one.source for one in wanted}
        self._config = replace(config, sources=tuple(s for s in config.sources if s.name in named))
        self._recordings = frozenset(one.recording_id for one in wanted)
        self._episodes = frozenset(one.episode_id for one in wanted)
        self._staging = str(staging)

    def __call__(self, pipeline: beam.Pipeline) -> None:
        config = self._config
        load = MultimodalLoader(config.sources, config.embodiments, config.media, only=self._recordings)
        with CollectingErrorHandler() as dead:

            def guarded(stage: EpisodeStage) -> EpisodeStage:
                return stage.with_error_handler(dead)

            cut = (
                pipeline
                | "Load recordings" >> load.with_error_handler(dead)
                | "Align in time" >> guarded(TemporalAlignmentStage(config.temporal_alignment))
                | "Cut into episodes" >> guarded(EpisodeBoundaryDetector(config.episode_boundary))
            )
            staged = (
                cut["episodes"]
                | "Take the wanted" >> beam.Filter(_is_wanted, self._episodes).with_output_types(Episode)
                | "Lay out transitions" >> guarded(TransitionAlignmentStage(config.transition_alignment))
                | "Ground instructions" >> guarded(InstructionGroundingStage(config.instruction_grounding))
                | "Stage episodes" >> guarded(StageEpisode(self._staging, config.fingerprint))
            )
        read = staged | "Name them" >> beam.Map(StagedEpisode.of).with_output_types(StagedEpisode)
        _ = read | "Report episodes" >> WriteReports(self._staging, READ)
        _ = dead.output() | "Report failures" >> WriteReports(self._staging, FAILED)


def _is_wanted(episode: Episode, wanted: frozenset[str]) -> bool:
    return episode.episode_id in wanted


def check_read(config: PipelineConfig, wanted: Sequence[Wanted], staging: Path) -> None:
    """Raises UnreadableEpisodes with a line for each episode that did not come back as it was measured."""
    lines = (staging / READ).read_bytes().splitlines()
    read = {one.episode_id: one.content_id for one in (from_json(line, StagedEpisode) for line in lines)}
    letters = [from_json(line, DeadLetter) for line in (staging / FAILED).read_bytes().splitlines()]
    reasons = {letter.episode_id: f"{letter.rule}: {letter.detail}" for letter in letters}
    reasons |= {
        s.name: f"source {s.name!r} is gone, there is nothing at {s.path}" for s in config.sources if not expand(s)
    }
    found = [line for one in wanted for line in _problem(one, read, reasons)]
    if found:
        more = f"\n  and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        named = "".join(f"\n  {line}" for line in found[:_NAMED])
        raise UnreadableEpisodes(
            f"{len(found)} of {len(wanted)} newly kept episodes cannot be read again:{named}{more}\n"
            "bring them back, or reject them by verdicts.csv or the rules"
        )


def _problem(one: Wanted, read: Mapping[str, str], reasons: Mapping[str, str]) -> list[str]:
    found = read.get(one.episode_id)
    if found == one.content_id:
        return []
    if found is not None:
        return [f"{one.episode_id}: its content changed since it was measured; run `evidence --source {one.source}`"]
    known = (reasons.get(key) for key in (one.episode_id, one.recording_id, one.source))
    reason = next((text for text in known if text), f"source {one.source!r} does not have it any more")
    return [f"{one.episode_id}: {reason}"]
