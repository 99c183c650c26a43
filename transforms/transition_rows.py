"""An episode as rows of the transitions table: complete steps, with what each camera saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from transforms.arrays import with_column
from transforms.episode import IMAGES, INDEX_SUFFIX, PTS_SUFFIX, Episode, ImageRef, VideoRef
from transforms.evidence import StagedColumn
from transforms.output_files import VIDEOS, video_name
from transforms.output_schema import EPISODE_ID, camera_columns, convert, step_columns
from transforms.schema import FRAME_INDEX
from transforms.transition_alignment import incomplete_steps, transitions

ReadImages = Callable[[ImageRef, Sequence[int]], list[bytes]]
"""Encoded images of a camera by index, in order."""
ROWS_AT_ONCE = 512
"""Rows whose images are in memory together."""


def plain_rows(episode: Episode) -> pa.RecordBatch:
    """The episode's transitions with its id and index among its steps, each camera still as an index or a time."""
    return transitions(_numbered(episode))


def _numbered(episode: Episode) -> pa.RecordBatch:
    count = episode.steps.num_rows
    numbered = with_column(episode.steps, FRAME_INDEX, pa.array(np.arange(count)))
    return with_column(numbered, EPISODE_ID, pa.array([episode.episode_id] * count, pa.string()))


def is_camera_reference(name: str) -> bool:
    """Whether a step column says which frame of a camera belongs to the step."""
    return name.startswith(IMAGES) and name.endswith((PTS_SUFFIX, INDEX_SUFFIX))


def columns_of(episode: Episode, rows: pa.RecordBatch) -> tuple[StagedColumn, ...]:
    """Every column that the episode's transitions will have in the output."""
    plain = tuple(column for column in step_columns(rows.schema) if not is_camera_reference(column.name))
    return plain + camera_columns(episode.videos)


def transition_batches(episode: Episode, schema: pa.Schema, read_images: ReadImages) -> Iterator[pa.RecordBatch]:
    """The episode's transitions in the agreed schema, absent columns null, at most ROWS_AT_ONCE rows at a time."""
    return _batches(episode, plain_rows(episode), schema, read_images)


def incomplete_batches(episode: Episode, schema: pa.Schema, read_images: ReadImages) -> Iterator[pa.RecordBatch]:
    """The steps that begin no transition, in the same way."""
    return _batches(episode, incomplete_steps(_numbered(episode)), schema, read_images)


def _batches(
    episode: Episode, rows: pa.RecordBatch, schema: pa.Schema, read_images: ReadImages
) -> Iterator[pa.RecordBatch]:
    for start in range(0, rows.num_rows, ROWS_AT_ONCE):
        window = rows.slice(start, ROWS_AT_ONCE)
        columns = [_column(episode, window, field, read_images) for field in schema]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _column(episode: Episode, rows: pa.RecordBatch, field: pa.Field, read_images: ReadImages) -> pa.Array:
    ref = episode.videos.get(field.name.removeprefix(IMAGES)) if field.name.startswith(IMAGES) else None
    index = rows.schema.get_field_index(field.name)
    if ref is not None:
        return _frames(ref, rows, field, read_images)
    if index < 0:
        return pa.nulls(rows.num_rows, field.type)
    return convert(rows.column(index), field.type)


def _frames(ref: VideoRef | ImageRef, rows: pa.RecordBatch, field: pa.Field, read_images: ReadImages) -> pa.Array:
    suffix = PTS_SUFFIX if isinstance(ref, VideoRef) else INDEX_SUFFIX
    at = rows.schema.get_field_index(field.name + suffix)
    if at < 0:
        return pa.nulls(rows.num_rows, field.type)
    wanted = rows.column(at)
    seen = np.asarray(wanted.is_valid())
    if isinstance(ref, VideoRef):
        path = f"{VIDEOS}/{video_name(ref.content_hash, ref.uri)}"
        seconds = np.asarray(wanted.fill_null(0), np.int64) / 1e9
        parts: dict[str, pa.Array] = {
            "path": pa.array([path] * len(wanted), pa.string()),
            "timestamp": pa.array(seconds, mask=~seen),
        }
    else:
        indices = sorted({int(i) for i in wanted.drop_null().to_pylist()})
        images = dict(zip(indices, read_images(ref, indices), strict=True)) if indices else {}
        parts = {"bytes": pa.array([images.get(i) for i in wanted.to_pylist()], pa.binary())}
    children = [parts.get(child.name, pa.nulls(len(wanted), child.type)) for child in field.type]
    return pa.StructArray.from_arrays(children, fields=list(field.type), mask=pa.array(~seen))
