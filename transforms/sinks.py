"""Writes kept episodes: parts by bytes, one schema over all sources, one episode in memory at a time."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import apache_beam as beam

from transforms.episode import VideoRef
from transforms.episode_rows import episode_batch, episodes_schema
from transforms.evidence import Decision
from transforms.output_files import (
    EPISODES,
    INCOMPLETE,
    OUT,
    TRANSITIONS,
    VIDEOS,
    Part,
    PartReport,
    VideoFile,
    part_path,
    video_name,
)
from transforms.output_schema import AgreedSchema, AgreeOnSchema, arrow_schema
from transforms.part_writer import SinkParams, file_hash, open_part, put_in_place, temporary_file
from transforms.partition import PartitionBySortedId, PlaceOf, from_part_key
from transforms.staging import load_episode
from transforms.transition_rows import ReadImages, incomplete_batches, transition_batches

__all__ = ["AgreeSchema", "AssignParts", "SinkParams", "WriteKept", "WriteParts", "WriteVideos"]

_FILES, _SHOWN = "files", "videos"


def _source(decision: Decision) -> str:
    return decision.evidence.source


def _episode_id(decision: Decision) -> str:
    return decision.evidence.episode_id


def _bytes(decision: Decision) -> int:
    return decision.evidence.n_bytes


class AssignParts(beam.PTransform):
    """Kept decisions -> parts of at most `part_target_mb`, cut along sorted (source, episode_id)."""

    def __init__(self, params: SinkParams) -> None:
        super().__init__()
        self._limit = params.part_target_mb * 2**20

    def expand(self, kept: beam.PCollection[Decision]) -> beam.PCollection[Part]:
        place = PlaceOf(_source, _episode_id, _bytes)
        grouped = kept | "PartitionEpisodes" >> PartitionBySortedId(place, self._limit, Decision)
        return grouped | "MakeParts" >> beam.MapTuple(_part).with_output_types(Part)


def _part(key: str, decisions: Iterable[Decision]) -> Part:
    source, index = from_part_key(key)
    return Part(source, index, tuple(sorted(decisions, key=_episode_id)))


class AgreeSchema(beam.PTransform):
    """Kept decisions -> the one schema of all files; raises where two sources cannot share a column."""

    def expand(self, kept: beam.PCollection[Decision]) -> beam.PCollection[AgreedSchema]:
        return kept | "JoinColumns" >> beam.CombineGlobally(AgreeOnSchema()).with_output_types(AgreedSchema)


class _WritePart(beam.DoFn):
    def __init__(self, staging: str, params: SinkParams, roots: Mapping[str, str], read_images: ReadImages) -> None:
        self._staging = staging
        self._params = params
        self._roots = roots
        self._read_images = read_images

    def process(self, element: Part, agreed: AgreedSchema) -> Iterator[PartReport | beam.pvalue.TaggedOutput]:
        staging, params, source = Path(self._staging), self._params, element.source
        steps, rows = arrow_schema(agreed), episodes_schema(agreed.checks)
        paths = [part_path(t, source, element.index, params.extension) for t in (TRANSITIONS, INCOMPLETE, EPISODES)]
        shown: set[VideoFile] = set()
        with (
            open_part(staging, paths[0], steps, params, source) as (step_writer, step_reports),
            open_part(staging, paths[1], steps, params, source) as (rest_writer, rest_reports),
            open_part(staging, paths[2], rows, params, source) as (row_writer, row_reports),
        ):
            for decision in element.episodes:
                episode = load_episode(staging, decision.evidence.staged)
                for batch in transition_batches(episode, steps, self._read_images):
                    step_writer.write(batch)
                for batch in incomplete_batches(episode, steps, self._read_images):
                    rest_writer.write(batch)
                row_writer.write(episode_batch(episode, decision, rows, self._roots.get(source, "")))
                shown |= {
                    VideoFile(video_name(ref.content_hash, ref.uri), ref.uri)
                    for ref in episode.videos.values()
                    if isinstance(ref, VideoRef)
                }
        yield from step_reports + rest_reports + row_reports
        for video in sorted(shown, key=lambda v: (v.name, v.uri)):
            yield beam.pvalue.TaggedOutput(_SHOWN, video)


class WriteParts(beam.PTransform):
    """Parts -> transitions and episodes files; (reports, videos that the parts show)."""

    def __init__(
        self,
        staging: str,
        params: SinkParams,
        roots: Mapping[str, str],
        read_images: ReadImages,
        agreed: beam.PCollection[AgreedSchema],
    ) -> None:
        super().__init__()
        self._write = _WritePart(staging, params, roots, read_images)
        self._agreed = agreed

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in self.__dict__.items() if k != "_agreed"}

    def expand(self, parts: beam.PCollection[Part]) -> tuple[beam.PCollection[PartReport], beam.PCollection[VideoFile]]:
        written = parts | "StreamEpisodes" >> beam.ParDo(
            self._write, beam.pvalue.AsSingleton(self._agreed)
        ).with_outputs(_SHOWN, main=_FILES)
        reports, videos = written[_FILES], written[_SHOWN]
        reports.element_type, videos.element_type = PartReport, VideoFile
        return reports, videos


def copy_video(staging: Path, name: str, uri: str) -> PartReport:
    """Copy a whole video under its content hash; raises ValueError where it changed since it was read."""
    temporary = temporary_file(staging)
    try:
        shutil.copyfile(uri, temporary)
        found, expected = file_hash(temporary), name.partition(".")[0]
        if found != expected:
            raise ValueError(f"{uri}: content hash is {found}, was {expected} when read; the file changed, run again")
        report = PartReport(f"{VIDEOS}/{name}", 0, temporary.stat().st_size, found)
        put_in_place(temporary, staging / OUT / VIDEOS / name)
        return report
    finally:
        temporary.unlink(missing_ok=True)


class WriteVideos(beam.PTransform):
    """Videos that kept episodes show -> whole files, each content once however many episodes share it."""

    def __init__(self, staging: str) -> None:
        super().__init__()
        self._staging = staging

    def expand(self, videos: beam.PCollection[VideoFile]) -> beam.PCollection[PartReport]:
        return (
            videos
            | "KeyByContent" >> beam.Map(_by_name).with_output_types(beam.typehints.KV[str, str])
            | "GroupByContent" >> beam.GroupByKey()
            | "CopyOnce" >> beam.MapTuple(_CopyOnce(self._staging)).with_output_types(PartReport)
        )


def _by_name(video: VideoFile) -> tuple[str, str]:
    return video.name, video.uri


class _CopyOnce:
    def __init__(self, staging: str) -> None:
        self._staging = staging

    def __call__(self, name: str, uris: Iterable[str]) -> PartReport:
        return copy_video(Path(self._staging), name, min(uris))


class WriteKept(beam.PTransform):
    """Kept decisions -> reports of every transitions, episodes and video file."""

    def __init__(self, staging: str, params: SinkParams, roots: Mapping[str, str], read_images: ReadImages) -> None:
        super().__init__()
        self._staging = staging
        self._params = params
        self._roots = roots
        self._read_images = read_images

    def expand(self, kept: beam.PCollection[Decision]) -> beam.PCollection[PartReport]:
        agreed = kept | "AgreeOnSchema" >> AgreeSchema()
        parts = kept | "AssignParts" >> AssignParts(self._params)
        write = WriteParts(self._staging, self._params, self._roots, self._read_images, agreed)
        reports, videos = parts | "WriteParts" >> write
        copied = videos | "CopyVideos" >> WriteVideos(self._staging)
        return (reports, copied) | "CollectReports" >> beam.Flatten()
