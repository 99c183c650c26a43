"""One curated episode as the columns that LeRobot stores, with statistics; pictures and frames on their way."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from beam_pipeline.curated import CuratedSet
from beam_pipeline.exports.export import ExportError
from beam_pipeline.exports.lerobot_cameras import sampled_frames, shown_frames
from beam_pipeline.exports.lerobot_clock import as_fraction, seconds
from beam_pipeline.exports.lerobot_columns import Feature, Values, arrow_of, values_of
from beam_pipeline.exports.lerobot_scan import SIXTEEN_BIT, ScannedEpisode, pictures_of, require_all
from beam_pipeline.exports.lerobot_sets import DataSet
from beam_pipeline.exports.lerobot_statistics import PixelCounts, Statistics, sampled_steps, statistics
from beam_pipeline.exports.lerobot_tasks import TaskTable, annotation_texts, is_annotation, task_of
from beam_pipeline.exports.video_files import Encoder, Frame
from transforms.output_schema import CAMERA_TYPES, IMAGE

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True, eq=False)
class EpisodeColumns:
    """An episode's values by feature, each (T,) or (T, D), and its encoded pictures by camera, T each."""

    number: int
    values: Mapping[str, Values]
    pictures: Mapping[str, list[bytes]]

    def table(self, schema: pa.Schema, features: Mapping[str, Feature]) -> pa.Table:
        """Rows as LeRobot's Parquet files hold them."""
        return pa.Table.from_arrays([self._column(features[name]) for name in schema.names], schema=schema)

    def _column(self, feature: Feature) -> pa.Array:
        if feature.dtype == "image":
            encoded = pa.array(self.pictures[feature.name], pa.binary())
            kind = CAMERA_TYPES[IMAGE]
            return pa.StructArray.from_arrays([encoded, pa.nulls(len(encoded), pa.string())], fields=list(kind))
        return arrow_of(self.values[feature.name], feature)


def stored_features(data: DataSet) -> dict[str, Feature]:
    """Features that are columns of the Parquet files, by name: all but videos."""
    return {f.name: f for f in data.features if f.dtype != "video"}


def arrow_schema(data: DataSet) -> pa.Schema:
    """Types of the Parquet files; image columns are announced to `datasets`."""
    fields, images = [], {}
    for name, feature in stored_features(data).items():
        if feature.dtype == "image":
            fields.append(pa.field(name, CAMERA_TYPES[IMAGE]))
            images[name] = {"_type": "Image"}
        else:
            width = feature.shape[0]
            dtype = object if feature.dtype == "string" else np.dtype(feature.dtype)
            fields.append(pa.field(name, arrow_of(np.zeros((0, width) if width > 1 else 0, dtype), feature).type))
    metadata = {"huggingface": json.dumps({"info": {"features": images}}, sort_keys=True)} if images else None
    return pa.schema(fields, metadata=metadata)


def episode_columns(
    curated: CuratedSet, data: DataSet, one: ScannedEpisode, number: int, first_index: int, tasks: TaskTable
) -> EpisodeColumns:
    """Read an episode whole; `first_index` is the number of steps before it. Raises ExportError for odd pictures."""
    columns = {f.name: f for f in data.columns}
    cameras = [name for name in one.pictures if any(f.name == name for f in data.features)]
    steps = curated.steps(one.episode, [*(f.column for f in columns.values()), *cameras]).combine_chunks()
    values = {name: values_of(_chunk(steps, f.column), f) for name, f in columns.items()}
    for name in columns:
        if is_annotation(name):
            values[name] = _renumbered(values[name], annotation_texts(one, name) or {}, tasks)
    count = len(one.times_ns)
    values["timestamp"] = seconds(one.times_ns)
    values["frame_index"] = np.arange(count)
    values["episode_index"] = np.full(count, number)
    values["index"] = np.arange(first_index, first_index + count)
    values["task_index"] = np.full(count, tasks.index(task_of(one)))
    return EpisodeColumns(number, values, {name: _encoded(one, name, _chunk(steps, name)) for name in cameras})


def _chunk(steps: pa.Table, name: str) -> pa.Array:
    return steps[name].chunk(0)


def _renumbered(values: Values, texts: Mapping[int, str], tasks: TaskTable) -> Values:
    numbers = {old: tasks.index(text) for old, text in texts.items()}
    return np.array([numbers[int(value)] for value in values], np.int64)


def _encoded(one: ScannedEpisode, name: str, column: pa.Array) -> list[bytes]:
    encoded = column.field("bytes")
    require_all(one.episode, name, encoded if encoded.null_count else column)
    found: list[bytes] = encoded.to_pylist()
    for step, picture in enumerate(found):
        other = pictures_of(picture)
        if other != one.pictures[name]:
            raise ExportError(
                f"{one.place}: step {step} has a picture of {other} channels from {name}, step 0 one of "
                f"{one.pictures[name]}; LeRobot needs one size: --without {name}, or reject such episodes"
            )
    return found


def column_statistics(columns: EpisodeColumns, features: Mapping[str, Feature]) -> dict[str, Statistics]:
    """Statistics of every feature of numbers."""
    return {
        name: statistics(columns.values[name])
        for name, feature in features.items()
        if feature.dtype not in ("image", "string")
    }


def camera_statistics(
    curated: CuratedSet,
    data: DataSet,
    one: ScannedEpisode,
    columns: EpisodeColumns,
    feature: Feature,
    encode_into: Path | None,
) -> PixelCounts:
    """Count a camera's sampled frames, and where `encode_into` names a file, encode every frame on the way."""
    depth = one.videos[feature.name].depth if feature.name in one.videos else one.pictures[feature.name].depth
    counts = PixelCounts(feature.shape[2], depth)
    sampled = sampled_steps(len(one.times_ns))
    if feature.dtype == "image":
        pictures = [columns.pictures[feature.name][step] for step in sampled]
        for frame in decoded(pictures, feature.shape[2], f"{one.place}: {feature.name}"):
            counts.add(frame)
        return counts
    if encode_into is None:
        for frame in sampled_frames(curated, one, feature.name, sampled):
            counts.add(frame)
        return counts
    chosen = set(sampled.tolist())
    with Encoder(encode_into, as_fraction(data.fps), *feature.shape[:2]) as encoder:
        for step, frame in enumerate(frames_of(curated, one, columns, feature.name)):
            encoder.add(frame)
            if step in chosen:
                counts.add(frame)
    return counts


def frames_of(curated: CuratedSet, one: ScannedEpisode, columns: EpisodeColumns, camera: str) -> Iterator[Frame]:
    """What a camera shows at each step, (H, W, C)."""
    if camera in one.videos:
        yield from shown_frames(curated, one, camera)
        return
    yield from decoded(columns.pictures[camera], 3, f"{one.place}: {camera}")


def decoded(pictures: Iterable[bytes], channels: int, place: str) -> Iterator[Frame]:
    """Pixels (H, W, channels) of encoded pictures, uint16 where they hold depth; raises ExportError for a broken one.

    Pillow reads them here, as it does in training: a decoding child for each camera of each episode takes far longer.
    """
    for encoded in pictures:
        try:
            with Image.open(io.BytesIO(encoded)) as picture:
                if picture.mode in SIXTEEN_BIT:
                    pixels = np.asarray(picture).astype(np.uint16)
                else:
                    pixels = np.asarray(picture.convert(_MODES[channels]))
        except (OSError, SyntaxError, ValueError) as error:
            raise ExportError(f"{place} holds a picture that cannot be decoded: {error}; curate again") from error
        yield pixels if pixels.ndim == 3 else pixels[..., None]
