"""Isaac Lab recorder and robomimic HDF5: `data/demo_N` groups, one an episode, many a file.

The recorder writes `obs` and `actions` before the step and `states/*` after it (isaaclab/envs/mdp/recorders:
PostStepStatesRecorder), so row t of a state is what action t led to. Here each state goes to the step at which it
holds: `initial_state`, then the stored rows; the last one becomes the attribute `final_state.*`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.arrays import list_column
from transforms.conventions import Embodiment, Source
from transforms.episode import IMAGES, STEPS, TIMESTAMP, Finding, ImageRef, Recording, RecordingRef, Utterance
from transforms.schema import ACTION, FRAME_INDEX, REWARD
from transforms.sources import hdf5_file
from transforms.sources.hdf5_file import Member
from transforms.sources.isaac_cameras import CameraPlace, encode_images, hash_images, image_kind
from transforms.sources.isaac_plan import FORMAT, DemoPlace, detect, integer_attribute, plan, text_of
from transforms.stage import Unreadable

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
    path = Path(ref.uri)
    where = f"{path.name} {place.group}"
    with hdf5_file.opened(path) as file:
        try:
            members = hdf5_file.members(file[place.group], where)
            count = _count({name: m for name, m in members.items() if not name.startswith(_BESIDE_STEPS)}, where)
            demo = _read_demo(file, place.group, members, count, embodiment, ref)
        except hdf5_file.FAULTS as error:
            detail = f"{where}: cannot be read ({type(error).__name__}: {error}); copy or record the file again"
            raise Unreadable("corrupt", detail) from error
    rate = embodiment.rate_hz
    times = pa.nulls(count, pa.int64()) if rate is None else pa.array(_times(count, rate))
    columns = {TIMESTAMP: times, FRAME_INDEX: pa.array(np.arange(count, dtype=np.int64)), **demo.columns}
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
        attributes=demo.attributes,
        success=_success(demo),
        findings=(*ref.findings, *demo.findings),
    )


def _times(count: int, rate_hz: float) -> NDArray[np.int64]:
    return np.round(np.arange(count) * (1e9 / rate_hz)).astype(np.int64)


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
    attributes = {**texts_of(file["data"].attrs), **texts_of(file[group].attrs)}
    findings = list(_sample_findings(file[group], count))
    if "actions" not in members:
        findings.append(Finding("load", "metadata.actions", None, detail="no dataset `actions`", status="not_run"))
    late: list[str] = []
    for name, dataset in members.items():
        if not dataset.shape or name.startswith(_BESIDE_STEPS):
            values = dataset.read()
            attributes[name.replace("/", ".")] = _json(values[0] if len(values.shape) > 1 else values)
            continue
        kind = image_kind(name, dataset)
        if kind is None:
            column = _column(dataset, count)
            if column is not None and name.startswith(_AFTER_STEP):
                first = members.get(_BESIDE_STEPS + name.removeprefix(_AFTER_STEP))
                if first is not None and first.shape == (1, *dataset.shape[1:]):
                    attributes["final_state." + name.removeprefix(_AFTER_STEP).replace("/", ".")] = _json(
                        column[-1].as_py()
                    )
                    column = _column_before_step(first, column)
                else:
                    late.append(name)
            if column is not None:
                columns[column_name(name)] = column
            else:
                detail = f"{name} holds {dataset.dtype}, which has no column type; the column is left out"
                findings.append(Finding("load", "metadata.unsupported", 1.0, "columns", detail=detail))
        elif not name.startswith("next_obs/"):
            camera = column_name(name).removeprefix("observation.")
            if kind == "depth" and dataset.dtype.kind == "f" and embodiment.depth_unit == "unknown":
                detail = f"camera {camera}: depth is stored as {dataset.dtype}; declare `depth_unit: m | mm` to read it"
                findings.append(Finding("load", "metadata.depth_unit", detail=detail, status="not_run"))
                continue
            scale = 1000.0 if embodiment.depth_unit == "m" and dataset.dtype.kind == "f" else 1.0
            spot = CameraPlace(f"{group}/{name}", kind, scale)
            encoded = msgspec.json.encode(spot).decode()
            cameras[camera] = ImageRef(ref.uri, encoded, count, hash_images(dataset), kind == "depth", dataset.nbytes)
    if late:
        detail = f"{', '.join(late[:5])} hold values after each step and have no initial_state; rows stay as stored"
        findings.append(Finding("load", "metadata.initial_state", float(len(late)), "columns", detail=detail))
    return _Demo(columns, cameras, attributes, tuple(findings))


def _column_before_step(first: Member, after: pa.Array) -> pa.Array:
    """The values at each step, from that of step 0 (1, …) and those after each step (T, …)."""
    start = _column(first, 1)
    if start is None:
        raise Unreadable("shape_changed", f"initial_state holds {first.dtype}, states hold {after.type}; record again")
    return pa.concat_arrays([start.cast(after.type), after.slice(0, len(after) - 1)])


def _sample_findings(demo: h5py.Group, count: int) -> Iterator[Finding]:
    declared = integer_attribute(demo.attrs, "num_samples")
    if declared is not None and declared != count:
        detail = f"num_samples says {declared}, the datasets hold {count} rows"
        yield Finding("load", "metadata.num_samples", float(abs(declared - count)), "steps", detail=detail)


def _column(dataset: Member, count: int) -> pa.Array | None:
    """(T,) as scalars, (T, …) as rows of its elements in C order, strings as text; None for other kinds."""
    values = dataset.read() if dataset.dtype.kind in "biufSO" else None
    if values is None or (dataset.dtype.kind in "SO" and h5py.check_string_dtype(dataset.dtype) is None):
        return None
    if dataset.dtype.kind in "SO":
        return pa.array(list(map(text_of, values.tolist()))) if values.ndim == 1 else None
    return pa.array(values) if values.ndim == 1 else list_column(values.reshape(count, -1))


def texts_of(attributes: h5py.AttributeManager) -> dict[str, str]:
    return {name: _json(value) for name, value in sorted(attributes.items())}


def _json(value: object) -> str:
    """A value as JSON; text that already is a JSON object or list stays as it is."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            msgspec.json.decode(value)
            return value
        except msgspec.DecodeError:
            pass
    return msgspec.json.encode(value, enc_hook=str).decode()


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
    path = Path(ref.uri)
    place = msgspec.json.decode(ref.place, type=CameraPlace)
    if wrong := [index for index in indices if not 0 <= index < ref.count]:
        raise IndexError(f"{path.name} {place.dataset}: frame {wrong[0]} is outside its {ref.count} frames")
    with hdf5_file.opened(path) as file:
        try:
            return encode_images(file[place.dataset], place, indices)
        except hdf5_file.FAULTS as error:
            detail = f"{path.name} {place.dataset}: cannot be read ({type(error).__name__}: {error}); copy it again"
            raise Unreadable("corrupt", detail) from error
