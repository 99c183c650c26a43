"""Which LeRobot data sets a curated folder becomes: one where its sources agree in features and rate, else one each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from beam_pipeline.curated import CuratedSet
from beam_pipeline.exports.export import ExportError, ExportOptions, chosen_episodes, stated_splits
from beam_pipeline.exports.lerobot_clock import check_regular, rate_hz, same_rate
from beam_pipeline.exports.lerobot_columns import (
    REQUIRED,
    ColumnShape,
    Feature,
    default_features,
    exported_name,
    feature_of,
    joined,
    names_text,
)
from beam_pipeline.exports.lerobot_scan import Pictures, ScannedEpisode, scan
from beam_pipeline.exports.lerobot_tasks import annotation_problem, is_annotation
from beam_pipeline.training.splits import NAMES, TRAIN
from transforms.media import shared_decoder
from transforms.stage import Unreadable

CAMERA_NAMES = '["height", "width", "channels"]'


@dataclass(frozen=True, eq=False)
class DataSet:
    """One LeRobot data set to write: its episodes in order, and what is the same in all of them.

    `left_out` says of each column that is not exported why. `splits` are name and number of episodes, in order.
    """

    folder: Path
    sources: tuple[str, ...]
    episodes: tuple[ScannedEpisode, ...]
    features: tuple[Feature, ...]
    fps: float
    robot_type: str
    modality: str
    left_out: Mapping[str, str]
    splits: tuple[tuple[str, int], ...]

    def cameras(self, dtype: str) -> tuple[Feature, ...]:
        """Features of the cameras of one kind: `image` or `video`."""
        return tuple(f for f in self.features if f.dtype == dtype)

    @property
    def columns(self) -> tuple[Feature, ...]:
        """Features that are step columns: neither cameras nor LeRobot's own."""
        return tuple(f for f in self.features if f.column and not f.is_camera)

    @property
    def annotations(self) -> tuple[str, ...]:
        """Names of the columns that hold numbers of tasks."""
        return tuple(f.name for f in self.features if is_annotation(f.name))

    @property
    def n_steps(self) -> int:
        return sum(len(e.times_ns) for e in self.episodes)


def data_sets(curated: CuratedSet, options: ExportOptions) -> list[DataSet]:
    """Scan the chosen sources; raises ExportError where LeRobot cannot hold what they have."""
    found = [_of_source(curated, name, scanned, options) for name, scanned in _scanned(curated, options).items()]
    _check_without(found, options)
    if len(found) == 1 or all(_agree(found[0], other) for other in found[1:]):
        found = [_merged(found, options.output)]
    splits = stated_splits(curated)
    return [_in_splits(one, splits) for one in found]


def _scanned(curated: CuratedSet, options: ExportOptions) -> dict[str, list[ScannedEpisode]]:
    found = {}
    for name, episodes in chosen_episodes(curated, options).items():
        schema = curated.step_schema(name)
        unknown = [column for column in options.without if column not in schema.names]
        if unknown:
            raise ExportError(f"--without {unknown[0]}: there is no such column; there are {', '.join(schema.names)}")
        found[name] = [scan(curated, episode, schema, options) for episode in episodes]
    return found


def _check_without(found: Sequence[DataSet], options: ExportOptions) -> None:
    """Raise ExportError where state and action are both left out or absent everywhere."""
    for one in found:
        if not {f.name for f in one.columns} & set(REQUIRED):
            left = [name for name in REQUIRED if name in options.without]
            remedy = f"take {left[0]} out of --without" if left else "declare `state` of its embodiment"
            raise ExportError(f"source {one.sources[0]!r} exports neither {' nor '.join(REQUIRED)}; {remedy}")


def _of_source(curated: CuratedSet, name: str, scanned: Sequence[ScannedEpisode], options: ExportOptions) -> DataSet:
    first = scanned[0]
    features, left_out = _columns(scanned)
    for feature in features:
        problem = annotation_problem(feature.name, scanned) if is_annotation(feature.name) else ""
        if problem:
            left_out[feature.name] = problem
    features = [f for f in features if f.name not in left_out]
    features += _cameras(curated, scanned, options)
    fps = rate_hz(first.times_ns, first.place)
    for one in scanned:
        rate = rate_hz(one.times_ns, one.place)
        if not same_rate(rate, fps):
            raise ExportError(
                f"source {name!r} mixes rates: {first.place} has {fps:g} Hz, {one.place} {rate:g} Hz; LeRobot has one "
                "a data set: curate with `temporal_alignment: {rate_hz: ...}`, or as two sources"
            )
        check_regular(one.times_ns, fps, one.place)
    return DataSet(
        folder=options.output / name,
        sources=(name,),
        episodes=tuple(scanned),
        features=(*sorted(features, key=lambda f: f.name), *default_features()),
        fps=fps,
        robot_type=_robot_type(scanned),
        modality=_modality(scanned),
        left_out=left_out,
        splits=((TRAIN, len(scanned)),),
    )


def _columns(scanned: Sequence[ScannedEpisode]) -> tuple[list[Feature], dict[str, str]]:
    """Features of the step columns, and why others are left out; raises ExportError for state and action."""
    shapes: dict[str, ColumnShape] = {}
    for one in scanned:
        for column, shape in one.columns.items():
            shapes[column] = joined(shapes[column], shape) if column in shapes else shape
    attributes = scanned[0].attributes
    features, left_out = [], {}
    total = sum(len(one.times_ns) for one in scanned)
    for column, shape in shapes.items():
        name = exported_name(column)
        if shape.dtype == "null":
            continue
        problem = shape.problem
        if not problem and shape.missing:
            problem = f"{shape.missing} of {total} steps have no value; LeRobot has no nulls"
        if not problem and "/" in name:
            problem = "LeRobot allows no '/' in names"
        if problem and name in REQUIRED:
            source = scanned[0].episode.source
            raise ExportError(
                f"source {source!r}: {name}: {problem}; reject such episodes by a rule, or --without {name}"
            )
        if problem:
            left_out[name] = problem
        else:
            features.append(feature_of(name, column, shape, names_text(attributes, column, max(shape.width, 1))))
    return features, left_out


def _cameras(curated: CuratedSet, scanned: Sequence[ScannedEpisode], options: ExportOptions) -> list[Feature]:
    """A feature for each camera; raises ExportError where an episode lacks it or shows it otherwise."""
    names = sorted({name for one in scanned for name in (*one.videos, *one.pictures)})
    features = []
    for name in names:
        for one in scanned:
            if name not in one.videos and name not in one.pictures:
                raise ExportError(
                    f"{one.place} has no camera {name}, other episodes of {one.episode.source!r} have; LeRobot needs "
                    f"each camera in every episode: --without {name}, or reject such episodes"
                )
        kinds = {name in one.videos for one in scanned}
        if len(kinds) > 1:
            video, other = (
                next(one.place for one in scanned if (name in one.videos) is kind) for kind in (True, False)
            )
            raise ExportError(
                f"{name} is a video in {video} and pictures in {other}; LeRobot needs one kind: --without {name}"
            )
        if kinds.pop():
            shape, depth = _video_shape(curated, name, scanned), any(one.videos[name].depth for one in scanned)
            dtype = "video"
        else:
            shape, depth = _picture_shape(name, [one.pictures[name] for one in scanned], scanned)
            dtype = options.image_cameras
            shape = (*shape[:2], 3) if dtype == "video" else shape
        if depth and dtype == "video":
            raise ExportError(
                f"source {scanned[0].episode.source!r}: {name} holds depth in a video, and LeRobot reads depth from "
                f"pictures alone; --without {name}"
            )
        features.append(Feature(name, dtype, shape, CAMERA_NAMES, name))
    return features


def _video_shape(curated: CuratedSet, name: str, scanned: Iterable[ScannedEpisode]) -> tuple[int, int, int]:
    sizes: dict[str, tuple[int, int, int]] = {}
    first = ""
    for one in scanned:
        first = first or one.place
        path = one.videos[name].path
        if path not in sizes:
            sizes[path] = video_size(curated, path, one.place)
            if sizes[path] != next(iter(sizes.values())):
                a, b = next(iter(sizes.values())), sizes[path]
                raise ExportError(
                    f"{name} has {a[1]}x{a[0]} px in {first} and {b[1]}x{b[0]} in {one.place}; LeRobot needs one size: "
                    f"--without {name}, or curate the two as two sources"
                )
    return next(iter(sizes.values()))


def video_size(curated: CuratedSet, path: str, place: str) -> tuple[int, int, int]:
    """Height, width and channels of a video of the curated folder; raises ExportError where it is gone or broken."""
    file = curated.folder / path
    if not file.is_file():
        raise ExportError(f"{place} shows {file}, which is absent; copy the curated folder whole, or curate again")
    try:
        info = shared_decoder().probe(str(file))
    except Unreadable as error:
        raise ExportError(f"{place} shows {file}: {error.problem.detail}; curate again") from error
    return info.height, info.width, 3


def _picture_shape(
    name: str, found: Sequence[Pictures], scanned: Sequence[ScannedEpisode]
) -> tuple[tuple[int, int, int], bool]:
    for one, pictures in zip(scanned, found, strict=True):
        if pictures != found[0]:
            raise ExportError(
                f"{name} has pictures of {found[0]} channels in {scanned[0].place} and of {pictures} in {one.place}; "
                f"LeRobot needs one size: --without {name}, or curate the two as two sources"
            )
    return found[0].shape, found[0].depth


def _in_splits(data: DataSet, splits: Mapping[str, str]) -> DataSet:
    """The data set with its episodes so that each split is a range, `train` first; `splits` by episode id or empty."""
    names = [splits.get(one.episode.episode_id, TRAIN) for one in data.episodes]
    order = [split for split in NAMES if split in names]
    ordered = tuple(one for split in order for one, name in zip(data.episodes, names, strict=True) if name == split)
    return replace(data, episodes=ordered, splits=tuple((split, names.count(split)) for split in order))


def _robot_type(scanned: Sequence[ScannedEpisode]) -> str:
    stated = {one.attributes.get("robot_type") for one in scanned}
    text = stated.pop() if len(stated) == 1 else None
    return str(json.loads(text)) if text else scanned[0].episode.embodiment or "unknown"


def _modality(scanned: Sequence[ScannedEpisode]) -> str:
    stated = {one.attributes.get("modality", "") for one in scanned}
    return stated.pop() if len(stated) == 1 else ""


def _agree(a: DataSet, b: DataSet) -> bool:
    return (a.features, a.fps, a.robot_type, a.modality) == (b.features, b.fps, b.robot_type, b.modality)


def _merged(found: Sequence[DataSet], folder: Path) -> DataSet:
    return replace(
        found[0],
        folder=folder,
        sources=tuple(name for each in found for name in each.sources),
        episodes=tuple(one for each in found for one in each.episodes),
        left_out={name: why for each in found for name, why in each.left_out.items()},
    )
