"""ALOHA HDF5, one episode a file: `/action`, `/observations/{qpos,qvel,effort}`, `/observations/images/CAM`.

As ACT and Mobile ALOHA record it (github.com/tonyzhaozh/act, github.com/MarkFzp/mobile-aloha). No rate is stored: it is
the embodiment's `rate_hz`, and 50 Hz is usual.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import msgspec
import numpy as np
import pyarrow as pa

from transforms.conventions import Embodiment, Source
from transforms.episode import IMAGES, INDEX_SUFFIX, STEPS, TIMESTAMP, Finding, Recording, RecordingRef, Utterance
from transforms.schema import ACTION, FRAME_INDEX, STATE
from transforms.sources import aloha_cameras, hdf5_file
from transforms.sources.aloha_cameras import COMPRESS_LEN, Camera
from transforms.sources.aloha_plan import FORMAT, IMAGES_GROUP, detect, plan
from transforms.sources.hdf5_columns import as_json, clock, column, text_of, texts
from transforms.sources.hdf5_file import Member
from transforms.sources.isaac_hdf5 import read_images
from transforms.stores.paths import located
from transforms.unreadable import Unreadable

__all__ = ["detect", "plan", "read", "read_images"]

_PER_STEP = "observations/"
_QPOS = "observations/qpos"
_RENAMED = {
    "action": ACTION,
    "base_action": "action.base",
    _QPOS: STATE,
    "observations/qvel": "observation.velocity",
    "observations/effort": "observation.effort",
}
_INSTRUCTIONS = ("language_instruction", "instruction", "language_raw", "task")
_LARGEST_ATTRIBUTE = 1024


@dataclass
class _File:
    """What was read so far of one file."""

    columns: dict[str, pa.Array] = field(default_factory=dict)
    cameras: dict[str, Camera] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def column_name(path: str) -> str:
    """`observations/qpos` as `observation.state`, `observations/x/y` as `observation.x.y`, `a/b` as `a.b`."""
    rest = "observation." + path.removeprefix(_PER_STEP) if path.startswith(_PER_STEP) else path
    return _RENAMED.get(path, rest.replace("/", "."))


def camera_name(path: str) -> str:
    """`observations/images/cam_high` as `cam_high`; other places below `observations` keep their group's name."""
    return path.removeprefix(f"{IMAGES_GROUP}/").removeprefix(_PER_STEP).replace("/", ".")


def read(ref: RecordingRef, source: Source, embodiment: Embodiment) -> Recording:
    """One episode: its steps, its cameras by reference, its root attributes; JPEGs keep their bytes.

    Raises Unreadable: `truncated`, `corrupt`, `absent`, `empty`, `shape_changed`, `absurd_size`, `required_missing`.
    """
    path = located(ref.uri)
    with hdf5_file.opened(path) as file:
        try:
            members = hdf5_file.members(file["/"], path.name)
            count = _count(members, path.name)
            read_of = _read(file, members, count, embodiment, ref.uri)
        except hdf5_file.FAULTS as error:
            detail = f"{path.name}: cannot be read ({type(error).__name__}: {error}); copy or record the file again"
            raise Unreadable("corrupt", detail) from error
    index = pa.array(np.arange(count, dtype=np.int64))
    columns = {TIMESTAMP: clock(count, embodiment.rate_hz), FRAME_INDEX: index, **read_of.columns}
    present = {*columns, *(IMAGES + camera for camera in read_of.cameras)}
    if missing := [name for name in source.required if name not in present]:
        raise Unreadable("required_missing", f"{path.name} lacks required {missing}; it has {sorted(present)}")
    for name, camera in read_of.cameras.items():
        if camera.lengths is not None and not camera.lengths.all():
            columns[f"{IMAGES}{name}{INDEX_SUFFIX}"] = pa.array(np.arange(count), mask=camera.lengths == 0)
    success = msgspec.json.decode(read_of.attributes.get("success", "null"))
    return Recording(
        ref.recording_id,
        ref.source,
        source.embodiment,
        ref.uri,
        FORMAT,
        {STEPS: pa.RecordBatch.from_arrays(list(columns.values()), list(columns))},
        videos={name: camera.ref for name, camera in read_of.cameras.items()},
        utterances=tuple(utterances_of(read_of.attributes)),
        attributes=read_of.attributes,
        success=success if isinstance(success, bool) else None,
        findings=(*ref.findings, *read_of.findings),
    )


def _is_per_step(name: str) -> bool:
    return name in ("action", "base_action") or name.startswith(_PER_STEP)


def _count(members: Mapping[str, Member], where: str) -> int:
    """Steps of the episode: what actions and all observations agree on."""
    lengths = {name: m.shape[0] for name, m in members.items() if m.shape and _is_per_step(name)}
    if not lengths:
        has = ", ".join(sorted(members)[:8]) or "no dataset"
        raise Unreadable("empty", f"{where} holds neither `action` nor observations (it has {has}); record it again")
    count = lengths.get("action", lengths.get(_QPOS, next(iter(lengths.values()))))
    others = [f"{name} {length}" for name, length in lengths.items() if length != count]
    if others:
        reason = f"{where}: {', '.join(others[:5])} rows, and {count} rows of the others"
        raise Unreadable("shape_changed", f"{reason}; one row a step is needed: record it again")
    if count == 0:
        raise Unreadable("empty", f"{where} holds 0 steps; record it again or leave it out")
    return int(count)


def _read(file: h5py.File, members: Mapping[str, Member], count: int, embodiment: Embodiment, uri: str) -> _File:
    where = Path(uri).name
    out = _File(attributes=texts(file.attrs))
    for name, member in members.items():
        if name == COMPRESS_LEN:
            continue
        if not member.shape or (not _is_per_step(name) and member.shape[0] != count):
            _keep_attribute(out, name, member)
            continue
        seen = None
        if name.startswith(_PER_STEP):
            seen = aloha_cameras.camera(uri, name, camera_name(name), member, embodiment.depth_unit)
        if isinstance(seen, Camera):
            out.cameras[camera_name(name)] = seen
        elif seen is not None:
            out.findings.append(seen)
        else:
            values = None if name.startswith(f"{IMAGES_GROUP}/") else column(member, count)
            if values is None:
                _leave_out(out, name, member)
            else:
                out.columns[column_name(name)] = values
    lengths = members[COMPRESS_LEN].read() if COMPRESS_LEN in members else None
    stated = file.attrs.get("compress")
    compress = bool(stated) if isinstance(stated, (bool, int, np.bool_, np.integer)) else None
    out.findings += aloha_cameras.camera_findings(out.cameras, compress, lengths, where)
    out.findings += _layout_findings(file, members, where)
    return out


def _keep_attribute(out: _File, name: str, member: Member) -> None:
    """A dataset that is not one row a step: small ones become attributes, others are left out and named."""
    textual = h5py.check_string_dtype(member.dtype) is not None
    if member.nbytes > _LARGEST_ATTRIBUTE * 8 or not (textual or member.dtype.kind in "biuf"):
        _leave_out(out, name, member)
        return
    values = member.read()
    stored: object = values.tolist()
    if textual:
        stored = [text_of(v) for v in values.reshape(-1).tolist()] if values.ndim else text_of(values.item())
    out.attributes[name.replace("/", ".")] = as_json(stored)


def _leave_out(out: _File, name: str, member: Member) -> None:
    detail = f"{name} holds {member.shape} of {member.dtype}, which is no column of steps; it is left out"
    out.findings.append(Finding("load", "metadata.unsupported", 1.0, "columns", detail=detail))


def _layout_findings(file: h5py.File, members: Mapping[str, Member], where: str) -> Iterator[Finding]:
    action, qpos = members.get("action"), members.get(_QPOS)
    if action is None:
        detail = f"{where}: no dataset `action`"
        yield Finding("load", "metadata.actions", None, detail=detail, status="not_run")
    elif qpos is not None and action.shape[1:] != qpos.shape[1:]:
        apart = float(abs(int(np.prod(action.shape[1:])) - int(np.prod(qpos.shape[1:]))))
        detail = f"{where}: action has shape {action.shape}, qpos {qpos.shape}; they name different joints"
        yield Finding("load", "metadata.action_width", apart, "elements", detail=detail)
    images = file.get(IMAGES_GROUP)
    if isinstance(images, h5py.Group) and not len(images):
        detail = f"{where}: observations/images holds no camera"
        yield Finding("load", "integrity.camera_absent", 1.0, "cameras", detail=detail)


def utterances_of(attributes: Mapping[str, str]) -> Iterator[Utterance]:
    """Where recorders of this family keep the instruction: an attribute or dataset of the root."""
    for name in _INSTRUCTIONS:
        value = msgspec.json.decode(attributes.get(name, "null"))
        text = value[0] if isinstance(value, list) and value else value
        if isinstance(text, str) and text.strip():
            yield Utterance(text)
            return
