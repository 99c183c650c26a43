"""`--format rlds`: each source as a TFDS data set of RLDS episodes in TFRecords, written without TensorFlow.

TARGET/NAME/1.0.0 is a folder for `tfds.builder_from_directory`; TARGET is a `data_dir` for `tfds.builder(NAME)`, where
TFDS has no data set of that name itself. A record is one tf.train.Example an episode with columnar steps, all T.
RLDS (https://github.com/google-research/rlds): reward[t] and discount[t] result from action[t]; at the last step they
and the action mean nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipeline.curated import CuratedEpisode, CuratedSet, part_dataset
from beam_pipeline.exports.derived_columns import derived_columns
from beam_pipeline.exports.export import Exported, ExportError, ExportOptions, chosen_episodes, stated_splits
from beam_pipeline.exports.rlds_cameras import CameraWriter, black_notes, first_facts
from beam_pipeline.exports.rlds_columns import (
    INSTRUCTION,
    ColumnPlan,
    Values,
    encode_column,
    plain_columns,
    plan_columns,
)
from beam_pipeline.exports.rlds_features import VERSION, Feature, dataset_info_json, features_json
from beam_pipeline.exports.rlds_metadata import MetadataPlan, describe, plan_metadata
from beam_pipeline.exports.rlds_shards import SHARD_BYTES, ShardWriter
from transforms.episode import IMAGES
from transforms.output_files import INCOMPLETE, TRANSITIONS
from transforms.output_schema import EPISODE_ID
from transforms.schema import DISCOUNT, IS_FIRST, IS_LAST, IS_TERMINAL, REWARD, VALID
from transforms.sources.rlds_metadata import FEATURES, INFO
from transforms.sources.tf_example import encode_example

_ROWS_AT_ONCE = 4096
_SPLIT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TRAIN = "train"
_NAMED_SPLITS = ("rlds", "lerobot")
"""Formats whose episode ids hold the name of a split after the source's."""


@dataclass(frozen=True)
class _Plan:
    """How the records of one source are written."""

    columns: ColumnPlan
    cameras: tuple[CameraWriter, ...]
    metadata: MetadataPlan

    def features(self) -> list[Feature]:
        return [*self.columns.features.values(), *(c.feature() for c in self.cameras), *self.metadata.features()]


def write(curated: CuratedSet, options: ExportOptions) -> Exported:
    """The Writer of `--format rlds`."""
    return write_rlds(curated, options, SHARD_BYTES)


def write_rlds(curated: CuratedSet, options: ExportOptions, shard_bytes: int) -> Exported:
    """One data set a source, in shards of at most `shard_bytes` where no episode is larger."""
    if options.image_cameras != "image":
        raise ExportError("RLDS holds pictures, no videos: leave --image-cameras out")
    chosen = chosen_episodes(curated, options)
    names = _dataset_names(chosen)
    splits = stated_splits(curated)
    done = Exported((), 0, 0)
    for source, episodes in chosen.items():
        own = {one.episode_id: splits.get(one.episode_id) or split_of(one) for one in episodes}
        one = _write_source(curated, options, episodes, own, names[source], shard_bytes)
        done = Exported(
            done.folders + one.folders,
            done.n_episodes + one.n_episodes,
            done.n_steps + one.n_steps,
            done.notes + tuple(f"{source}: {note}" for note in one.notes),
        )
    return done


def _dataset_names(sources: Sequence[str] | dict[str, list[CuratedEpisode]]) -> dict[str, str]:
    """Source -> data set; TFDS takes lower case letters, digits and `_`. Raises ExportError where two become one."""
    names: dict[str, str] = {}
    for source in sources:
        name = re.sub(r"[^a-z0-9_]", "_", source.lower())
        name = name if name[:1].isalpha() else f"set_{name}"
        twin = next((other for other, taken in names.items() if taken == name), None)
        if twin is not None:
            raise ExportError(
                f"sources {twin!r} and {source!r} would both be the data set {name!r}; "
                "export them into two folders with --source"
            )
        names[source] = name
    return names


def split_of(episode: CuratedEpisode) -> str:
    """The split that an episode was planned from, for formats that have any; `train` elsewhere."""
    parts = episode.episode_id.split("/")
    place = parts[1].rpartition(".")[2] if len(parts) > 2 else ""
    return place if episode.row["format"] in _NAMED_SPLITS and _SPLIT.fullmatch(place) else _TRAIN


def _batches(curated: CuratedSet, source: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    for table in (TRANSITIONS, INCOMPLETE):
        for path in curated.files(table, source):
            yield from part_dataset(path).to_batches(
                columns=list(columns), batch_size=_ROWS_AT_ONCE, fragment_readahead=1
            )


def _first_row(curated: CuratedSet, source: str, column: str) -> dict[str, object] | None:
    """The first frame of a camera in a source; None where it shows none there."""
    for table in (TRANSITIONS, INCOMPLETE):
        for path in curated.files(table, source):
            rows = (
                part_dataset(path)
                .scanner(columns=[column], filter=pc.field(column).is_valid(), batch_size=16, batch_readahead=1)
                .head(1)
            )
            if rows.num_rows:
                row: dict[str, object] = rows.column(column)[0].as_py()
                return row
    return None


def _plan(curated: CuratedSet, options: ExportOptions, episodes: Sequence[CuratedEpisode], notes: list[str]) -> _Plan:
    source = episodes[0].source
    schema = curated.step_schema(source)
    conventions = {pair["key"]: pair["value"] for pair in episodes[0].row["conventions"] or ()}
    unknown = [name for name in options.without if name not in schema.names]
    if unknown:
        raise ExportError(f"--without {unknown[0]}: there is no such column; there are {', '.join(schema.names)}")
    derived = derived_columns(schema.names, conventions)
    names = [n for n in plain_columns(schema, options.canonical, derived) if n not in options.without]
    deep = {video.camera for episode in episodes for video in episode.videos if video.depth}
    shown = {}
    for name in (field.name for field in schema if field.name.startswith(IMAGES)):
        camera, row = name.removeprefix(IMAGES), _first_row(curated, source, name)
        if row is None or name in options.without:
            continue
        if not row.get("bytes") and options.videos != "reencode":
            notes.append(
                f"camera {camera} is left out: its frames are in a video; --videos reencode makes pictures of it"
            )
            continue
        shown[camera] = first_facts(row, curated.folder, camera in deep, f"camera {camera} of {source}")
    instructed = any(episode.instruction for episode in episodes)
    if not instructed:
        notes.append(f"no episode has an instruction: there is no {INSTRUCTION}")
    columns = plan_columns(_batches(curated, source, names), names, sorted(shown), instructed)
    if REWARD not in columns.features:
        notes.append("the source has no reward: there is none in the records")
    metadata = plan_metadata(episodes)
    cameras = tuple(CameraWriter(c, columns.camera_keys[c], curated.folder, shown[c]) for c in sorted(shown))
    notes += [*columns.notes, *metadata.notes]
    return _Plan(columns, cameras, metadata)


def _rlds_steps(steps: pa.Table, episode: CuratedEpisode, plan: _Plan) -> pa.Table:
    """The steps with what RLDS demands: values at the last step, where there is no transition, and an instruction."""
    last = np.asarray(steps.column(IS_LAST).to_numpy(), np.bool_)
    terminal = np.asarray(steps.column(IS_TERMINAL).to_numpy(), np.bool_)
    at = steps.schema.get_field_index(DISCOUNT)
    known = steps.column(DISCOUNT).to_numpy()
    filled = np.where(np.isnan(known), np.where(terminal, 0.0, 1.0), known)
    steps = steps.set_column(at, DISCOUNT, pa.array(filled.astype(np.float32)))
    if REWARD in plan.columns.features:
        column = steps.column(REWARD)
        if pa.types.is_floating(column.type):
            reward = column.to_numpy()
            reward = np.where(last & np.isnan(reward), 0.0, reward)
            steps = steps.set_column(steps.schema.get_field_index(REWARD), REWARD, pa.array(reward, column.type))
    if INSTRUCTION in plan.columns.features:
        spoken = pa.array([episode.instruction or ""] * steps.num_rows, pa.string())
        at = steps.schema.get_field_index(INSTRUCTION)
        if at >= 0:
            spoken = pc.coalesce(steps.column(at), spoken)
            steps = steps.set_column(at, INSTRUCTION, spoken)
        else:
            steps = steps.append_column(INSTRUCTION, spoken)
    return steps


def _encode(steps: pa.Table, episode: CuratedEpisode, plan: _Plan) -> bytes:
    values: Values = {}
    for name, feature in plan.columns.features.items():
        encode_column(feature, steps.column(name), values)
    for camera in plan.cameras:
        values[camera.key] = camera.images(steps, episode.episode_id)
    plan.metadata.encode(episode, values)
    return encode_example(values)


def _write_source(
    curated: CuratedSet,
    options: ExportOptions,
    episodes: Sequence[CuratedEpisode],
    split: Mapping[str, str],
    name: str,
    shard_bytes: int,
) -> Exported:
    notes: list[str] = []
    plan = _plan(curated, options, episodes, notes)
    columns = [c for c in plan.columns.features if c != INSTRUCTION] + [IMAGES + c.name for c in plan.cameras]
    needed = list(dict.fromkeys([*columns, IS_FIRST, IS_LAST, IS_TERMINAL, DISCOUNT, VALID, EPISODE_ID]))
    place = Path(name) / VERSION
    folder = options.output / place
    folder.mkdir(parents=True)
    splits, n_steps, gaps = [], 0, 0
    ordered = sorted(episodes, key=lambda episode: (split[episode.episode_id], episode.episode_id))
    for of_split, members in groupby(ordered, key=lambda episode: split[episode.episode_id]):
        shards = ShardWriter(folder, name, of_split, shard_bytes)
        for episode in members:
            steps = curated.steps(episode, needed)
            n_steps += steps.num_rows
            gaps += int(pc.sum(pc.invert(steps.column(VALID).slice(0, max(0, steps.num_rows - 1)))).as_py() or 0)
            shards.write(_encode(_rlds_steps(steps, episode, plan), episode, plan))
        splits.append(shards.close())
    (folder / FEATURES).write_bytes(features_json(plan.features()))
    (folder / INFO).write_bytes(dataset_info_json(name, describe(episodes), splits))
    if gaps:
        notes.append(f"{gaps} steps lie before a gap or an invalid step, which RLDS does not mark; see timestamp_ns")
    return Exported((place,), len(episodes), n_steps, (*notes, *black_notes(plan.cameras)))
