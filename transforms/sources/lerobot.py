"""LeRobot v2.0, v2.1 and v3.0, and GR00T's flavour of them: a folder with meta/info.json.

Rows are Arrow slices of Parquet row groups. Where metadata and files disagree, the files win and a finding says so.
Layout: https://huggingface.co/docs/lerobot/lerobot-dataset-v3 and NVIDIA/Isaac-GR00T's data preparation guide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from transforms.conventions import Embodiment, Source
from transforms.episode import STEPS, VIDEO_STREAM, Finding, ImageRef, Recording, RecordingRef, VideoRef
from transforms.schema import FRAME_INDEX
from transforms.sources.lerobot_columns import clock_findings, frame_findings, merged, shaped, succeeded, with_clock
from transforms.sources.lerobot_episodes import Listed, Place
from transforms.sources.lerobot_images import image_camera, read_images
from transforms.sources.lerobot_layout import Layout, layout_of
from transforms.sources.lerobot_meta import Dataset, Info, load_dataset
from transforms.sources.lerobot_plan import FORMAT, finding, plan
from transforms.sources.lerobot_tables import EPISODE, OpenTable, open_table, slices
from transforms.sources.lerobot_tasks import instructions
from transforms.sources.lerobot_videos import camera_of
from transforms.stores.paths import located
from transforms.unreadable import Unreadable

__all__ = ["detect", "plan", "read", "read_images"]
PLACE = msgspec.json.Decoder(Place)


def detect(path: Path) -> bool:
    """Whether a path is a LeRobot data set's folder."""
    return (path / "meta" / "info.json").is_file()


def episode_rows(table: OpenTable, listed: Listed, info: Info) -> tuple[list[tuple[int, int]], list[Finding]]:
    """Row ranges of an episode by the file's own episode_index; what the metadata says otherwise is a finding."""
    episode = listed.episode
    if table.rows == 0 or listed.length == 0:
        raise Unreadable("empty", f"{table.key[0]}: episode {episode} has no rows; take it out of the data set")
    found: list[Finding] = []
    if table.runs is None and EPISODE not in info.features:
        found.append(finding("metadata.feature_absent", 1, f"{EPISODE}: no such column of integers in {table.name}"))
    if info.version == 2:
        ranges = [(0, table.rows)]
        others = table.rows - sum(stop - start for start, stop in table.find(episode)) if table.runs else 0
        if others:
            text = f"{others} of {table.rows} rows of {table.name} carry another {EPISODE} than {episode}"
            found.append(finding("metadata.episode_index", others, text, "rows"))
        return ranges, found
    ranges = table.find(episode)
    declared = (listed.row_start, listed.row_start + (listed.length or 0)) if listed.row_start is not None else None
    if not ranges:
        if declared is None or not listed.length or declared[1] > table.rows:
            raise Unreadable(
                "absent", f"{table.key[0]}: no rows of episode {episode}; correct the metadata or the file"
            )
        if table.runs is not None:
            text = f"rows {declared[0]} to {declared[1] - 1} of {table.name} carry another {EPISODE} than {episode}"
            found.append(finding("metadata.episode_index", listed.length, text, "rows"))
        return [declared], found
    if len(ranges) > 1:
        text = f"rows of episode {episode} lie in {len(ranges)} places of {table.name}"
        found.append(finding("metadata.episode_index", len(ranges), text))
    if declared is not None and declared[0] != ranges[0][0]:
        text = f"dataset_from_index puts it at row {declared[0]} of {table.name}; it is at row {ranges[0][0]}"
        found.append(finding("metadata.dataset_index", ranges[0][0] - declared[0], text, "rows"))
    return ranges, found


def length_findings(batch: pa.RecordBatch, layout: Layout, listed: Listed) -> list[Finding]:
    """Rows against the listed length, and the `index` column against dataset_from_index."""
    found = []
    if listed.length is not None and batch.num_rows != listed.length:
        text = f"episode {listed.episode}: {batch.num_rows} rows, {listed.length} listed"
        found.append(finding("metadata.length", batch.num_rows - listed.length, text, "rows"))
    if listed.first_index is not None and layout.index is not None:
        first = batch.column(layout.index)[0].as_py()
        if first is not None and first != listed.first_index:
            text = f"index starts at {first}; dataset_from_index is {listed.first_index}"
            found.append(finding("metadata.dataset_index", first - listed.first_index, text))
    return found


def attributes_of(dataset: Dataset, listed: Listed, others: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """The data set's own words about the episode, each value as JSON."""
    own = {EPISODE: listed.episode, "tasks": listed.tasks, **others}
    return {**dataset.attributes, **{name: msgspec.json.encode(value).decode() for name, value in own.items()}}


def known_layout(table: OpenTable, batch: pa.RecordBatch, dataset: Dataset) -> Layout:
    """The layout of a file's shaped rows, from those worked out for it before."""
    schema = batch.schema
    layouts: list[Layout] = table.layouts
    for layout in layouts:
        if layout.dataset is dataset and layout.schema.equals(schema):
            return layout
    layouts.append(layout_of(schema, table.schema, dataset))
    return layouts[-1]


def steps_of(batch: pa.RecordBatch, layout: Layout, embodiment: Embodiment) -> tuple[pa.RecordBatch, list[Finding]]:
    """The stream `steps` of one episode's shaped rows; clock and frame_index are made where none is stored."""
    steps = batch.select(layout.steps)
    fps = layout.dataset.info.fps
    if layout.clock:
        found = clock_findings(steps.column(0), fps)
    else:
        steps, absent = with_clock(steps, embodiment.rate_hz or fps)
        found = [absent]
    if layout.frames:
        return steps, found + frame_findings(steps.column(1))
    return steps.add_column(1, FRAME_INDEX, pa.array(np.arange(len(steps), dtype=np.int64))), found


@dataclass
class Views:
    """Cameras of one episode as they are found."""

    videos: dict[str, VideoRef | ImageRef] = field(default_factory=dict)
    streams: dict[str, pa.RecordBatch] = field(default_factory=dict)
    features: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def cameras_of(
    dataset: Dataset, table: OpenTable, listed: Listed, ranges: Sequence[tuple[int, int]], steps: pa.RecordBatch
) -> Views:
    """Every declared camera, of videos and of images; the first frame belongs to the first row's time."""
    views = Views()
    if not dataset.pictures:
        return views
    root = located(dataset.root)
    stored = steps.column(0).drop_null()
    origin_ns = int(stored[0].as_py()) if len(stored) else 0
    for feature in dataset.cameras:
        camera = camera_of(root, dataset.info, feature, listed, steps.num_rows, origin_ns)
        views.findings += camera.findings
        if camera.ref is not None and camera.frames is not None:
            views.videos[camera.name] = camera.ref
            views.streams[VIDEO_STREAM + camera.name] = camera.frames
            views.features.append(feature)
    for feature in dataset.image_cameras:
        name, images, about = image_camera(root, table, feature, ranges)
        views.findings += about
        if images is not None:
            views.videos[name] = images
            views.features.append(feature)
    return views


def check_required(source: Source, place: str, present: set[str]) -> None:
    """Raise Unreadable where a column or camera that the source requires is not there."""
    for name in source.required:
        if name not in present:
            raise Unreadable(
                "required_missing",
                f"{place}: required column {name!r} is absent; present: {', '.join(sorted(present))}; "
                "correct `required` or the data",
            )


def read(ref: RecordingRef, source: Source, embodiment: Embodiment) -> Recording:
    """One planned episode; raises Unreadable where its rows cannot be read or lack a required column."""
    place = PLACE.decode(ref.place)
    listed = place.listed
    dataset = load_dataset(ref.uri.removesuffix("/" + listed.data), place.digest)
    table = open_table(ref.uri)
    ranges, found = episode_rows(table, listed, dataset.info)
    columns = [name for name in table.names if name not in dataset.pictures] if dataset.pictures else table.names
    parts = [part for start, stop in ranges for part in slices(table, start, stop, columns, shaped)]
    batch = parts[0]
    layout = known_layout(table, batch, dataset)
    if len(parts) > 1 or layout.lists:
        batch = merged(parts, ref.recording_id)
        layout = known_layout(table, batch, dataset)
    steps, about_steps = steps_of(batch, layout, embodiment)
    found += [*length_findings(batch, layout, listed), *about_steps, *layout.findings]
    utterances, others, about_tasks = instructions(batch, layout.tasks, dataset.tasks, listed.tasks)
    found += about_tasks
    views = cameras_of(dataset, table, listed, ranges, steps)
    present = {*steps.schema.names, *columns, *views.features} if source.required else set()
    check_required(source, ref.recording_id, present)
    return Recording(
        recording_id=ref.recording_id,
        source=ref.source,
        embodiment=source.embodiment,
        uri=ref.uri,
        format=FORMAT,
        streams={STEPS: steps, **views.streams},
        videos=views.videos,
        utterances=utterances,
        attributes=attributes_of(dataset, listed, others),
        success=None if layout.success is None else succeeded(batch.column(layout.success)),
        findings=(*ref.findings, *found, *views.findings),
    )
