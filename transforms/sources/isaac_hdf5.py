"""Isaac Lab recorder and robomimic HDF5: `data/demo_N` groups, one an episode, many a file.

The recorder writes `obs` and `actions` before the step and `states/*` after it (isaaclab/envs/mdp/recorders:
PostStepStatesRecorder), so row t of a state is what action t led to. Here each state goes to the step at which it
holds: `initial_state`, then the stored rows; the last one becomes the attribute `final_state.*`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import h5py
import msgspec
import numpy as np
import pyarrow as pa

from transforms.conventions import Embodiment, Source
from transforms.episode import IMAGES, STEPS, TIMESTAMP, Finding, ImageRef, Recording, RecordingRef, Utterance
from transforms.schema import ACTION, FRAME_INDEX, REWARD
from transforms.sources import hdf5_file, robomimic
from transforms.sources.hdf5_columns import as_json, clock, integer_attribute, texts
from transforms.sources.hdf5_columns import column as column_of
from transforms.sources.hdf5_file import Member
from transforms.sources.isaac_cameras import CameraPlace, camera_of, encode_images, image_kind
from transforms.sources.isaac_plan import FORMAT, DemoPlace, detect, plan
from transforms.stores.paths import located
from transforms.unreadable import Unreadable

__all__ = ["detect", "plan", "read", "read_images"]

_RENAMED = {"actions": ACTION, "rewards": REWARD}
_BESIDE_STEPS = "initial_state/"
_AFTER_STEP = "states/"


@dataclass(frozen=True)
class _Demo:
    """What was read of one demo: columns by name, cameras, the text of its attributes."""

    columns: dict[str, pa.Array]
    cameras: dict[str, ImageRef]
    attributes: dict[str, str]
    findings: tuple[Finding, ...]


def column_name(path: str) -> str:
    """`obs/eef_pos` as `observation.eef_pos`, `states/a/b` as `states.a.b`, `actions` as `action`."""
    for prefix, name in (("obs/", "observation."), ("next_obs/", "next_observation.")):
        if path.startswith(prefix):
            return name + path.removeprefix(prefix).replace("/", ".")
    return _RENAMED.get(path, path.replace("/", "."))


def read(ref: RecordingRef, source: Source, embodiment: Embodiment) -> Recording:
    """One demo: its steps, its cameras by reference, its attributes. Images of `next_obs` repeat `obs` and are left.

    Raises Unreadable: `truncated`, `corrupt`, `absent`, `empty`, `shape_changed`, `absurd_size`, `required_missing`.
    """
    place = msgspec.json.decode(ref.place, type=DemoPlace)
    path = located(ref.uri)
    where = f"{path.name} {place.group}"
    with hdf5_file.opened(path) as file:
        try:
            members = hdf5_file.members(file[place.group], where)
            count = _count({name: m for name, m in members.items() if not name.startswith(_BESIDE_STEPS)}, where)
            demo = _read_demo(file, place.group, members, count, embodiment, ref)
            found = (*robomimic.next_findings(members), *robomimic.done_findings(demo.columns))
        except hdf5_file.FAULTS as error:
            detail = f"{where}: cannot be read ({type(error).__name__}: {error}); copy or record the file again"
            raise Unreadable("corrupt", detail) from error
    rate_hz, disagrees = robomimic.rate(demo.attributes, embodiment.rate_hz)
    columns = {
        TIMESTAMP: clock(count, rate_hz),
        FRAME_INDEX: pa.array(np.arange(count, dtype=np.int64)),
        **demo.columns,
    }
    present = {*columns, *(IMAGES + camera for camera in demo.cameras)}
    if missing := [name for name in source.required if name not in present]:
        raise Unreadable("required_missing", f"{where} lacks required {missing}; it has {sorted(present)}")
    return Recording(
        ref.recording_id,
        ref.source,
        source.embodiment,
        ref.uri,
        FORMAT,
        {STEPS: pa.RecordBatch.from_arrays(list(columns.values()), list(columns))},
        videos=demo.cameras,
        utterances=utterances_of(demo.attributes),
        attributes={**demo.attributes, **robomimic.masks(ref.split, place.masks)},
        success=_success(demo),
        findings=(*ref.findings, *demo.findings, *found, *disagrees),
    )


def _count(steps: Mapping[str, Member], where: str) -> int:
    """Steps of a demo: what all its datasets agree on."""
    lengths = {name: m.shape[0] for name, m in steps.items() if m.shape}
    if not lengths:
        raise Unreadable("empty", f"{where} holds no step; record it again or leave it out")
    count = lengths.get("actions", next(iter(lengths.values())))
    others = [f"{name} {length}" for name, length in lengths.items() if length != count]
    if others:
        reason = f"{where}: {', '.join(others[:5])} rows, and {count} rows of the others"
        raise Unreadable("shape_changed", f"{reason}; one row a step is needed: record it again")
    if count == 0:
        raise Unreadable("empty", f"{where} holds 0 steps; record it again or leave it out")
    return int(count)


def _read_demo(
    file: h5py.File,
    group: str,
    members: Mapping[str, Member],
    count: int,
    embodiment: Embodiment,
    ref: RecordingRef,
) -> _Demo:
    columns: dict[str, pa.Array] = {}
    cameras: dict[str, ImageRef] = {}
    attributes = {**texts(file["data"].attrs), **texts(file[group].attrs)}
    findings = list(_sample_findings(file[group], count))
    if "actions" not in members:
        findings.append(Finding("load", "metadata.actions", None, detail="no dataset `actions`", status="not_run"))
    late: list[str] = []
    for name, dataset in members.items():
        if not dataset.shape or name.startswith(_BESIDE_STEPS):
            stored = dataset.read()
            attributes[name.replace("/", ".")] = as_json(stored[0] if len(stored.shape) > 1 else stored)
            continue
        kind = image_kind(name, dataset)
        if kind is None:
            values = column_of(dataset, count)
            if values is None:
                detail = f"{name} holds {dataset.dtype}, which has no column type; the column is left out"
                findings.append(Finding("load", "metadata.unsupported", 1.0, "columns", detail=detail))
                continue
            if name.startswith(_AFTER_STEP):
                first = members.get(_BESIDE_STEPS + name.removeprefix(_AFTER_STEP))
                if first is not None and first.shape == (1, *dataset.shape[1:]):
                    last = "final_state." + name.removeprefix(_AFTER_STEP).replace("/", ".")
                    attributes[last] = as_json(values[-1].as_py())
                    values = _column_before_step(first, values)
                else:
                    late.append(name)
            columns[column_name(name)] = values
        elif not name.startswith("next_obs/"):
            camera = column_name(name).removeprefix("observation.")
            shown = camera_of(ref.uri, f"{group}/{name}", camera, dataset, kind, embodiment.depth_unit)
            if isinstance(shown, Finding):
                findings.append(shown)
            else:
                cameras[camera] = shown
    if late:
        detail = f"{', '.join(late[:5])} hold values after each step and have no initial_state; rows stay as stored"
        findings.append(Finding("load", "metadata.initial_state", float(len(late)), "columns", detail=detail))
    return _Demo(columns, cameras, attributes, tuple(findings))


def _column_before_step(first: Member, after: pa.Array) -> pa.Array:
    """The values at each step, from that of step 0 (1, …) and those after each step (T, …)."""
    start = column_of(first, 1)
    if start is None:
        raise Unreadable("shape_changed", f"initial_state holds {first.dtype}, states hold {after.type}; record again")
    return pa.concat_arrays([start.cast(after.type), after.slice(0, len(after) - 1)])


def _sample_findings(demo: h5py.Group, count: int) -> Iterator[Finding]:
    declared = integer_attribute(demo.attrs, "num_samples")
    if declared is not None and declared != count:
        detail = f"num_samples says {declared}, the datasets hold {count} rows"
        yield Finding("load", "metadata.num_samples", float(abs(declared - count)), "steps", detail=detail)


def utterances_of(attributes: Mapping[str, str]) -> tuple[Utterance, ...]:
    """Where tools of this family keep the instruction: an attribute, robocasa's `ep_meta`, LIBERO's `problem_info`."""
    for name, key in (("language_instruction", ""), ("ep_meta", "lang"), ("problem_info", "language_instruction")):
        value = msgspec.json.decode(attributes.get(name, "null"))
        text = value.get(key) if isinstance(value, dict) else value
        text = text[0] if isinstance(text, list) and text else text
        if isinstance(text, str) and text.strip():
            return (Utterance(text),)
    return ()


def _success(demo: _Demo) -> bool | None:
    """The attribute `success`; else robomimic's `dones`, which also end failures, so a reward must agree."""
    stated = msgspec.json.decode(demo.attributes.get("success", "null"))
    if isinstance(stated, (bool, int)):
        return bool(stated)
    dones, rewards = demo.columns.get("dones"), demo.columns.get(REWARD)
    if dones is None or pa.types.is_fixed_size_list(dones.type):
        return None
    done = bool(np.any(dones.to_numpy(zero_copy_only=False)))
    if rewards is None or pa.types.is_fixed_size_list(rewards.type):
        return done
    return done and bool(np.any(rewards.to_numpy(zero_copy_only=False) > 0))


def read_images(ref: ImageRef, indices: Sequence[int]) -> list[bytes]:
    """Frames as lossless PNG, 16 bit for depth, in the order of `indices`.

    Raises Unreadable where the dataset is gone or damaged, IndexError for a frame the camera does not have.
    """
    path = located(ref.uri)
    place = msgspec.json.decode(ref.place, type=CameraPlace)
    if wrong := [index for index in indices if not 0 <= index < ref.count]:
        raise IndexError(f"{path.name} {place.dataset}: frame {wrong[0]} is outside its {ref.count} frames")
    with hdf5_file.opened(path) as file:
        try:
            return encode_images(file[place.dataset], place, indices)
        except hdf5_file.FAULTS as error:
            detail = f"{path.name} {place.dataset}: cannot be read ({type(error).__name__}: {error}); copy it again"
            raise Unreadable("corrupt", detail) from error
