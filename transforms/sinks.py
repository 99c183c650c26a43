"""Writes kept episodes' steps: one schema over all sources, one episode in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import apache_beam as beam

from transforms.episode import VideoRef
from transforms.file_hash import file_hash
from transforms.output_files import (
    INCOMPLETE,
    OUT,
    TRANSITIONS,
    VIDEOS,
    PartReport,
    VideoFile,
    part_path,
    video_name,
)
from transforms.output_schema import AgreedSchema, arrow_schema
from transforms.part_members import PlannedPart, planned_runs
from transforms.part_writer import SinkParams, open_part, put_in_place, temporary_file
from transforms.published_rows import published_rows
from transforms.staging import load_episode, staged_path
from transforms.stores.paths import ObjectPath, copy_file, located
from transforms.transition_rows import ReadImages, incomplete_batches, transition_batches

__all__ = ["FILES", "TRANSITIONS", "SinkParams", "WriteKept", "WriteVideos"]

FILES, _SHOWN = "files", "videos"


class _WritePart(beam.DoFn):
    def __init__(
        self, staging: str, published: str, params: SinkParams, agreed: AgreedSchema, read_images: ReadImages
    ) -> None:
        self._staging = staging
        self._published = published
        self._params = params
        self._agreed = agreed
        self._read_images = read_images

    def process(self, element: PlannedPart) -> Iterator[PartReport | beam.pvalue.TaggedOutput]:
        if element.stays is not None:
            yield beam.pvalue.TaggedOutput(TRANSITIONS, element.stays)
            return
        staging, params, source = Path(self._staging), self._params, element.source
        steps = arrow_schema(self._agreed)
        paths = [part_path(table, source, element.index, params.extension) for table in (TRANSITIONS, INCOMPLETE)]
        shown: set[VideoFile] = set()
        with (
            open_part(staging, paths[0], steps, params, source) as (step_writer, step_reports),
            open_part(staging, paths[1], steps, params, source) as (rest_writer, rest_reports),
        ):
            for part, ids in planned_runs(staging, element):
                if part:
                    for table, writer in ((TRANSITIONS, step_writer), (INCOMPLETE, rest_writer)):
                        for batch in published_rows(Path(self._published) / table / part, ids, steps):
                            writer.write(batch)
                    continue
                for episode_id in ids:
                    episode = load_episode(staging, staged_path(episode_id))
                    for batch in transition_batches(episode, steps, self._read_images):
                        step_writer.write(batch)
                    for batch in incomplete_batches(episode, steps, self._read_images):
                        rest_writer.write(batch)
                    shown |= {
                        VideoFile(video_name(ref.content_hash, ref.uri), ref.uri)
                        for ref in episode.videos.values()
                        if isinstance(ref, VideoRef)
                    }
        yield from step_reports + rest_reports
        for report in step_reports:
            yield beam.pvalue.TaggedOutput(TRANSITIONS, report)
        for video in sorted(shown, key=lambda v: (v.name, v.uri)):
            yield beam.pvalue.TaggedOutput(_SHOWN, video)


def copy_video(staging: Path, name: str, uri: str) -> PartReport:
    """Copy a whole video under its content hash; raises ValueError where it changed since it was read."""
    temporary = temporary_file(staging)
    try:
        copy_file(uri, temporary)
        written, expected = file_hash(temporary), name.partition(".")[0]
        source = located(uri)
        found = source.checksum() if isinstance(source, ObjectPath) else written
        if found != expected:
            raise ValueError(f"{uri}: content hash is {found}, was {expected} when read; the file changed, run again")
        report = PartReport(f"{VIDEOS}/{name}", 0, temporary.stat().st_size, written)
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
    """Parts -> FILES: reports of every file that is written; TRANSITIONS: reports of every part's, also if it stays.

    Written are transitions, incomplete steps, and the videos that staged episodes show. `published` is the folder whose
    parts hold the steps of members that are not staged.
    """

    def __init__(
        self, staging: str, published: str, params: SinkParams, agreed: AgreedSchema, read_images: ReadImages
    ) -> None:
        super().__init__()
        self._staging = staging
        self._write = _WritePart(staging, published, params, agreed, read_images)

    def expand(self, parts: beam.PCollection[PlannedPart]) -> dict[str, beam.PCollection[PartReport]]:
        written = parts | "StreamEpisodes" >> beam.ParDo(self._write).with_outputs(_SHOWN, TRANSITIONS, main=FILES)
        reports, videos, transitions = written[FILES], written[_SHOWN], written[TRANSITIONS]
        reports.element_type, videos.element_type, transitions.element_type = PartReport, VideoFile, PartReport
        copied = videos | "CopyVideos" >> WriteVideos(self._staging)
        return {FILES: (reports, copied) | "CollectReports" >> beam.Flatten(), TRANSITIONS: transitions}
