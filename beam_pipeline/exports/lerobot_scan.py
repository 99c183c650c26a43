"""What a curated episode holds, read once before anything is written: columns, times, and what each camera shows."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from beam_pipeline.curated import CuratedEpisode, CuratedSet
from beam_pipeline.exports.derived_columns import derived_columns
from beam_pipeline.exports.export import ExportError, ExportOptions
from beam_pipeline.exports.lerobot_columns import ColumnShape, column_shape, is_exported
from transforms.episode import IMAGES, TIMESTAMP
from transforms.sources.lerobot_tasks import ANNOTATION

SIXTEEN_BIT = ("I;16", "I;16B", "I")
"""Pillow's modes of depth pictures."""


@dataclass(frozen=True, eq=False)
class ShownVideo:
    """A video of the curated folder and the frame that each step shows: `pts_ns` (T,) of the file's own clock."""

    path: str
    pts_ns: NDArray[np.int64]
    depth: bool


@dataclass(frozen=True)
class Pictures:
    """A camera whose pictures are stored one by one: height, width and channels of the first one."""

    shape: tuple[int, int, int]
    depth: bool

    def __str__(self) -> str:
        height, width, channels = self.shape
        return f"{width}x{height} px and {channels}"


@dataclass(frozen=True, eq=False)
class ScannedEpisode:
    """One episode as the writers see it; cameras by the name of their column. `times_ns` (T,).

    `annotations`: of each column that numbers texts, its values in order of appearance.
    """

    episode: CuratedEpisode
    columns: Mapping[str, ColumnShape]
    times_ns: NDArray[np.int64]
    videos: Mapping[str, ShownVideo] = field(default_factory=dict)
    pictures: Mapping[str, Pictures] = field(default_factory=dict)
    annotations: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def place(self) -> str:
        return self.episode.episode_id

    @property
    def attributes(self) -> Mapping[str, str]:
        return {pair["key"]: pair["value"] for pair in self.episode.row["attributes"] or ()}

    @property
    def conventions(self) -> Mapping[str, str]:
        return {pair["key"]: pair["value"] for pair in self.episode.row["conventions"] or ()}


def _is_camera(column: pa.Field) -> bool:
    return column.name.startswith(IMAGES) and pa.types.is_struct(column.type)


def scan(curated: CuratedSet, episode: CuratedEpisode, schema: pa.Schema, options: ExportOptions) -> ScannedEpisode:
    """Read an episode without its pictures; raises ExportError where LeRobot could not hold it."""
    cameras = [f for f in schema if _is_camera(f) and f.name not in options.without]
    videos = [f.name for f in cameras if f.type.get_field_index("timestamp") >= 0]
    plain = [f.name for f in schema if not _is_camera(f) and f.name not in options.without]
    steps = curated.steps(episode, [*plain, *videos]).combine_chunks()
    if steps.num_rows == 0:
        raise ExportError(
            f"{episode.episode_id} has no step in {curated.folder}; the folder is incomplete: copy it whole"
        )
    conventions = {pair["key"]: pair["value"] for pair in episode.row["conventions"] or ()}
    derived = frozenset() if options.canonical else derived_columns(schema.names, conventions)
    columns = {name: column_shape(_chunk(steps, name)) for name in plain if is_exported(name) and name not in derived}
    shown = {name: _video(episode, name, _chunk(steps, name)) for name in videos}
    return ScannedEpisode(
        episode,
        columns,
        _times(episode, _chunk(steps, TIMESTAMP)),
        {name: video for name, video in shown.items() if video is not None},
        _pictures(curated, episode, [f.name for f in cameras if f.type.get_field_index("bytes") >= 0]),
        {name: _numbers(_chunk(steps, name)) for name in columns if name.startswith(ANNOTATION)},
    )


def _chunk(steps: pa.Table, name: str) -> pa.Array:
    return steps[name].combine_chunks() if steps[name].num_chunks != 1 else steps[name].chunk(0)


def _numbers(column: pa.Array) -> tuple[int, ...]:
    return tuple(column.drop_null().unique().to_pylist()) if pa.types.is_integer(column.type) else ()


def _times(episode: CuratedEpisode, column: pa.Array) -> NDArray[np.int64]:
    if column.null_count:
        raise ExportError(
            f"{episode.episode_id}: {column.null_count} of {len(column)} steps have no time; declare `rate_hz` of the "
            f"embodiment {episode.embodiment!r} and curate anew"
        )
    return np.asarray(column.to_numpy(), np.int64)


def require_all(episode: CuratedEpisode, name: str, column: pa.Array) -> None:
    """Raise ExportError where some step has no frame of a camera."""
    if column.null_count:
        step = int(np.flatnonzero(~np.asarray(column.is_valid()))[0])
        raise ExportError(
            f"{episode.episode_id}: step {step} shows no frame of {name}, and {column.null_count} of {len(column)} "
            f"steps have none; LeRobot needs one a step: --without {name}, or reject such episodes"
        )


def _video(episode: CuratedEpisode, name: str, column: pa.Array) -> ShownVideo | None:
    paths = column.field("path")
    if column.null_count == len(column) or column.field("timestamp").null_count == len(column):
        return None
    require_all(episode, name, column)
    (path,) = paths.unique().to_pylist()
    seconds = column.field("timestamp").to_numpy(zero_copy_only=False)
    depth = any(video.depth for video in episode.videos if IMAGES + video.camera == name)
    return ShownVideo(path, np.rint(seconds * 1e9).astype(np.int64), depth)


def _pictures(curated: CuratedSet, episode: CuratedEpisode, names: Sequence[str]) -> dict[str, Pictures]:
    """Cameras that store pictures, by the first picture of each."""
    found = {}
    for name in names:
        first = curated.one_step(episode, [name])[name][0].as_py()
        if first is not None and first["bytes"] is not None:
            found[name] = pictures_of(first["bytes"])
    return found


def pictures_of(encoded: bytes) -> Pictures:
    """Shape of an encoded picture, from its header."""
    with Image.open(io.BytesIO(encoded)) as picture:
        depth = picture.mode in SIXTEEN_BIT
        channels = 1 if depth else {"L": 1, "RGBA": 4}.get(picture.mode, 3)
        return Pictures((picture.height, picture.width, channels), depth)
