"""LeRobot v2.0, v2.1 and v3.0, and GR00T's flavour of them: a folder with meta/info.json.

Rows are Arrow slices of Parquet row groups. Where metadata and files disagree, the files win and a finding says so.
Layout: https://huggingface.co/docs/lerobot/lerobot-dataset-v3 and NVIDIA/Isaac-GR00T's data preparation guide.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pyarrow as pa

from transforms.arrays import times_ns
from transforms.conventions import Embodiment, Source
from transforms.episode import STEPS, VIDEO_STREAM, Finding, ImageRef, Recording, RecordingRef, VideoRef
from transforms.schema import NEXT_REWARD, REWARD
from transforms.sources.lerobot_columns import BOOKKEEPING, feature_findings, modality_findings, steps_of, success_of
from transforms.sources.lerobot_episodes import Listed, Place
from transforms.sources.lerobot_images import image_camera, read_images
from transforms.sources.lerobot_meta import Info, load_info, load_modality, load_tasks
from transforms.sources.lerobot_plan import FORMAT, finding, plan
from transforms.sources.lerobot_tables import EPISODE, OpenTable, open_table, rows
from transforms.sources.lerobot_tasks import instructions
from transforms.sources.lerobot_videos import camera_of
from transforms.stage import Unreadable

__all__ = ["detect", "plan", "read", "read_images"]


def detect(path: Path) -> bool:
    """Whether a path is a LeRobot data set's folder."""
    return (path / "meta" / "info.json").is_file()


def episode_rows(table: OpenTable, listed: Listed, version: int) -> tuple[list[tuple[int, int]], list[Finding]]:
    """Row ranges of an episode by the file's own episode_index; what the metadata says otherwise is a finding."""
    name, episode = Path(table.key[0]).name, listed.episode
    if table.rows == 0 or listed.length == 0:
        raise Unreadable("empty", f"{table.key[0]}: episode {episode} has no rows; take it out of the data set")
    found: list[Finding] = []
    if table.runs is None:
        found.append(finding("metadata.feature_absent", 1, f"{EPISODE}: no such column of integers in {name}"))
    if version == 2:
        ranges = [(0, table.rows)]
        others = table.rows - sum(stop - start for start, stop in table.find(episode)) if table.runs else 0
        if others:
            text = f"{others} of {table.rows} rows of {name} carry another {EPISODE} than {episode}"
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
            text = f"rows {declared[0]} to {declared[1] - 1} of {name} carry another {EPISODE} than {episode}"
            found.append(finding("metadata.episode_index", listed.length, text, "rows"))
        return [declared], found
    if len(ranges) > 1:
        text = f"rows of episode {episode} lie in {len(ranges)} places of {name}"
        found.append(finding("metadata.episode_index", len(ranges), text))
    if declared is not None and declared[0] != ranges[0][0]:
        text = f"dataset_from_index puts episode {episode} at row {declared[0]} of {name}; it is at row {ranges[0][0]}"
        found.append(finding("metadata.dataset_index", ranges[0][0] - declared[0], text, "rows"))
    return ranges, found


def length_findings(batch: pa.RecordBatch, listed: Listed) -> list[Finding]:
    """Rows against the listed length, and the `index` column against dataset_from_index."""
    found = []
    if listed.length is not None and batch.num_rows != listed.length:
        text = f"episode {listed.episode}: {batch.num_rows} rows, {listed.length} listed"
        found.append(finding("metadata.length", batch.num_rows - listed.length, text, "rows"))
    at = batch.schema.get_field_index("index")
    if listed.first_index is not None and at >= 0 and pa.types.is_integer(batch.schema.field(at).type):
        first = batch.column(at)[0].as_py()
        if first is not None and first != listed.first_index:
            text = f"index starts at {first}; dataset_from_index is {listed.first_index}"
            found.append(finding("metadata.dataset_index", first - listed.first_index, text))
    return found


def attributes_of(
    info: Info, listed: Listed, others: dict[str, tuple[str, ...]], modality: str | None
) -> dict[str, str]:
    """The data set's own words about the episode, each value as JSON."""
    values: dict[str, object] = {
        "codebase_version": info.codebase_version,
        "robot_type": info.robot_type,
        "fps": info.fps,
        EPISODE: listed.episode,
        "tasks": listed.tasks,
        **dict(sorted(others.items())),
        **{
            f"features.{name}.names": feature.names
            for name, feature in sorted(info.features.items())
            if feature.dtype not in ("video", "image") and bytes(feature.names) != b"null"
        },
    }
    encoded = {name: msgspec.json.encode(value).decode() for name, value in values.items() if value is not None}
    encoded = {name: msgspec.json.format(text, indent=-1) for name, text in encoded.items()}
    return encoded if modality is None else {**encoded, "modality": modality}


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
    place = msgspec.json.decode(ref.place, type=Place)
    root, listed = Path(place.root), place.listed
    info = load_info(root)
    table = open_table(root / listed.data)
    ranges, found = episode_rows(table, listed, info.version)
    pictures = {*info.named("image"), *info.named("video")}
    columns = [name for name in table.schema.names if name not in pictures]
    batch = rows(table, ranges, columns)
    steps, about_steps = steps_of(batch, info, embodiment, ref.recording_id)
    found += [*length_findings(batch, listed), *about_steps, *feature_findings(table.schema, steps, info)]
    utterances, others, about_tasks = instructions(batch, steps, load_tasks(root), listed.tasks)
    found += about_tasks
    modality = load_modality(root)
    found += modality_findings(steps, info, modality[0]) if modality else []

    times = times_ns(steps)
    stored = steps.column(0).drop_null()
    origin = int(times[0]) if times is not None else int(stored[0].as_py()) if len(stored) else 0
    streams = {STEPS: steps}
    videos: dict[str, VideoRef | ImageRef] = {}
    features: set[str] = set()
    for feature in info.named("video"):
        camera = camera_of(root, info, feature, listed, steps.num_rows, origin)
        found += camera.findings
        if camera.ref is not None and camera.frames is not None:
            videos[camera.name] = camera.ref
            streams[VIDEO_STREAM + camera.name] = camera.frames
            features.add(feature)
    for feature in info.named("image"):
        name, images, about_images = image_camera(root, table, feature, ranges)
        found += about_images
        if images is not None:
            videos[name] = images
            features.add(feature)
    stored_names = {*steps.schema.names, *features, *(BOOKKEEPING & set(columns))}
    check_required(source, ref.recording_id, stored_names | ({NEXT_REWARD} if REWARD in stored_names else set()))
    return Recording(
        recording_id=ref.recording_id,
        source=ref.source,
        embodiment=source.embodiment,
        uri=ref.uri,
        format=FORMAT,
        streams=streams,
        videos=videos,
        utterances=utterances,
        attributes=attributes_of(info, listed, others, modality[1] if modality else None),
        success=success_of(steps),
        findings=(*ref.findings, *found),
    )
